//! Limits and durations of accounts. A program fills them from its own settings.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Limits and durations of accounts.
#[derive(Debug, Clone)]
pub struct AccountsSettings {
    /// Users that sign in with a password.
    pub local_sign_in: LocalSignIn,
    /// A session without requests ends after this time.
    pub session_idle_timeout: Duration,
    /// A session ends after this time in any case.
    pub session_lifetime: Duration,
    /// Sessions of one user at the same time; the oldest is ended for a new one.
    pub max_sessions: usize,
    /// Keys of one user that are neither revoked nor expired.
    pub max_keys: usize,
    /// A key that is made in a session without repeating the password expires after this time at the latest.
    pub session_key_lifetime: Duration,
    /// Keys are deleted this long after their expiry or revocation.
    pub dead_key_retention: Duration,
    /// The validity of an invitation or a link to replace a password.
    pub one_time_token_lifetime: Duration,
    /// The validity of the first admin's link.
    pub setup_token_lifetime: Duration,
    /// Passwords hashed at the same time, at 19 MiB each.
    pub max_parallel_hashes: usize,
    /// The longest wait for one of them, or for a turn at the sign-on provider; then the request is refused as busy.
    pub hash_wait: Duration,
    /// An address from which an account signed in stays known for this time without another sign-in.
    pub known_address_lifetime: Duration,
    /// Keys of a user of the sign-on provider are refused this long after its last sign-on: the provider does not report
    /// the users that it removes.
    pub sign_on_validity: Duration,
    /// Failed attempts for one account from a known address, from all others together, and in one session.
    pub account_throttle: ThrottleRule,
    /// Failed attempts from one address (IPv6: from one /64; four times as many from a /56, 16 times from a /48).
    pub address_throttle: ThrottleRule,
    /// The name in authenticators.
    pub totp_issuer: String,
}

/// Users that sign in with a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalSignIn {
    /// All local users.
    AllUsers,
    /// Only the break-glass admin: others use the sign-on provider.
    BreakGlassOnly,
}

/// The rule of a throttle.
#[derive(Debug, Clone, Copy)]
pub struct ThrottleRule {
    /// Failures without a pause.
    pub free_failures: u32,
    /// The pause after the next one; it doubles with every further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
    /// Failures are forgotten after this time without another one.
    pub forget_after: Duration,
}

impl ThrottleRule {
    /// The rule with this many times the free failures.
    pub(crate) const fn times(self, share: u32) -> Self {
        Self {
            free_failures: self.free_failures.saturating_mul(share),
            ..self
        }
    }

    /// The pause after this many failures.
    pub(crate) fn pause(&self, failures: u64) -> Duration {
        let Some(excess) = failures.checked_sub(u64::from(self.free_failures)) else {
            return Duration::ZERO;
        };
        let doubled = u32::try_from(excess).map_or(u32::MAX, |excess| 2_u32.saturating_pow(excess));
        self.first_pause.saturating_mul(doubled).min(self.max_pause)
    }
}

impl Default for AccountsSettings {
    fn default() -> Self {
        Self {
            local_sign_in: LocalSignIn::AllUsers,
            session_idle_timeout: HOUR,
            session_lifetime: HOUR * 12,
            max_sessions: 50,
            max_keys: 100,
            session_key_lifetime: HOUR * 24 * 90,
            dead_key_retention: HOUR * 24 * 90,
            one_time_token_lifetime: HOUR * 48,
            setup_token_lifetime: HOUR,
            max_parallel_hashes: 2,
            hash_wait: Duration::from_secs(5),
            known_address_lifetime: HOUR * 24 * 90,
            sign_on_validity: HOUR * 24 * 30,
            account_throttle: ThrottleRule {
                free_failures: 5,
                first_pause: Duration::from_secs(1),
                max_pause: MINUTE * 15,
                forget_after: HOUR * 24,
            },
            address_throttle: ThrottleRule {
                free_failures: 20,
                first_pause: Duration::from_secs(1),
                max_pause: MINUTE * 15,
                forget_after: HOUR * 24,
            },
            totp_issuer: "FanzFiliate".to_owned(),
        }
    }
}
