//! Advertisers, keys and clicks for tests, and requests as their senders write them.
#![allow(dead_code)]

use domain::{LaneId, LinkId, Micros, NodeId, Seq};
use hmac::{Hmac, Mac as _};
use postback::{Decision, Keys, Postback, Refused, Request, alias};
use sha2::Sha256;
use tracker_api::Conversion;
use tracking_events::{ClickIdParts, KeyId, KeyRing, MacKey};

pub(crate) const NOW: Micros = Micros(1_795_000_000_000_000);
pub(crate) const DAY: u64 = 86_400_000_000;
pub(crate) const HMAC_KEY: &str = "a key of the advertiser";

/// The entries of the store.
const ENTRIES: &[(&str, &str)] = &[
    (
        "generic",
        r#"{"links":"any","dialect":"generic","currency":"USD","auth":[{"secret_parameter":{"name":"token","value":"g-secret-01234567"}}],"status_words":{"approved":["1"]},"event_words":{"lead":["quiz"]}}"#,
    ),
    (
        "voluum",
        r#"{"links":"any","dialect":"voluum","currency":"USD","auth":[{"secret_path":"v-secret-01234567"}]}"#,
    ),
    (
        "keitaro",
        r#"{"links":"any","dialect":"keitaro","currency":"USD","auth":[{"secret_path":"4f9a1c2d4f9a1c2d"}],"path_keys":["4f9a1c2d4f9a1c2d"]}"#,
    ),
    ("key/4f9a1c2d4f9a1c2d", r#"{"advertiser":"keitaro"}"#),
    (
        "everflow",
        r#"{"links":"any","dialect":"everflow","currency":"USD","auth":[{"secret_parameter":{"name":"verification_token","value":"e-secret-01234567"}}]}"#,
    ),
    ("key/321", r#"{"advertiser":"everflow"}"#),
    (
        "strict",
        r#"{"links":"any","dialect":"generic","currency":"USD","auth":[{"secret_path":"x-secret-01234567"}],"rounding":"refuse"}"#,
    ),
    (
        "comma",
        r#"{"links":"any","dialect":"generic","currency":"USD","auth":[{"secret_path":"x-secret-01234567"}],"decimal_comma":true}"#,
    ),
    (
        "point",
        r#"{"links":"any","dialect":"everflow","currency":"USD","auth":[{"secret_path":"x-secret-01234567"}],"decimal_comma":false,"rounding":"round_half_even"}"#,
    ),
    (
        "tune",
        r#"{"links":"any","dialect":"tune","currency":"USD","auth":[{"addresses":["203.0.113.0/24","2001:db8::/32"]}]}"#,
    ),
    (
        "affise",
        r#"{"links":"any","dialect":"affise","currency":"EUR","auth":[{"secret_parameter":{"name":"secure","value":"a-secret-01234567"}}]}"#,
    ),
    (
        "binom",
        r#"{"links":"any","dialect":"binom","currency":"USD","auth":[{"secret_path":"b-secret-01234567"}]}"#,
    ),
    (
        "redtrack",
        r#"{"links":"any","dialect":"redtrack","auth":[{"secret_path":"r-secret-01234567"}]}"#,
    ),
    (
        "cake",
        r#"{"links":"any","dialect":"cake","currency":"USD","auth":[{"secret_path":"c-secret-01234567"}],"answer":"1"}"#,
    ),
    (
        "own",
        r#"{"links":"any","dialect":"generic","currency":"USD","auth":[{"secret_path":"o-secret-01234567"}],"max_click_age_days":7,"parameters":{"click_id":"ref","payout":"commission"}}"#,
    ),
    (
        "query",
        r#"{"links":"any","dialect":"generic","currency":"USD","auth":[{"hmac":{"key":"a key of the advertiser","over":"query","parameter":"sig"}}]}"#,
    ),
    (
        "body",
        r#"{"links":"any","dialect":"generic","currency":"USD","auth":[{"hmac":{"key":"a key of the advertiser","over":"body","header":"x-signature","algorithm":"sha256"}}]}"#,
    ),
    (
        "both",
        r#"{"links":"any","dialect":"generic","currency":"USD","auth_mode":"all","auth":[{"secret_path":"s-secret-01234567"},{"addresses":["203.0.113.0/24"]}]}"#,
    ),
    ("open", r#"{"links":"any","dialect":"generic","auth":[]}"#),
    ("key/broken", "[]"),
    ("key/gone", r#"{"advertiser":"absent"}"#),
];

/// Entries as the edge's operator writes them.
pub(crate) fn entry(key: &str) -> Option<&'static [u8]> {
    let found = ENTRIES.iter().find(|(name, _)| *name == key);
    found.map(|(_, entry)| entry.as_bytes())
}

/// The links file: link 9 belongs to an offer, link 10 to another.
pub(crate) fn offer(link: LinkId) -> Option<String> {
    match link.0 {
        9 => Some("spring".into()),
        10 => Some("autumn".into()),
        _ => None,
    }
}

pub(crate) fn keys() -> Keys {
    Keys::parse(&format!("1:{},2:{}", "11".repeat(32), "22".repeat(32))).expect("keys")
}

/// The id of a click at `time`, signed with the key `key` whose bytes are all `byte`.
pub(crate) fn click_of(time: u64, key: u8, byte: u8) -> String {
    let id = KeyId::new(key).expect("key id");
    let ring = KeyRing::new(id, [(id, MacKey::new([byte; 32]))]).expect("ring");
    let parts = ClickIdParts {
        time: Micros(time),
        node: NodeId(7),
        lane: LaneId(1),
        seq: Seq(12_345),
        link: LinkId(9),
    };
    ring.sign(parts).to_string()
}

pub(crate) fn click() -> String {
    click_of(NOW.0 - DAY, 1, 0x11)
}

pub(crate) fn hmac(text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(HMAC_KEY.as_bytes()).expect("key");
    mac.update(text);
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}

/// A `GET` from 203.0.113.7.
pub(crate) fn get(target: &str) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Request {
        method: "GET".into(),
        path: path.into(),
        query: query.into(),
        client: Request::client_of("203.0.113.7:4711"),
        ..Request::default()
    }
}

/// A `POST`.
pub(crate) fn post(target: &str, content_type: &str, body: &str) -> Request {
    Request {
        method: "POST".into(),
        headers: vec![("content-type".into(), content_type.into())],
        body: body.into(),
        ..get(target)
    }
}

/// Runs the component's logic with the entries above as its store.
pub(crate) fn decide(request: &Request) -> Decision<Conversion<'static>> {
    let postback = match Postback::read(request) {
        Ok(postback) => postback,
        Err(refused) => return Decision::Refuse(refused),
    };
    let key = postback.key().to_owned();
    let (name, found) = match entry(&key) {
        Some(aliased) if key.starts_with("key/") => match alias(aliased) {
            Some(name) => (name.clone(), entry(&name)),
            None => (String::new(), Some(aliased)),
        },
        found => (key, found),
    };
    postback.decide(&name, found, &keys(), NOW, offer)
}

pub(crate) fn accepted(request: &Request) -> (Conversion<'static>, String) {
    match decide(request) {
        Decision::Accept(conversion, answer) => (conversion, answer),
        other => panic!("{request:?}: {other:?}"),
    }
}

pub(crate) fn refused(request: &Request) -> Refused {
    match decide(request) {
        Decision::Refuse(refused) => *refused,
        other => panic!("{request:?}: {other:?}"),
    }
}
