//! Postbacks as their senders write them, authentic by construction: parameters, their location, and the sender's
//! proof. Invalid ones are in `attacks`.

use super::random::Random;
use super::request::{Request, escaped, json_string};
use super::senders::{NETWORK, Proof, SENDERS, Sender};
use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tracking_events::{ClickIdParts, KeyRing, LaneId, LinkId, Micros, NodeId, Seq};

const DAY: u64 = 86_400_000_000;
/// Currencies with their decimals.
const CURRENCIES: &[(&str, usize)] = &[
    ("USD", 2),
    ("EUR", 2),
    ("GBP", 2),
    ("JPY", 0),
    ("KWD", 3),
    ("CLP", 0),
];
const STATUSES: &[(&str, &str)] = &[
    ("approved", "approved"),
    ("PAID", "approved"),
    ("pending", "pending"),
    ("declined", "rejected"),
    ("on_hold", "hold"),
    ("refund", "chargeback"),
];
const EVENTS: &[(&str, &str)] = &[
    ("sale", "sale"),
    ("Purchase", "sale"),
    ("signup", "lead"),
    ("renewal", "rebill"),
    ("upsell", "upsell"),
    ("install", "install"),
];

/// Clicks and keys that requests are built from.
#[derive(Debug)]
pub(super) struct TestData {
    /// Ids of clicks on this edge.
    pub(super) clicks: Vec<String>,
    /// The keys of this deployment.
    pub(super) ring: KeyRing,
    /// Keys of another deployment with the same key ids.
    pub(super) foreign: KeyRing,
    /// A key with an id that this deployment does not have.
    pub(super) unknown: KeyRing,
    /// Start of the run.
    pub(super) now: Micros,
}

/// Location of a postback's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParameterLocation {
    Query,
    Form,
    Json,
}

/// Expected values of a conversion in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) minor: i64,
    pub(super) currency: &'static str,
    pub(super) status: &'static str,
    pub(super) kind: &'static str,
}

/// A postback before it is encoded and signed.
#[derive(Debug, Clone)]
pub(super) struct Postback {
    pub(super) sender: &'static Sender,
    pub(super) location: ParameterLocation,
    /// Names and values, without those of the proof.
    pub(super) parameters: Vec<(String, String)>,
    /// The secret of the proof, empty if it has none.
    pub(super) secret: String,
    /// The signing key, empty if nothing is signed.
    pub(super) key: String,
    /// Value of `X-Forwarded-For`.
    pub(super) from: String,
    pub(super) transaction: String,
    pub(super) claim: Claim,
}

impl TestData {
    /// The id of a click `age` microseconds ago; negative is in the future.
    pub(super) fn click_of(&self, ring: &KeyRing, age: i64, random: &mut Random) -> String {
        let parts = ClickIdParts {
            time: Micros(self.now.0.saturating_add_signed(-age)),
            node: NodeId(1),
            lane: LaneId(0),
            seq: Seq(random.next() >> 24),
            link: LinkId(random.within(1, 12) as u32),
        };
        ring.sign(parts).to_string()
    }

    /// The id of a click that can convert.
    pub(super) fn click(&self, sender: &Sender, random: &mut Random) -> String {
        if random.once_in(2) {
            return random.pick(&self.clicks).clone();
        }
        let most = (sender.days - 1) * DAY;
        self.click_of(&self.ring, (random.next() % most).cast_signed(), random)
    }
}

impl Postback {
    /// A postback of any sender that `fits`. Its transaction starts with `prefix` and is unique.
    pub(super) fn authentic_from(
        data: &TestData,
        random: &mut Random,
        prefix: char,
        number: u64,
        fits: impl Fn(&Sender) -> bool,
    ) -> Self {
        let fitting: Vec<&'static Sender> = SENDERS.iter().filter(|it| fits(it)).collect();
        let sender = *random.pick(&fitting);
        let location = match sender.proof {
            Proof::Query(_) | Proof::Both(..) => ParameterLocation::Query,
            Proof::Body(_) => *random.pick(&[ParameterLocation::Form, ParameterLocation::Json]),
            _ => *random.pick(&[
                ParameterLocation::Query,
                ParameterLocation::Query,
                ParameterLocation::Form,
                ParameterLocation::Json,
            ]),
        };
        let transaction = format!("{prefix}{number}-{:08x}", random.next() as u32);
        let (claim, mut parameters) = random_claim(sender, random);
        parameters.push((sender.click.into(), data.click(sender, random)));
        parameters.push((sender.transaction.into(), transaction.clone()));
        for _ in 0..random.below(4) {
            parameters.push((format!("sub{}", random.below(10)), random_value(random)));
        }
        // In random order.
        for at in (1..parameters.len()).rev() {
            parameters.swap(at, random.below(at + 1));
        }
        let (secret, key) = match sender.proof {
            Proof::Path(secret) | Proof::PathKey(secret) | Proof::Parameter(_, secret) => {
                (secret, "")
            }
            Proof::Query(key) | Proof::Body(key) => ("", key),
            Proof::Both(secret, key) => (secret, key),
            Proof::Network => ("", ""),
        };
        let from = match sender.proof {
            Proof::Network => format!("{NETWORK}{}", random.below(256)),
            _ => format!("198.51.100.{}", random.below(256)),
        };
        Self {
            sender,
            location,
            parameters,
            secret: secret.into(),
            key: key.into(),
            from,
            transaction,
            claim,
        }
    }

    /// Replaces the value of a parameter.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.into(), value.into()));
    }

    pub(super) fn click(&self) -> &str {
        let mut parameters = self.parameters.iter();
        parameters
            .find(|(name, _)| name == self.sender.click)
            .map_or("", |(_, value)| value)
    }

    /// The request, signed if the sender signs.
    pub(super) fn request(&self, random: &mut Random) -> Request {
        let mut request = Request {
            path: self.path(random),
            ..Request::default()
        };
        request.header("X-Forwarded-For", self.from.clone());
        let mut query = Vec::new();
        if let Some((_, name)) = self.sender.named_at.filter(|at| request.path == at.0) {
            query.push(name.into());
        }
        let mut parameters = self.parameters.clone();
        if let Proof::Parameter(name, _) = self.sender.proof
            && !self.secret.is_empty()
        {
            if self.location == ParameterLocation::Query || random.once_in(2) {
                query.push(format!("{name}={}", escaped(&self.secret, random)));
            } else {
                parameters.push((name.into(), self.secret.clone()));
            }
        }
        match self.location {
            ParameterLocation::Query => query.push(form(&parameters, random)),
            ParameterLocation::Form => {
                request.body = form(&parameters, random).into_bytes();
                let charset = if random.once_in(3) {
                    "; charset=UTF-8"
                } else {
                    ""
                };
                let kind = format!("application/x-www-form-urlencoded{charset}");
                request.header("Content-Type", kind);
            }
            ParameterLocation::Json => {
                request.body = json(&parameters, random).into_bytes();
                request.header("Content-Type", "application/json");
            }
        }
        request.query = query.join("&");
        let in_query = self.location == ParameterLocation::Query && !random.once_in(8);
        request.method = if in_query { "GET" } else { "POST" }.into();
        request.chunked = !request.body.is_empty() && random.once_in(5);
        self.sign(&mut request, random);
        request
    }

    /// Signs the request if the sender signs.
    pub(super) fn sign(&self, request: &mut Request, random: &mut Random) {
        match self.sender.proof {
            Proof::Query(_) | Proof::Both(..) => {
                let signature = signature(&self.key, request.query.as_bytes(), random);
                request.query = if random.once_in(2) {
                    format!("sig={signature}&{}", request.query)
                } else {
                    format!("{}&sig={signature}", request.query)
                };
            }
            Proof::Body(_) => {
                let signature = signature(&self.key, &request.body, random);
                request.replace("X-Signature", signature);
            }
            _ => {}
        }
    }

    fn path(&self, random: &mut Random) -> String {
        let name = self.sender.name;
        if let Some((path, _)) = self.sender.named_at
            && random.once_in(2)
        {
            return path.into();
        }
        let secret = escaped(&self.secret, random);
        match self.sender.proof {
            Proof::Path(_) | Proof::Both(..) => format!("/postback/{name}/{secret}"),
            // A path key is looked up unescaped.
            Proof::PathKey(_) => format!("/{}/postback", self.secret),
            _ => format!("/postback/{name}"),
        }
    }
}

/// HMAC-SHA256 of `signed`, in one of the accepted notations.
pub(super) fn signature(key: &str, signed: &[u8], random: &mut Random) -> String {
    let digits = hmac(key, signed);
    match random.below(6) {
        0 => digits.to_uppercase(),
        1 => format!("sha256={digits}"),
        _ => digits,
    }
}

pub(super) fn hmac(key: &str, signed: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key may have any length");
    let mac = mac.chain_update(signed);
    HEXLOWER.encode(&mac.finalize().into_bytes())
}

fn form(parameters: &[(String, String)], random: &mut Random) -> String {
    let mut pairs = Vec::new();
    for (name, value) in parameters {
        pairs.push(format!("{name}={}", escaped(value, random)));
    }
    pairs.join("&")
}

fn json(parameters: &[(String, String)], random: &mut Random) -> String {
    let mut fields = Vec::new();
    for (name, value) in parameters {
        let plain = value.parse::<f64>().is_ok() && serde_json::from_str::<f64>(value).is_ok();
        let value = if plain && random.once_in(2) {
            value.clone()
        } else {
            json_string(value, random)
        };
        fields.push(format!("\"{name}\": {value}"));
    }
    format!("{{{}}}", fields.join(", "))
}

/// A random sale: the expected values and the sender's parameters.
fn random_claim(sender: &Sender, random: &mut Random) -> (Claim, Vec<(String, String)>) {
    let mut parameters = Vec::new();
    let own = sender.currency.filter(|_| random.once_in(2));
    let (currency, decimals) = match own {
        Some(own) => *CURRENCIES
            .iter()
            .find(|it| it.0 == own)
            .unwrap_or(&CURRENCIES[0]),
        None => {
            let chosen = *random.pick(CURRENCIES);
            let lower = random.once_in(4);
            let code = if lower {
                chosen.0.to_lowercase()
            } else {
                chosen.0.to_owned()
            };
            parameters.push((sender.code.into(), code));
            chosen
        }
    };
    let most = *random.pick(&[100, 10_000, 1_000_000, 1_000_000_000_000]);
    let minor = (random.next() % (most + 1)).cast_signed();
    parameters.push((sender.payout.into(), amount(minor, decimals, random)));
    let (mut status, mut kind) = ("approved", "sale");
    if random.once_in(2) {
        let word = random.pick(STATUSES);
        status = word.1;
        parameters.push((sender.status.into(), word.0.into()));
    }
    if random.once_in(2) {
        let word = random.pick(EVENTS);
        kind = word.1;
        parameters.push((sender.event.into(), word.0.into()));
    }
    let claim = Claim {
        minor,
        currency,
        status,
        kind,
    };
    (claim, parameters)
}

/// `minor` units in one of the usual notations.
fn amount(minor: i64, decimals: usize, random: &mut Random) -> String {
    let digits = format!("{minor:0>width$}", width = decimals + 1);
    let (whole, part) = digits.split_at(digits.len() - decimals);
    match (part.trim_end_matches('0'), random.below(4)) {
        ("", 0) => whole.into(),
        ("", 1) => format!("{whole}."),
        (short, 0) => format!("{whole}.{short}"),
        (_, 1) if whole.len() + decimals < 18 => format!("{whole}.{part}000"),
        _ if part.is_empty() => whole.into(),
        _ => format!("{whole}.{part}"),
    }
}

/// A value of a parameter without meaning.
fn random_value(random: &mut Random) -> String {
    const ALPHABET: &[char] = &[
        'a', 'Z', '0', ' ', '&', '=', '%', '+', '/', '?', '#', '"', '\\', 'ü', '漢', '🦀', '{',
        '<', '\'',
    ];
    (0..random.below(12))
        .map(|_| *random.pick(ALPHABET))
        .collect()
}
