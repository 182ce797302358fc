//! How a request names its advertiser: by its path, by a parameter, or by a path key.

use crate::parameters::Parameters;
use functions_shared::{Reason, Refusal};
use percent_encoding::percent_decode_str;

/// Maximum length of an advertiser's name or a path key in bytes.
const MAX_NAME_BYTES: usize = 64;
/// Parameters that name an advertiser if the path does not.
const NAMES: &[&str] = &["advertiser", "adv"];
/// Everflow's network number, on its bare path.
const NETWORK: &[&str] = &["nid"];
/// Everflow's path of reversals.
pub(crate) const REVERSAL: &str = "reversal";

/// The store's key of the advertiser, and other information in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestRoute {
    /// A name, or `key/` and a path key.
    pub(crate) key: String,
    /// The secret in the path; empty if there is none.
    pub(crate) secret: String,
    /// Whether the path means a reversal.
    pub(crate) reversal: bool,
}

/// Determines the advertiser of a request.
pub(crate) fn named(path: &str, parameters: &Parameters) -> Result<RequestRoute, Refusal> {
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (key, secret) = match segments[..] {
        ["postback", name] => (checked(name)?, ""),
        ["postback", name, secret] => (checked(name)?, secret),
        // Keitaro's senders know only the key, so it is their secret, too.
        [key, "postback"] => (format!("key/{}", checked(key)?), key),
        ["postback" | "aff_lsr" | "aff_l" | "aff_goal" | "p.ashx" | REVERSAL] | [] => {
            (by_parameter(parameters)?, "")
        }
        _ => return Err(Reason::UnknownPath.because("postbacks are /postback/ADVERTISER")),
    };
    // Bytes that are not UTF-8 match no secret.
    let secret = percent_decode_str(secret).decode_utf8().unwrap_or_default();
    Ok(RequestRoute {
        key,
        secret: secret.into_owned(),
        reversal: segments == [REVERSAL],
    })
}

/// Whether a query names an advertiser; otherwise the bare path belongs to visitors, not to postbacks.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub fn names_advertiser(query: &str) -> bool {
    let names = || NAMES.iter().chain(NETWORK);
    let mut pairs = query.split('&').map(|pair| pair.trim_start_matches("amp;"));
    pairs.any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        names().any(|known| known.eq_ignore_ascii_case(name))
    })
}

fn by_parameter(parameters: &Parameters) -> Result<String, Refusal> {
    if let Some(name) = parameters.find(NAMES)? {
        return checked(name);
    }
    let network = parameters
        .find(NETWORK)?
        .ok_or_else(|| Reason::UnknownAdvertiser.because("the parameter advertiser is expected"))?;
    Ok(format!("key/{}", checked(network)?))
}

/// Validates a name for the store; it can't contain `/`.
fn checked(name: &str) -> Result<String, Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(plain);
    fits.then(|| name.to_owned())
        .ok_or_else(|| Reason::UnknownAdvertiser.because("this can't be an advertiser's name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, query: &str) -> Option<(String, String)> {
        let parameters = Parameters::read(query, "", b"").expect("parameters");
        let named = named(path, &parameters).ok()?;
        Some((named.key, named.secret))
    }

    #[test]
    fn all_path_forms_name_an_advertiser() {
        let is = |key: &str, secret: &str| Some((key.to_owned(), secret.to_owned()));
        assert_eq!(of("/postback/acme", ""), is("acme", ""));
        assert_eq!(of("/postback/acme/s%2Fecret", ""), is("acme", "s/ecret"));
        assert_eq!(of("/4f9a1c2/postback", ""), is("key/4f9a1c2", "4f9a1c2"));
        assert_eq!(of("/aff_lsr", "adv=acme"), is("acme", ""));
        assert_eq!(of("/p.ashx", "advertiser=acme&adv=acme"), is("acme", ""));
        assert_eq!(of("/", "nid=321"), is("key/321", ""));
        assert_eq!(of("/reversal", "nid=321"), is("key/321", ""));
        assert_eq!(of("//postback/acme//", ""), is("acme", ""));
    }

    #[test]
    fn requests_without_an_advertiser_are_rejected() {
        for (path, query) in [
            ("/", ""),
            ("/aff_lsr", "adv=key/4f9a1c2"),
            ("/aff_lsr", "adv=acme&advertiser=other"),
            ("/postback/a%2Fb", ""),
            ("/postback/acme/secret/more", ""),
            ("/c/spring", ""),
        ] {
            assert_eq!(of(path, query), None, "{path}?{query}");
        }
        assert_eq!(of(&format!("/postback/{}", "a".repeat(65)), ""), None);
    }
}
