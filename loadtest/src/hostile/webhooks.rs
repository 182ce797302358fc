//! Authentic and forged webhooks of the KYC provider, like the postbacks in `attacks`.

use super::attacks::BuildCase;
use super::case::{Case, Expect, StoredKey};
use super::postbacks::{TestData, hmac};
use super::random::Random;
use super::request::{Request, json_string};
use super::senders::KYC_KEYS;

const PATH: &str = "/api/webhooks/kyc/verifymy";
const SIGNATURE: &str = "X-VerifyMy-Signature";
const TIMESTAMP: &str = "X-VerifyMy-Timestamp";
const DELIVERY: &str = "X-VerifyMy-Delivery";
const TAKEN: Expect = Expect::Accepted("OK\n");

/// The kinds with their weights.
pub(super) const KINDS: &[(usize, BuildCase)] = &[
    (60, authentic),
    (10, replayed),
    (50, wrong_signature),
    (20, signature_of_other_request),
    (30, altered),
    (40, outside_time_window),
    (20, duplicate_header),
    (40, malformed_body),
    (60, bad_field),
    (15, wrong_path_or_method),
];

/// A webhook before it is signed.
struct Webhook {
    time: String,
    body: String,
    delivery: String,
    key: &'static str,
}

impl Webhook {
    fn authentic_from(random: &mut Random, prefix: char, number: u64) -> Self {
        let delivery = format!("{prefix}{number}-{:08x}", random.next() as u32);
        let status = random.pick(&["pending", "approved", "rejected", "revoked", "expired"]);
        let body = body(
            random,
            &delivery,
            &format!("\"{status}\""),
            &random.clone().below(4).to_string(),
        );
        Self {
            time: seconds().to_string(),
            body,
            delivery,
            key: KYC_KEYS[random.below(2)],
        }
    }

    fn signature(&self) -> String {
        hmac(self.key, format!("{}.{}", self.time, self.body).as_bytes())
    }

    fn unsigned(&self, random: &mut Random) -> Request {
        let mut request = Request {
            method: "POST".into(),
            path: PATH.into(),
            body: self.body.clone().into_bytes(),
            chunked: random.once_in(5),
            ..Request::default()
        };
        request.header(TIMESTAMP, self.time.clone());
        if random.once_in(3) {
            request.header("Content-Type", "application/json");
        }
        if random.once_in(3) {
            request.header(DELIVERY, self.delivery.clone());
        }
        request
    }

    fn request(&self, random: &mut Random) -> Request {
        let mut request = self.unsigned(random);
        let signature = match random.below(3) {
            0 => format!("sha256={}", self.signature()),
            1 => self.signature().to_uppercase(),
            _ => self.signature(),
        };
        request.header(SIGNATURE, signature);
        request
    }

    fn stored_key(&self) -> StoredKey {
        StoredKey::Delivery(self.delivery.clone())
    }
}

/// A body; status and tier are given as JSON.
fn body(random: &mut Random, delivery: &str, status: &str, tier: &str) -> String {
    let affiliate = format!("affiliate-{}", random.below(500));
    let time = format!(
        "2026-{:02}-{:02}T{:02}:00:{:02}.{:03}Z",
        random.within(1, 9),
        random.within(1, 28),
        random.below(24),
        random.below(60),
        random.below(1_000)
    );
    let more = if random.once_in(3) {
        ", \"extra\": {\"a\": [1, null]}"
    } else {
        ""
    };
    format!(
        "{{\"id\": {}, \"affiliate_id\": {}, \"status\": {status}, \"tier\": {tier}, \
         \"occurred_at\": \"{time}\"{more}}}",
        json_string(delivery, random),
        json_string(&affiliate, random)
    )
}

pub(super) fn seconds() -> u64 {
    tracking_events::Micros::now().0 / 1_000_000
}

fn refused(kind: &'static str, request: &Request, by: &'static [u16], random: &mut Random) -> Case {
    Case::new(kind, request, Expect::Refused(by), random)
}

fn authentic(_: &TestData, random: &mut Random, number: u64) -> Case {
    let webhook = Webhook::authentic_from(random, 'k', number);
    let request = webhook.request(random);
    Case::new("webhook, authentic", &request, TAKEN, random).stored_as(webhook.stored_key())
}

fn replayed(_: &TestData, random: &mut Random, number: u64) -> Case {
    let webhook = Webhook::authentic_from(random, 'k', number);
    let request = webhook.request(random);
    let times = random.within(2, 3) as u32;
    let case = Case::new("webhook, authentic, sent again", &request, TAKEN, random);
    case.stored_as(webhook.stored_key()).times(times)
}

fn wrong_signature(_: &TestData, random: &mut Random, number: u64) -> Case {
    let webhook = Webhook::authentic_from(random, 'x', number);
    let right = webhook.signature();
    let mut bytes = right.clone().into_bytes();
    let at = random.below(64);
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    let value = |key: &str, text: String| hmac(key, text.as_bytes());
    let (time, body) = (&webhook.time, &webhook.body);
    let wrong = match random.below(10) {
        0 => right[..random.below(64)].to_owned(),
        1 => format!("{right}00"),
        2 => value("a key of another provider", format!("{time}.{body}")),
        3 => value("", format!("{time}.{body}")),
        4 => value(webhook.key, body.clone()),
        5 => value(webhook.key, format!("{time}{body}")),
        6 => value(webhook.key, format!("{body}.{time}")),
        7 => String::new(),
        8 => format!("v1={right}"),
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    };
    let mut request = webhook.unsigned(random);
    if !wrong.is_empty() || random.once_in(2) {
        request.header(SIGNATURE, wrong);
    }
    refused("webhook, wrong signature", &request, &[202], random)
}

fn signature_of_other_request(_: &TestData, random: &mut Random, number: u64) -> Case {
    let webhook = Webhook::authentic_from(random, 'x', number);
    let other = Webhook::authentic_from(random, 'y', number);
    let mut request = webhook.unsigned(random);
    request.header(SIGNATURE, other.signature());
    refused("webhook, signature of another", &request, &[202], random)
}

/// Changes the signed body or time.
fn altered(_: &TestData, random: &mut Random, number: u64) -> Case {
    let webhook = Webhook::authentic_from(random, 'x', number);
    let mut request = webhook.request(random);
    let at = random.below(request.body.len());
    match random.below(5) {
        0 => request.body[at] ^= 1 << random.below(8),
        1 => request.body.truncate(at),
        2 => request.body.push(b'\n'),
        3 => {
            let later = seconds() + 1 + random.below(100) as u64;
            request.replace(TIMESTAMP, later.to_string());
        }
        // The separator between time and body must not move.
        _ => {
            let (first, rest) = webhook.body.split_at(1);
            request.replace(TIMESTAMP, format!("{}.{first}", webhook.time));
            request.body = rest.into();
        }
    }
    refused("webhook, altered after signing", &request, &[202], random)
}

/// Replayed after the window, or signed with a future time.
fn outside_time_window(_: &TestData, random: &mut Random, number: u64) -> Case {
    let mut webhook = Webhook::authentic_from(random, 'x', number);
    let now = seconds();
    webhook.time = match random.below(9) {
        0 => (now - 400 - random.below(1_000_000) as u64).to_string(),
        // Further in the future than the duration of a run.
        1 => (now + 4_000 + random.below(1_000_000) as u64).to_string(),
        2 => format!("+{now}"),
        3 => format!("{now}.0"),
        4 => format!("-{now}"),
        5 => (now * 1_000).to_string(),
        6 => "18446744073709551616".into(),
        7 => String::new(),
        _ => format!("0x{now:x}"),
    };
    let request = webhook.request(random);
    refused("webhook, outside of the window", &request, &[203], random)
}

/// With two timestamps the signed one is ambiguous.
fn duplicate_header(_: &TestData, random: &mut Random, number: u64) -> Case {
    let webhook = Webhook::authentic_from(random, 'x', number);
    let mut request = webhook.request(random);
    request.header(TIMESTAMP, webhook.time.clone());
    refused("webhook, headers twice", &request, &[202], random)
}

/// Correctly signed, with an invalid body.
fn malformed_body(_: &TestData, random: &mut Random, number: u64) -> Case {
    let mut webhook = Webhook::authentic_from(random, 'x', number);
    let deep = random.within(100, 20_000);
    webhook.body = match random.below(9) {
        0 => String::new(),
        1 => "{}".into(),
        2 => "[".repeat(deep),
        3 => "{\"a\":".repeat(deep / 2),
        4 => format!("{} ", &webhook.body[..random.below(webhook.body.len())]),
        5 => format!("{}{}", webhook.body, webhook.body),
        6 => webhook.body.replacen("\"id\"", "\"id\": 1, \"id\"", 1),
        7 => format!("\u{feff}\u{feff}{}", webhook.body),
        _ => webhook.body.replacen("affiliate_id", "affiliate", 1),
    };
    let request = webhook.request(random);
    refused("webhook, no message", &request, &[205], random)
}

/// Correctly signed, with one invalid field.
fn bad_field(_: &TestData, random: &mut Random, number: u64) -> Case {
    let mut webhook = Webhook::authentic_from(random, 'x', number);
    let field = |name: &str, value: &str, webhook: &Webhook| {
        let begin = webhook.body.find(&format!("\"{name}\": ")).unwrap_or(0);
        let from = begin + name.len() + 4;
        let rest = &webhook.body[from..];
        let to = from + rest.find([',', '}']).unwrap_or(rest.len());
        format!("{}{value}{}", &webhook.body[..from], &webhook.body[to..])
    };
    let long = format!("\"{}\"", "y".repeat(random.within(129, 4_000)));
    let choices: [(&str, &str, &'static [u16]); 20] = [
        ("tier", "4", &[210]),
        ("tier", "255", &[210]),
        ("tier", "256", &[205]),
        ("tier", "-1", &[205]),
        ("tier", "1.0", &[205]),
        ("tier", "\"1\"", &[205]),
        ("tier", "1e0", &[205]),
        ("status", "\"Approved\"", &[209]),
        ("status", "\"approved \"", &[209]),
        ("status", "\"\"", &[209]),
        ("status", "null", &[205]),
        ("affiliate_id", "\"\"", &[208]),
        ("affiliate_id", &long, &[208]),
        ("affiliate_id", "\"a\\u0000b\"", &[208]),
        ("affiliate_id", "\"\\u009f\"", &[208]),
        ("occurred_at", "\"yesterday\"", &[211]),
        ("occurred_at", "\"2126-01-01T00:00:00Z\"", &[211]),
        ("occurred_at", "\"1969-12-31T23:59:59Z\"", &[211]),
        ("occurred_at", "\"2026-01-01 00:00\"", &[211]),
        ("occurred_at", "1767225600", &[205]),
    ];
    let by = match random.below(choices.len() + 4) {
        at if at < choices.len() => {
            let (name, value, by) = choices[at];
            webhook.body = field(name, value, &webhook);
            by
        }
        at if at == choices.len() => {
            webhook.body = field("id", &long, &webhook);
            &[207]
        }
        at if at == choices.len() + 1 => {
            webhook.body = field("id", "\"\"", &webhook);
            &[207]
        }
        at if at == choices.len() + 2 => {
            webhook.body = field("id", "\"a\\nb\"", &webhook);
            &[207]
        }
        _ => {
            let mut request = webhook.request(random);
            request.replace(DELIVERY, "another");
            return refused("webhook, bad field", &request, &[207], random);
        }
    };
    let mut request = webhook.request(random);
    request.headers.retain(|(name, _)| name != DELIVERY);
    refused("webhook, bad field", &request, by, random)
}

fn wrong_path_or_method(_: &TestData, random: &mut Random, number: u64) -> Case {
    let webhook = Webhook::authentic_from(random, 'x', number);
    let mut request = webhook.request(random);
    let by: &[u16] = match random.below(4) {
        0 => {
            request.path.push('/');
            &[200]
        }
        1 => {
            request.path = request.path.to_uppercase();
            &[1, 4]
        }
        2 => {
            request.path = format!("{PATH}/more");
            &[1, 4]
        }
        _ => {
            request.method = (*random.pick(&["PUT", "DELETE", "PATCH", "OPTIONS"])).into();
            &[201]
        }
    };
    refused("webhook, elsewhere", &request, by, random)
}
