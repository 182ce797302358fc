//! Claims of a token, and the rules that all kinds of tokens share.

use crate::fault::TokenFault;
use domain::Micros;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// The difference of clocks that is accepted.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(60);
const MAX_TEXT_BYTES: usize = 2_048;
/// OpenID Connect Core, section 2: at most 255 ASCII characters.
const MAX_SUBJECT_BYTES: usize = 255;

/// The claims of a token, or of the provider's user information.
pub(super) struct Claims(Map<String, Value>);

/// The members of an object, none of them twice: two readers could choose different ones (RFC 7519, section 4).
struct UniqueMembers(Map<String, Value>);

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = UniqueMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                }
                Ok(UniqueMembers(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl Claims {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, TokenFault> {
        let UniqueMembers(members) =
            serde_json::from_slice(payload).map_err(|_| TokenFault::Malformed)?;
        Ok(Self(members))
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Whether the claim is there, even without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text that may be absent.
    pub(super) fn optional_text(&self, name: &'static str) -> Result<Option<&str>, TokenFault> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let text = value.as_str().filter(|text| text.len() <= MAX_TEXT_BYTES);
        text.map(Some).ok_or(TokenFault::Claim(name))
    }

    /// A text that is not empty.
    pub(super) fn text(&self, name: &'static str) -> Result<&str, TokenFault> {
        let text = self.optional_text(name)?.filter(|text| !text.is_empty());
        text.ok_or(TokenFault::Claim(name))
    }

    pub(super) fn subject(&self) -> Result<&str, TokenFault> {
        let subject = self.text("sub")?;
        let is_valid = subject.len() <= MAX_SUBJECT_BYTES && subject.is_ascii();
        if is_valid {
            Ok(subject)
        } else {
            Err(TokenFault::Claim("sub"))
        }
    }

    pub(super) fn optional_time(&self, name: &'static str) -> Result<Option<Micros>, TokenFault> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        // RFC 7519, section 2: a number that may have a fraction.
        let seconds = value
            .as_f64()
            .filter(|seconds| (0.0..1e12).contains(seconds));
        let seconds = seconds.ok_or(TokenFault::Claim(name))?;
        Ok(Some(Micros((seconds * 1e6) as u64)))
    }

    pub(super) fn time(&self, name: &'static str) -> Result<Micros, TokenFault> {
        self.optional_time(name)?.ok_or(TokenFault::Claim(name))
    }

    pub(super) fn audiences(&self) -> Result<Vec<&str>, TokenFault> {
        let fault = TokenFault::Claim("aud");
        match self.value("aud") {
            Some(Value::String(one)) => Ok(vec![one]),
            Some(Value::Array(many)) => many.iter().map(|it| it.as_str().ok_or(fault)).collect(),
            _ => Err(fault),
        }
    }

    /// Checks the issuer, and that the token is valid now; returns when it expires.
    pub(super) fn check(&self, issuer: &str, now: Micros) -> Result<Micros, TokenFault> {
        if self.text("iss")? != issuer {
            return Err(TokenFault::Issuer);
        }
        let latest = now.saturating_add(CLOCK_SKEW);
        let not_before = self.optional_time("nbf")?.unwrap_or_default();
        if self.time("iat")? > latest || not_before > latest {
            return Err(TokenFault::NotYetValid);
        }
        let expires = self.time("exp")?;
        if expires.saturating_add(CLOCK_SKEW) <= now {
            return Err(TokenFault::Expired);
        }
        Ok(expires)
    }

    /// Checks that the token is not older than `max_age`.
    pub(super) fn check_age(&self, max_age: Duration, now: Micros) -> Result<(), TokenFault> {
        if self.time("iat")?.saturating_add(max_age + CLOCK_SKEW) <= now {
            return Err(TokenFault::TooOld);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_with_a_member_twice_are_refused() {
        for (text, expected) in [
            (r#"{"sub":"alice","aud":"x"}"#, true),
            (r#"{"sub":"alice","sub":"mallory"}"#, false),
            (r#"{"sub":"alice","s\u0075b":"alice"}"#, false),
            ("[]", false),
        ] {
            assert_eq!(Claims::parse(text.as_bytes()).is_ok(), expected, "{text}");
        }
    }
}
