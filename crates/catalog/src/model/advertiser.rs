//! Advertisers: how their postbacks are read and authenticated. It holds what `advertisers.toml` holds, with labels in
//! place of secrets.

use crate::error::Reason;
use crate::kind::{
    Editable, HasSecrets, Kind, KindName, Reference, Relation, Reservation, Validation,
};
use crate::status::Activity;
use domain::{
    AdvertiserId, ConversionKind, ConversionStatus, Currency, LinkId, Money, NetworkId, OfferId,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The dialects of the postback function.
const DIALECTS: [&str; 9] = [
    "generic", "voluum", "keitaro", "everflow", "tune", "affise", "binom", "redtrack", "cake",
];
/// The fields whose parameters can be renamed.
const PARAMETERS: [&str; 6] = [
    "click_id",
    "transaction_id",
    "payout",
    "currency",
    "status",
    "event",
];
const MAX_AUTH_METHODS: usize = 16;
const MAX_ADDRESSES: usize = 256;
const MAX_PATH_KEYS: usize = 16;
const MAX_MENTIONS: usize = 10_000;
const MAX_WORDS: usize = 64;
/// The longest custom response, in bytes, as the postback function's.
const MAX_RESPONSE_BYTES: usize = 256;

/// A company that pays for conversions and reports them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advertiser {
    /// Unique in the network.
    pub name: String,
    /// The name in its postback URL (`/postback/NAME`), unique in the installation. Without one it is the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postback_name: Option<String>,
    /// The notation of its postbacks.
    #[serde(default = "generic")]
    pub dialect: String,
    /// The currency of postbacks that name none (ISO 4217).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// How its postbacks are authenticated. Without any method, none is accepted.
    #[serde(default)]
    pub auth: Vec<AuthMethod>,
    /// Whether one or all of the methods must succeed.
    #[serde(default)]
    pub auth_mode: AuthMode,
    /// Labels of path keys, each a secret that stands for the advertiser in the URL: of the characters A-Z a-z 0-9 - _ .,
    /// and unique in the installation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path_keys: Vec<String>,
    /// The maximum age of a click, in days.
    #[serde(default = "click_age")]
    pub max_click_age_days: u32,
    /// Clicks that it may convert besides those of its own offers.
    #[serde(default)]
    pub conversions: ConversionScope,
    /// The maximum payout of a conversion by currency, in minor units; empty for no limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_payout: BTreeMap<String, i64>,
    /// Parameter names by field, which replace the dialect's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Its words for each status.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub status_words: BTreeMap<String, Vec<String>>,
    /// Its words for each kind of conversion.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub event_words: BTreeMap<String, Vec<String>>,
    /// The response that it expects to an accepted postback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// Whether amounts are written `1.234,56`; by default as the dialect has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimal_comma: Option<bool>,
    /// The rounding of fractions of a minor unit.
    #[serde(default)]
    pub rounding: Rounding,
}

/// A method of authentication. A `secret` is the label of a secret, which is set separately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AuthMethod {
    /// A secret in the path: `/postback/NAME/SECRET`, or the path key.
    SecretPath {
        /// The label of the secret.
        secret: String,
    },
    /// A parameter with a secret.
    SecretParameter {
        /// The parameter's name.
        name: String,
        /// The label of the secret.
        secret: String,
    },
    /// A signature with HMAC-SHA256, in hexadecimal.
    Hmac {
        /// The label of the key.
        secret: String,
        /// The part that is signed.
        over: SignedPart,
        /// The parameter with the signature; or `header`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parameter: Option<String>,
        /// The header with the signature; or `parameter`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        header: Option<String>,
        /// The signed parameter with the time in seconds since 1970. A request with it is valid only once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timestamp: Option<String>,
        /// The allowed difference of that time, in seconds.
        #[serde(default = "window")]
        window_seconds: u32,
    },
    /// Networks of the sender.
    Addresses {
        /// At least one.
        networks: Vec<IpNet>,
    },
}

/// The signed part of a request: the query without the signature's parameter, or the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedPart {
    /// The query.
    Query,
    /// The body.
    Body,
}

/// Whether one or all of the methods must succeed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// One.
    #[default]
    Any,
    /// All.
    All,
}

/// The clicks that an advertiser may convert besides those of its own offers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConversionScope {
    /// All links of the network.
    #[serde(default)]
    pub all: bool,
    /// These links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkId>,
    /// The links of these offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<OfferId>,
}

/// What becomes of fractions of a minor unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// They are rounded to the nearest minor unit, half to even.
    #[default]
    RoundHalfEven,
    /// The postback is refused.
    Refuse,
}

fn generic() -> String {
    "generic".to_owned()
}

const fn click_age() -> u32 {
    90
}

const fn window() -> u32 {
    300
}

impl Kind for Advertiser {
    type Id = AdvertiserId;
    type Status = Activity;
    const NAME: KindName = KindName::Advertiser;

    fn validate(&mut self, faults: &mut Validation<'_>) {
        faults.name("/name", &self.name);
        self.validate_authentication(faults);
        self.validate_notation(faults);
        self.validate_limits(faults);
    }

    fn label(&self) -> String {
        self.name.clone()
    }

    fn references(&self) -> Vec<Reference> {
        let links = self
            .conversions
            .links
            .iter()
            .enumerate()
            .map(|(index, id)| {
                let pointer = format!("/conversions/links/{index}");
                Reference::new(Relation::Mention, &pointer, KindName::Link, *id)
            });
        let offers = self
            .conversions
            .offers
            .iter()
            .enumerate()
            .map(|(index, id)| {
                let pointer = format!("/conversions/offers/{index}");
                Reference::new(Relation::Mention, &pointer, KindName::Offer, *id)
            });
        links.chain(offers).collect()
    }

    fn resolves_equally(&self, other: &Self) -> bool {
        self.name == other.name
    }

    fn reservations(&self, network: NetworkId) -> Vec<Reservation> {
        let postback = self.postback_name.as_ref().map(|name| Reservation {
            pointer: "/postback_name".to_owned(),
            key: format!("postback:{name}"),
            shown: name.clone(),
            domain: String::new(),
        });
        let name = Reservation::of_name(Self::NAME, network, &self.name);
        std::iter::once(name).chain(postback).collect()
    }

    fn path_keys(&self) -> &[String] {
        &self.path_keys
    }

    fn secret_labels(&self) -> Vec<&str> {
        let methods = self.auth.iter().filter_map(AuthMethod::secret);
        methods
            .chain(self.path_keys.iter().map(String::as_str))
            .collect()
    }
}

impl Editable for Advertiser {}
impl HasSecrets for Advertiser {}

impl Advertiser {
    /// The maximum payout in each currency; empty for no limit.
    pub fn maximum_payouts(&self) -> impl Iterator<Item = Money> {
        self.max_payout.iter().map(|(code, minor)| Money {
            minor: *minor,
            currency: Currency::from_stored(code),
        })
    }

    fn validate_authentication(&self, faults: &mut Validation<'_>) {
        if let Some(name) = &self.postback_name {
            faults.identifier("/postback_name", name);
            let is_id = name.bytes().all(|byte| byte.is_ascii_digit());
            let message = "a name of digits only could be another advertiser's id; add a letter";
            faults.require(!is_id, Reason::InvalidText, "/postback_name", message);
        }
        faults.count("/auth", self.auth.len(), 0..=MAX_AUTH_METHODS);
        for (index, method) in self.auth.iter().enumerate() {
            method.validate(faults, &format!("/auth/{index}/{}", method.name()));
        }
        faults.count("/path_keys", self.path_keys.len(), 0..=MAX_PATH_KEYS);
        for (index, label) in self.path_keys.iter().enumerate() {
            faults.identifier(&format!("/path_keys/{index}"), label);
        }
        faults.distinct("/path_keys", &self.path_keys);
    }

    fn validate_notation(&mut self, faults: &mut Validation<'_>) {
        faults.word("/dialect", &self.dialect, &DIALECTS);
        if let Some(code) = &mut self.currency {
            faults.currency("/currency", code);
        }
        for (field, name) in &self.parameters {
            let pointer = format!("/parameters/{}", escaped(field));
            faults.word(&pointer, field, &PARAMETERS);
            faults.name(&pointer, name);
        }
        let statuses: Vec<_> = ConversionStatus::ALL.iter().map(|it| it.as_str()).collect();
        validate_words(faults, "/status_words", &self.status_words, &statuses);
        let kinds: Vec<_> = ConversionKind::ALL.iter().map(|it| it.as_str()).collect();
        validate_words(faults, "/event_words", &self.event_words, &kinds);
        if let Some(response) = &self.response {
            let fits = response.len() <= MAX_RESPONSE_BYTES && !response.contains(char::is_control);
            let message =
                "the response is one line of at most 256 bytes without control characters";
            faults.require(fits, Reason::InvalidText, "/response", message);
        }
    }

    fn validate_limits(&mut self, faults: &mut Validation<'_>) {
        let days = self.max_click_age_days.into();
        faults.range("/max_click_age_days", days, 1..=3_650);
        let scope = &self.conversions;
        faults.count("/conversions/links", scope.links.len(), 0..=MAX_MENTIONS);
        faults.count("/conversions/offers", scope.offers.len(), 0..=MAX_MENTIONS);
        faults.count("/max_payout", self.max_payout.len(), 0..=MAX_WORDS);
        let payouts = std::mem::take(&mut self.max_payout);
        for (mut code, minor) in payouts {
            let pointer = format!("/max_payout/{}", escaped(&code));
            faults.currency(&pointer, &mut code);
            faults.range(&pointer, minor, 0..=i64::MAX);
            if self.max_payout.insert(code, minor).is_some() {
                let message = "the currency is there twice, in different cases";
                faults.add(Reason::Repeated, &pointer, message);
            }
        }
    }
}

/// A key of a map within a JSON pointer (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn validate_words(
    faults: &mut Validation<'_>,
    pointer: &str,
    words: &BTreeMap<String, Vec<String>>,
    meanings: &[&str],
) {
    // The postback function compares words without regard to the case of ASCII letters.
    let mut meaning_of = BTreeMap::new();
    for (meaning, words) in words {
        let pointer = format!("{pointer}/{}", escaped(meaning));
        faults.word(&pointer, meaning, meanings);
        faults.count(&pointer, words.len(), 0..=MAX_WORDS);
        for (index, word) in words.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            faults.name(&pointer, word);
            let known = meaning_of.entry(word.to_ascii_lowercase());
            let known: &mut &String = known.or_insert(meaning);
            if *known != meaning {
                let message =
                    format!("{word:?} stands for {known}, too; remove it from one of them");
                faults.add(Reason::Repeated, &pointer, message);
            }
        }
    }
}

impl AuthMethod {
    /// The label of the method's secret, if it has one.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::SecretPath { secret }
            | Self::SecretParameter { secret, .. }
            | Self::Hmac { secret, .. } => Some(secret),
            Self::Addresses { .. } => None,
        }
    }

    /// Its name in JSON.
    const fn name(&self) -> &'static str {
        match self {
            Self::SecretPath { .. } => "secret_path",
            Self::SecretParameter { .. } => "secret_parameter",
            Self::Hmac { .. } => "hmac",
            Self::Addresses { .. } => "addresses",
        }
    }

    fn validate(&self, faults: &mut Validation<'_>, pointer: &str) {
        if let Some(label) = self.secret() {
            faults.identifier(&format!("{pointer}/secret"), label);
        }
        match self {
            Self::SecretPath { .. } => {}
            Self::SecretParameter { name, .. } => faults.name(&format!("{pointer}/name"), name),
            Self::Hmac {
                parameter,
                header,
                timestamp,
                window_seconds,
                ..
            } => {
                let message = "a signature is in one of parameter and header";
                faults.require(
                    parameter.is_some() != header.is_some(),
                    Reason::Contradiction,
                    pointer,
                    message,
                );
                for (field, name) in [
                    ("parameter", parameter),
                    ("header", header),
                    ("timestamp", timestamp),
                ] {
                    if let Some(name) = name {
                        faults.name(&format!("{pointer}/{field}"), name);
                    }
                }
                let pointer = format!("{pointer}/window_seconds");
                faults.range(&pointer, (*window_seconds).into(), 1..=86_400);
            }
            Self::Addresses { networks } => {
                faults.count(
                    &format!("{pointer}/networks"),
                    networks.len(),
                    1..=MAX_ADDRESSES,
                );
            }
        }
    }
}
