//! Codes of authenticators: TOTP with SHA-1, six digits and periods of 30 seconds (RFC 6238).

use crate::secret::{is_equal, random_bytes, secret_text};
use data_encoding::BASE32_NOPAD;
use domain::Micros;
use ring::hmac;
use std::fmt;
use zeroize::Zeroizing;

const PERIOD_SECONDS: u64 = 30;
/// RFC 4226, section 4: at least 128 bits, 160 recommended.
pub(crate) const SECRET_BYTES: usize = 20;
/// Periods before and after the present one whose codes are accepted (RFC 6238, section 5.2).
const WINDOW: u64 = 1;

secret_text! {
    /// A code of an authenticator: six digits.
    pub struct TotpCode
}

/// The secret that an authenticator shares.
#[derive(Clone)]
pub struct TotpSecret(Zeroizing<[u8; SECRET_BYTES]>);

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(…)")
    }
}

impl TotpSecret {
    pub(crate) fn random() -> Self {
        Self::from_bytes(random_bytes())
    }

    pub(crate) fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// The secret as an authenticator expects it to be typed: Base32.
    #[must_use]
    pub fn expose(&self) -> String {
        BASE32_NOPAD.encode(self.0.as_slice())
    }

    /// The code at a time, as an authenticator shows it.
    #[must_use]
    pub fn code_at(&self, time: Micros) -> TotpCode {
        TotpCode::new(self.code(step_at(time)))
    }

    fn code(&self, step: u64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.0.as_slice());
        let digest = hmac::sign(&key, &step.to_be_bytes());
        let digest = digest.as_ref();
        // RFC 4226, section 5.3: dynamic truncation.
        let offset = usize::from(digest[digest.len() - 1] & 0xf);
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| digest[offset + at]);
        let number = u32::from_be_bytes([a & 0x7f, b, c, d]);
        format!("{:06}", number % 1_000_000)
    }

    /// The period whose code this is, if it is near `now`. The caller accepts the code of each period once: one that was
    /// seen over a shoulder is not accepted again (RFC 6238, section 5.2).
    pub(crate) fn matching_step(&self, code: &TotpCode, now: Micros) -> Option<u64> {
        let present = step_at(now);
        let steps = present.saturating_sub(WINDOW)..=present + WINDOW;
        // All are compared, so that the time does not depend on which one matches.
        let matching = steps.filter(|step| is_equal(&self.code(*step), code.expose().trim()));
        matching.fold(None, |_, step| Some(step))
    }
}

const fn step_at(time: Micros) -> u64 {
    time.millis() / 1_000 / PERIOD_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let secret = TotpSecret::from_bytes(*b"12345678901234567890");
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let time = Micros(seconds * 1_000_000);
            assert_eq!(secret.code_at(time).expose(), code, "{seconds}");
        }
    }
}
