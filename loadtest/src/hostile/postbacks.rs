//! Postbacks as their senders write them, authentic by construction: what is said, where it is said, and
//! the proof of who says it. What is wrong with others is in `attacks`.

use super::random::Random;
use super::request::{Request, escaped, json_string};
use super::senders::{NETWORK, Proof, SENDERS, Sender};
use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tracking_events::{ClickIdParts, KeyRing, LaneId, LinkId, Micros, NodeId, Seq};

const DAY: u64 = 86_400_000_000;
/// Currencies and their decimals.
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

/// What there is to work with.
#[derive(Debug)]
pub(super) struct World {
    /// Clicks that an edge of the fleet logged a moment ago.
    pub(super) clicks: Vec<String>,
    /// The fleet's keys.
    pub(super) ring: KeyRing,
    /// Keys of another fleet, with the numbers of this one's.
    pub(super) foreign: KeyRing,
    /// A key of this fleet's number that it has not.
    pub(super) unknown: KeyRing,
    /// When the run began.
    pub(super) now: Micros,
}

/// Where a postback's parameters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Query,
    Form,
    Json,
}

/// What a table must say of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) minor: i64,
    pub(super) currency: &'static str,
    pub(super) status: &'static str,
    pub(super) kind: &'static str,
}

/// A postback before it is written down and signed.
#[derive(Debug, Clone)]
pub(super) struct Postback {
    pub(super) sender: &'static Sender,
    pub(super) place: Place,
    /// Names and values, those of the proof left out.
    pub(super) said: Vec<(String, String)>,
    /// The proof's secret, if it has one.
    pub(super) secret: String,
    /// The key it is signed with, if it is signed.
    pub(super) key: String,
    /// What stands in `X-Forwarded-For`.
    pub(super) from: String,
    pub(super) transaction: String,
    pub(super) claim: Claim,
}

impl World {
    /// An id of the fleet, of a click `age` microseconds ago; negative is in the future.
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

    /// An id that converts.
    pub(super) fn click(&self, sender: &Sender, random: &mut Random) -> String {
        if random.once_in(2) {
            return random.of(&self.clicks).clone();
        }
        let most = (sender.days - 1) * DAY;
        self.click_of(&self.ring, (random.next() % most).cast_signed(), random)
    }
}

impl Postback {
    /// One of any sender that `fits`. Its transaction begins with `mark` and is nobody else's.
    pub(super) fn honest(
        world: &World,
        random: &mut Random,
        mark: char,
        number: u64,
        fits: impl Fn(&Sender) -> bool,
    ) -> Self {
        let fitting: Vec<&'static Sender> = SENDERS.iter().filter(|it| fits(it)).collect();
        let sender = *random.of(&fitting);
        let place = match sender.proof {
            Proof::Query(_) | Proof::Both(..) => Place::Query,
            Proof::Body(_) => *random.of(&[Place::Form, Place::Json]),
            _ => *random.of(&[Place::Query, Place::Query, Place::Form, Place::Json]),
        };
        let transaction = format!("{mark}{number}-{:08x}", random.next() as u32);
        let (claim, mut said) = claimed(sender, random);
        said.push((sender.click.into(), world.click(sender, random)));
        said.push((sender.transaction.into(), transaction.clone()));
        for _ in 0..random.below(4) {
            said.push((format!("sub{}", random.below(10)), noise(random)));
        }
        // In any order.
        for at in (1..said.len()).rev() {
            said.swap(at, random.below(at + 1));
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
            place,
            said,
            secret: secret.into(),
            key: key.into(),
            from,
            transaction,
            claim,
        }
    }

    /// Puts `value` in place of what is said under `name`.
    pub(super) fn say(&mut self, name: &str, value: impl Into<String>) {
        self.said.retain(|(said, _)| said != name);
        self.said.push((name.into(), value.into()));
    }

    pub(super) fn click(&self) -> &str {
        let mut said = self.said.iter();
        said.find(|(name, _)| name == self.sender.click)
            .map_or("", |(_, value)| value)
    }

    /// As it is sent, signed by who has the key.
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
        let mut said = self.said.clone();
        if let Proof::Parameter(name, _) = self.sender.proof
            && !self.secret.is_empty()
        {
            if self.place == Place::Query || random.once_in(2) {
                query.push(format!("{name}={}", escaped(&self.secret, random)));
            } else {
                said.push((name.into(), self.secret.clone()));
            }
        }
        match self.place {
            Place::Query => query.push(form(&said, random)),
            Place::Form => {
                request.body = form(&said, random).into_bytes();
                let charset = if random.once_in(3) {
                    "; charset=UTF-8"
                } else {
                    ""
                };
                let kind = format!("application/x-www-form-urlencoded{charset}");
                request.header("Content-Type", kind);
            }
            Place::Json => {
                request.body = json(&said, random).into_bytes();
                request.header("Content-Type", "application/json");
            }
        }
        request.query = query.join("&");
        let in_query = self.place == Place::Query && !random.once_in(8);
        request.method = if in_query { "GET" } else { "POST" }.into();
        request.chunked = !request.body.is_empty() && random.once_in(5);
        self.sign(&mut request, random);
        request
    }

    /// Signs what is there, if this sender signs.
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
            // Its key is looked up as it is sent.
            Proof::PathKey(_) => format!("/{}/postback", self.secret),
            _ => format!("/postback/{name}"),
        }
    }
}

/// HMAC-SHA256 of `signed`, in one of the ways that it may be written.
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

fn form(said: &[(String, String)], random: &mut Random) -> String {
    let mut pairs = Vec::new();
    for (name, value) in said {
        pairs.push(format!("{name}={}", escaped(value, random)));
    }
    pairs.join("&")
}

fn json(said: &[(String, String)], random: &mut Random) -> String {
    let mut fields = Vec::new();
    for (name, value) in said {
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

/// What was sold, as a table must have it and as the sender says it.
fn claimed(sender: &Sender, random: &mut Random) -> (Claim, Vec<(String, String)>) {
    let mut said = Vec::new();
    let own = sender.currency.filter(|_| random.once_in(2));
    let (currency, places) = match own {
        Some(own) => *CURRENCIES
            .iter()
            .find(|it| it.0 == own)
            .unwrap_or(&CURRENCIES[0]),
        None => {
            let chosen = *random.of(CURRENCIES);
            let lower = random.once_in(4);
            let code = if lower {
                chosen.0.to_lowercase()
            } else {
                chosen.0.to_owned()
            };
            said.push((sender.code.into(), code));
            chosen
        }
    };
    let most = *random.of(&[100, 10_000, 1_000_000, 1_000_000_000_000]);
    let minor = (random.next() % (most + 1)).cast_signed();
    said.push((sender.payout.into(), amount(minor, places, random)));
    let (mut status, mut kind) = ("approved", "sale");
    if random.once_in(2) {
        let word = random.of(STATUSES);
        status = word.1;
        said.push((sender.status.into(), word.0.into()));
    }
    if random.once_in(2) {
        let word = random.of(EVENTS);
        kind = word.1;
        said.push((sender.event.into(), word.0.into()));
    }
    let claim = Claim {
        minor,
        currency,
        status,
        kind,
    };
    (claim, said)
}

/// `minor` units in one of the ways that people write them.
fn amount(minor: i64, places: usize, random: &mut Random) -> String {
    let digits = format!("{minor:0>width$}", width = places + 1);
    let (whole, part) = digits.split_at(digits.len() - places);
    match (part.trim_end_matches('0'), random.below(4)) {
        ("", 0) => whole.into(),
        ("", 1) => format!("{whole}."),
        (short, 0) => format!("{whole}.{short}"),
        (_, 1) if whole.len() + places < 18 => format!("{whole}.{part}000"),
        _ if part.is_empty() => whole.into(),
        _ => format!("{whole}.{part}"),
    }
}

/// What senders add that means nothing here.
fn noise(random: &mut Random) -> String {
    const ALPHABET: &[char] = &[
        'a', 'Z', '0', ' ', '&', '=', '%', '+', '/', '?', '#', '"', '\\', 'ü', '漢', '🦀', '{',
        '<', '\'',
    ];
    (0..random.below(12))
        .map(|_| *random.of(ALPHABET))
        .collect()
}
