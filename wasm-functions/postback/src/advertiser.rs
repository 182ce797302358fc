//! An advertiser's entry in the store: its settings and their validation.

use crate::amount::{Notation, Rounding};
use crate::dialect::{Dialect, Field};
use crate::link_list::LinkList;
use crate::mask::HiddenParts;
use domain::{ConversionKind, ConversionStatus};
use functions_shared::Secret;
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// Default maximum age of a click in days.
const CLICK_AGE_DAYS: u32 = 90;
const MAX_CLICK_AGE_DAYS: u32 = 3_650;
/// Maximum length of a custom response in bytes.
const MAX_ANSWER_BYTES: usize = 256;
/// Allowed difference of a signed time in seconds: default and maximum.
const WINDOW_SECONDS: u64 = 300;
const MAX_WINDOW_SECONDS: u64 = 86_400;
/// Shorter secrets and keys could be guessed, in bytes.
const MIN_SECRET_BYTES: usize = 16;
/// Error of a shorter one.
const SHORT_SECRET: &str =
    "auth: secrets and keys have at least 16 bytes, such as `openssl rand -hex 16` prints";

/// The settings of an advertiser.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advertiser {
    pub(crate) dialect: Dialect,
    /// Currency of postbacks that name none.
    pub(crate) currency: Option<String>,
    pub(crate) auth: Vec<Auth>,
    #[serde(default)]
    pub(crate) auth_mode: AuthMode,
    #[serde(default = "click_age")]
    pub(crate) max_click_age_days: u32,
    /// Links whose clicks may be converted.
    #[serde(default)]
    pub(crate) links: LinkList,
    /// Offers whose links' clicks may be converted.
    #[serde(default)]
    pub(crate) offers: Vec<String>,
    /// Maximum payout of a conversion by currency; empty for no limit.
    #[serde(default)]
    pub(crate) max_payout: BTreeMap<String, String>,
    /// Parameter names that replace the dialect's.
    #[serde(default)]
    parameters: BTreeMap<Field, String>,
    /// Custom words for statuses.
    #[serde(default)]
    status_words: BTreeMap<String, Vec<String>>,
    /// Custom words for events.
    #[serde(default)]
    event_words: BTreeMap<String, Vec<String>>,
    answer: Option<String>,
    /// Whether amounts are written `1.234,56`, overriding the dialect.
    decimal_comma: Option<bool>,
    /// Rounding of fractions of a minor unit.
    #[serde(default)]
    rounding: Rounding,
    /// Path keys of this advertiser, used when the entry is stored.
    #[serde(default, rename = "path_keys")]
    _path_keys: Vec<String>,
}

/// An authentication method.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A secret in the path: `/postback/NAME/SECRET`, or the path key.
    SecretPath(Secret),
    /// A parameter with a secret.
    SecretParameter { name: String, value: Secret },
    /// A signature.
    Hmac(Signature),
    /// Networks of the sender.
    Addresses(Vec<IpNet>),
}

/// A hexadecimal signature in a parameter or a header.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signature {
    pub(crate) key: Secret,
    pub(crate) over: SignedPart,
    pub(crate) parameter: Option<String>,
    pub(crate) header: Option<String>,
    /// The signed parameter with the time in seconds since 1970. A request with it is valid only once.
    pub(crate) timestamp: Option<String>,
    /// Allowed difference of that time in seconds.
    #[serde(default = "window")]
    pub(crate) window: u64,
    #[serde(default, rename = "algorithm")]
    _algorithm: Algorithm,
}

/// The signed part: the query without the signature's parameter, or the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SignedPart {
    Query,
    Body,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    #[default]
    Sha256,
}

/// Whether one or all of the methods must succeed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuthMode {
    #[default]
    Any,
    All,
}

const fn window() -> u64 {
    WINDOW_SECONDS
}

const fn click_age() -> u32 {
    CLICK_AGE_DAYS
}

/// The advertiser that a path key's entry refers to.
#[must_use]
pub fn alias(entry: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Alias {
        advertiser: String,
    }
    let alias: Alias = serde_json::from_slice(entry).ok()?;
    Some(alias.advertiser)
}

/// Without secrets.
impl fmt::Debug for Advertiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Advertiser").finish_non_exhaustive()
    }
}

impl Advertiser {
    /// Parses and validates an entry; errors do not contain its values.
    ///
    /// # Errors
    /// If no report could be accepted with this entry, or anyone's.
    pub fn read(entry: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(entry).map_err(|error| {
            // The parser's message may repeat a secret.
            format!(
                "the entry can't be read: {:?} error in column {}",
                error.classify(),
                error.column()
            )
        })?;
        match read.mistakes().into_iter().next() {
            None => Ok(read),
            Some(mistake) => Err(mistake),
        }
    }

    /// All errors of a parsed entry; each message starts with the key.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let currency = self.currency.as_deref();
        let answer = self.answer.as_deref().unwrap_or_default();
        let mut statuses = self.status_words.keys();
        let mut kinds = self.event_words.keys();
        let wrong = [
            (
                !(1..=MAX_CLICK_AGE_DAYS).contains(&self.max_click_age_days),
                "max_click_age_days is 1 to 3650",
            ),
            (
                currency.is_some_and(|code| crate::amount::currency(code).is_err()),
                "currency is not one of ISO 4217",
            ),
            (!is_answer(answer), "answer is too long or not plain"),
            (
                statuses.any(|it| ConversionStatus::from_name(it).is_none()),
                "status_words: pending, approved, rejected, hold and chargeback are known",
            ),
            (
                kinds.any(|it| ConversionKind::from_name(it).is_none()),
                "event_words: lead, sale, rebill, upsell, install and custom are known",
            ),
        ];
        let wrong = wrong.into_iter().filter(|(applies, _)| *applies);
        let wrong = wrong.map(|(_, message)| message);
        let auth = self.mistake_in_auth().into_iter();
        let messages = auth.chain(wrong).map(str::to_owned);
        messages.chain(self.check_max_payout().err()).collect()
    }

    fn mistake_in_auth(&self) -> Option<&'static str> {
        if self.auth.is_empty() {
            return Some("auth is empty: anyone could report sales");
        }
        if !self.auth.iter().all(Auth::is_usable) {
            return Some(
                "auth: a secret, key or list is empty, or hmac has not one of parameter and header",
            );
        }
        if self.auth.iter().any(Auth::is_short) {
            return Some(SHORT_SECRET);
        }
        if !self.auth.iter().all(Auth::is_timely) {
            return Some("auth: timestamp names a parameter, and window is 1 to 86400 seconds");
        }
        None
    }

    /// The possible parameter names of a field.
    pub(crate) fn names(&self, field: Field) -> Vec<&str> {
        match self.parameters.get(&field) {
            Some(own) => vec![own],
            None => self.dialect.table().names(field).to_vec(),
        }
    }

    /// The status of a custom word.
    pub(crate) fn own_status(&self, word: &str) -> Option<ConversionStatus> {
        ConversionStatus::from_name(meaning(&self.status_words, word)?)
    }

    /// The event of a custom word.
    pub(crate) fn own_event(&self, word: &str) -> Option<ConversionKind> {
        ConversionKind::from_name(meaning(&self.event_words, word)?)
    }

    /// The advertiser's notation of amounts.
    pub(crate) fn notation(&self) -> Notation {
        let dialect = self.dialect.table().decimal_comma;
        Notation {
            decimal_comma: self.decimal_comma.unwrap_or(dialect),
            rounding: self.rounding,
        }
    }

    /// The response to an accepted report.
    pub(crate) fn answer(&self) -> &str {
        self.answer
            .as_deref()
            .unwrap_or(self.dialect.table().answer)
    }

    /// Headers that contain signatures.
    pub(crate) fn signature_headers(&self) -> impl Iterator<Item = &str> {
        self.auth.iter().filter_map(|method| match method {
            Auth::Hmac(signature) => signature.header.as_deref(),
            _ => None,
        })
    }

    /// Whether every report needs a signature.
    #[must_use]
    pub fn requires_signature(&self) -> bool {
        let mut methods = self.auth.iter();
        let signature = |method: &Auth| matches!(method, Auth::Hmac(_));
        match self.auth_mode {
            AuthMode::Any => methods.all(signature),
            AuthMode::All => methods.any(signature),
        }
    }

    /// Parts of a request that must not be shown.
    pub(crate) fn hidden(&self) -> HiddenParts<'_> {
        let mut hidden = HiddenParts::default();
        for method in &self.auth {
            match method {
                Auth::SecretPath(secret) => hidden.values.push(secret),
                Auth::SecretParameter { name, value } => {
                    hidden.names.push(name);
                    hidden.values.push(value);
                }
                Auth::Hmac(signature) => hidden.names.extend(signature.parameter.as_deref()),
                Auth::Addresses(_) => {}
            }
        }
        hidden
    }
}

/// Whether a text is a valid custom response.
pub(crate) fn is_answer(text: &str) -> bool {
    text.len() <= MAX_ANSWER_BYTES && !text.chars().any(char::is_control)
}

fn meaning<'m>(words: &'m BTreeMap<String, Vec<String>>, sent: &str) -> Option<&'m str> {
    let mut meanings = words.iter();
    let of = |word: &String| word.eq_ignore_ascii_case(sent);
    meanings
        .find(|(_, words)| words.iter().any(of))
        .map(|(meaning, _)| meaning.as_str())
}

impl Auth {
    fn is_usable(&self) -> bool {
        match self {
            Self::SecretPath(secret) => !secret.is_empty(),
            Self::SecretParameter { name, value } => !name.is_empty() && !value.is_empty(),
            Self::Hmac(it) => !it.key.is_empty() && it.parameter.is_some() != it.header.is_some(),
            Self::Addresses(networks) => !networks.is_empty(),
        }
    }

    fn is_timely(&self) -> bool {
        let Self::Hmac(signature) = self else {
            return true;
        };
        signature.timestamp.as_deref() != Some("")
            && (1..=MAX_WINDOW_SECONDS).contains(&signature.window)
    }

    const fn is_short(&self) -> bool {
        let secret = match self {
            Self::SecretPath(secret) | Self::SecretParameter { value: secret, .. } => secret,
            Self::Hmac(signature) => &signature.key,
            Self::Addresses(_) => return false,
        };
        secret.len() < MIN_SECRET_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unauthenticated_entries_are_rejected() {
        let with = |auth: &str| {
            let entry = format!(r#"{{"dialect":"generic","auth":{auth}}}"#);
            Advertiser::read(entry.as_bytes()).map(drop)
        };
        assert_eq!(with(r#"[{"secret_path":"0123456789abcdef"}]"#), Ok(()));
        assert_eq!(
            with(r#"[{"hmac":{"key":"0123456789abcdef","over":"body","header":"x"}}]"#),
            Ok(())
        );
        for wrong in [
            "[]",
            r#"[{"secret_path":""}]"#,
            r#"[{"secret_parameter":{"name":"token","value":""}}]"#,
            r#"[{"addresses":[]}]"#,
            r#"[{"addresses":["203.0.113.0/99"]}]"#,
            r#"[{"hmac":{"key":"","over":"body","header":"x"}}]"#,
            r#"[{"hmac":{"key":"0123456789abcdef","over":"body"}}]"#,
            r#"[{"hmac":{"key":"0123456789abcdef","over":"body","header":"x","parameter":"y"}}]"#,
            r#"[{"hmac":{"key":"0123456789abcdef","over":"body","header":"x","algorithm":"md5"}}]"#,
            r#"[{"none":{}}]"#,
        ] {
            assert!(with(wrong).is_err(), "{wrong}");
        }
        for short in [
            r#"[{"secret_path":"0123456789abcde"}]"#,
            r#"[{"secret_parameter":{"name":"token","value":"0123456789abcde"}}]"#,
            r#"[{"hmac":{"key":"0123456789abcde","over":"body","header":"x"}}]"#,
        ] {
            assert_eq!(with(short), Err(SHORT_SECRET.into()), "{short}");
        }
    }

    #[test]
    fn entry_errors_contain_no_values() {
        let entry = br#"{"dialect":"s3cret","auth":[{"secret_path":"s3cret"}]}"#;
        let wrong = Advertiser::read(entry).map(drop).expect_err("no dialect");
        assert!(!wrong.contains("s3cret"), "{wrong}");
    }
}
