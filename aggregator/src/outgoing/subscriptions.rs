//! Reads and validates `postbacks.toml`: which conversions are reported to which URLs. An invalid file is refused
//! completely, with the line and the reason.

use super::address::Address;
use daemon::files::{PrivateFileError, WatchedFiles, read_private};
use daemon::settings::{line_at, offset_of, without_values};
use data_encoding::BASE64;
use domain::{ConversionKind, ConversionStatus};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;
use toml::Spanned;

/// The longest file, in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// The shortest key, in bytes; shorter ones could be guessed.
const MIN_KEY_BYTES: usize = 16;
/// The prefix of a key in base64, as in Standard Webhooks.
const BASE64_KEY_PREFIX: &str = "whsec_";

/// Subscriptions by campaign and affiliate; one without an affiliate applies to all affiliates of the campaign.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(BTreeMap<(String, Option<String>), Subscription>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    postback: Vec<Spanned<Subscription>>,
}

/// The conversions of a campaign that are reported, and where.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscription {
    campaign: String,
    /// Limits the subscription to this affiliate.
    affiliate: Option<String>,
    /// The URL of the receiver.
    pub(super) url: Address,
    /// The key that signs requests. Without one they are not signed.
    pub(super) key: Option<SigningKey>,
    /// Empty for all statuses.
    #[serde(default)]
    statuses: Vec<Word<ConversionStatus>>,
    /// Empty for all kinds.
    #[serde(default)]
    events: Vec<Word<ConversionKind>>,
}

/// A signing key, never shown.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct SigningKey(Vec<u8>);

#[derive(Debug, Deserialize)]
#[serde(
    try_from = "String",
    bound(deserialize = "Self: TryFrom<String, Error = String>")
)]
struct Word<T>(T);

/// Why the subscriptions file can't be used. Its text is not shown: it contains keys.
#[derive(Debug, Error)]
pub enum SubscriptionsError {
    /// The file can't be read, or other users can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is invalid.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The fault and its correction.
        message: String,
    },
}

/// The subscriptions file, reloaded when it changes.
pub(super) struct SubscriptionFile {
    path: PathBuf,
    watched: WatchedFiles,
    current: Subscriptions,
}

impl SubscriptionFile {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, SubscriptionsError> {
        Ok(Self {
            path: path.to_owned(),
            // Before the file is read: a change in between is then detected at the next check.
            watched: WatchedFiles::new([path]),
            current: Subscriptions::read(path)?,
        })
    }

    /// Reads the file again if it has changed and settled. An invalid file changes nothing. `None` if nothing was read.
    pub(super) fn reload(&mut self) -> Option<Result<(), SubscriptionsError>> {
        if !self.watched.changed() {
            return None;
        }
        Some(Subscriptions::read(&self.path).map(|read| self.current = read))
    }

    /// The subscriptions that were read last.
    pub(super) const fn current(&self) -> &Subscriptions {
        &self.current
    }
}

impl Subscriptions {
    fn read(path: &Path) -> Result<Self, SubscriptionsError> {
        let text = read_private(path, MAX_BYTES)?;
        let wrong = |offset: usize, message: &str| SubscriptionsError::Wrong {
            path: path.to_owned(),
            line: line_at(&text, offset),
            message: message.to_owned(),
        };
        let file: File = toml::from_str(&text)
            .map_err(|error| wrong(offset_of(&error), &without_values(error.message())))?;
        let mut all = BTreeMap::new();
        for entry in file.postback {
            let at = entry.span().start;
            let subscription = entry.into_inner();
            let (campaign, affiliate) = (&subscription.campaign, &subscription.affiliate);
            let key = (campaign.clone(), affiliate.clone());
            if all.insert(key, subscription).is_some() {
                return Err(wrong(
                    at,
                    "another postback above is for the same campaign and affiliate",
                ));
            }
        }
        Ok(Self(all))
    }

    /// The subscription for conversions of this affiliate through this campaign.
    pub(super) fn of(&self, campaign: &str, affiliate: &str) -> Option<&Subscription> {
        let theirs = (campaign.to_owned(), Some(affiliate.to_owned()));
        let all = (campaign.to_owned(), None);
        self.0.get(&theirs).or_else(|| self.0.get(&all))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Subscription {
    /// Whether conversions of this kind and status are reported.
    pub(super) fn wants(&self, kind: &str, status: &str) -> bool {
        let statuses = &self.statuses;
        let events = &self.events;
        (statuses.is_empty() || statuses.iter().any(|it| it.0.as_str() == status))
            && (events.is_empty() || events.iter().any(|it| it.0.as_str() == kind))
    }
}

impl SigningKey {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl TryFrom<String> for SigningKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = match text.strip_prefix(BASE64_KEY_PREFIX) {
            Some(encoded) => BASE64
                .decode(encoded.as_bytes())
                .map_err(|_| format!("the key after {BASE64_KEY_PREFIX} must be base64"))?,
            None => text.into_bytes(),
        };
        if bytes.len() < MIN_KEY_BYTES {
            return Err(format!("a key must have at least {MIN_KEY_BYTES} bytes"));
        }
        Ok(Self(bytes))
    }
}

macro_rules! words {
    ($($type:ty, $what:literal;)*) => {
        $(impl TryFrom<String> for Word<$type> {
            type Error = String;

            fn try_from(word: String) -> Result<Self, String> {
                let known = || {
                    let words: Vec<&str> = <$type>::ALL.iter().map(|it| it.as_str()).collect();
                    words.join(", ")
                };
                <$type>::from_name(&word)
                    .map(Self)
                    .ok_or_else(|| format!("{word:?} is no {}; they are {}", $what, known()))
            }
        })*
    };
}

words! {
    ConversionStatus, "status";
    ConversionKind, "event";
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::files::SETTLE_TIME;
    use std::fs;
    use std::thread;

    const VALID_FILE: &str =
        "[[postback]]\ncampaign = \"spring\"\nurl = \"https://tracker.example/pb?cid={sub1}\"\n";

    fn read(text: &str) -> Result<Subscriptions, String> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        fs::write(file.path(), text).expect("writable");
        Subscriptions::read(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn subscription_filters_statuses_and_events() {
        let all = read(VALID_FILE).expect("valid file");
        let all = all.of("spring", "ann").expect("found");
        assert!(all.wants("sale", "pending") && all.wants("custom", "chargeback"));
        let some = read(&format!(
            "{VALID_FILE}statuses = [\"approved\"]\nevents = [\"sale\", \"lead\"]\n"
        ));
        let some = some.expect("valid file");
        let some = some.of("spring", "ann").expect("found");
        assert!(some.wants("lead", "approved"));
        assert!(!some.wants("lead", "pending") && !some.wants("rebill", "approved"));
    }

    #[test]
    fn affiliate_subscription_overrides_campaign_subscription() {
        let own = VALID_FILE.replace("/pb", "/own") + "affiliate = \"ann\"\n";
        let url = |all: &Subscriptions, affiliate: &str| {
            let found = all.of("spring", affiliate);
            found.map(|it| format!("{:?}", it.url).contains("/own"))
        };
        let both = read(&format!("{VALID_FILE}{own}")).expect("valid file");
        assert_eq!(url(&both, "ann"), Some(true));
        assert_eq!(url(&both, "ben"), Some(false));
        let alone = read(&own).expect("valid file");
        assert_eq!(url(&alone, "ben"), None);
        assert!(alone.of("summer", "ann").is_none());
        let twice = read(&format!("{own}{own}")).expect_err("twice");
        assert!(twice.contains(":5: another postback above"), "{twice}");
    }

    #[test]
    fn invalid_file_is_rejected_with_line_and_without_keys() {
        for (more, line, reason) in [
            ("keys = 1", 4, "unknown field `keys`"),
            ("key = \"short-secret\"", 4, "at least 16 bytes"),
            ("key = \"whsec_short-secret\"", 4, "base64"),
            (
                "statuses = [\"paid\"]",
                4,
                "… is no status; they are pending, approved",
            ),
            ("url = 1", 4, "duplicate key"),
            (
                "[[postback]]\ncampaign = \"b\"\nurl = \"https://x.example/{nope}\"",
                6,
                "there is no macro {nope}",
            ),
            (
                "[[postback]]\ncampaign = \"b\"\nurl = \"ftp://x.example/\"",
                6,
                "must start with https://",
            ),
        ] {
            let error = read(&format!("{VALID_FILE}{more}\n")).expect_err(more);
            assert!(error.contains(&format!(":{line}: ")), "{error}");
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains("short-secret"), "{error}");
        }
    }

    #[test]
    fn keys_are_texts_or_base64() {
        let key = |text: &str| SigningKey::try_from(text.to_owned()).map(|key| key.0);
        assert_eq!(key("a key of the affiliate").expect("long").len(), 22);
        let encoded = format!("whsec_{}", BASE64.encode(&[7; 24]));
        assert_eq!(key(&encoded).expect("valid file"), [7; 24]);
    }

    #[test]
    fn invalid_change_keeps_the_earlier_subscriptions() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        fs::write(file.path(), VALID_FILE).expect("writable");
        let mut watched = SubscriptionFile::read(file.path()).expect("valid file");
        assert!(watched.reload().is_none());
        fs::write(file.path(), "[[postback]]\n").expect("writable");
        assert!(watched.reload().is_none(), "it may still be written");
        thread::sleep(SETTLE_TIME);
        assert!(watched.reload().expect("changed").is_err());
        assert_eq!(watched.current().len(), 1);
        fs::write(file.path(), VALID_FILE.replace("spring", "summer")).expect("writable");
        assert!(watched.reload().is_none(), "it may still be written");
        thread::sleep(SETTLE_TIME);
        assert!(watched.reload().expect("changed").is_ok());
        assert!(watched.current().of("summer", "ann").is_some());
    }
}
