//! Advertisers' postbacks and the files that define advertisers. Invariants: nothing is accepted without proof,
//! amounts are exact, and records of a rejection do not depend on a secret.

use crate::input::Input;
use data_encoding::HEXLOWER;
use domain::{ConversionKind, ConversionStatus, LaneId, LinkId, Micros, NodeId, Seq};
use hmac::{Hmac, Mac as _};
use postback::{Decision, Keys, Postback, Reason, Refused, Request};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use tracker_api::{Conversion, SignedRequest};
use tracking_events::{ClickId, ClickIdParts, KeyId, KeyRing, MacKey};

pub(crate) const NOW: Micros = Micros(1_795_000_000_000_000);
const DAY: u64 = 86_400_000_000;
pub(crate) const FUTURE: u64 = 300_000_000;
const CLIENT: &str = "203.0.113.7";
/// Placeholder of a signature that the target computes.
pub(crate) const SIGN: &str = "SIGN";
const MAX_MINOR: u128 = 1_000_000_000_000;

/// A sender's name, its entry, and its proof.
type Sender = (&'static str, &'static str, Proof);

#[derive(Debug, Clone, Copy)]
enum Proof {
    Path(&'static str),
    Parameter(&'static str, &'static str),
    Query(&'static str),
    Body(&'static str),
    Address,
}

const SENDERS: &[Sender] = &[
    (
        "generic",
        r#"{"links":"any","dialect":"generic","currency":"USD","auth":[{"secret_parameter":{"name":"token","value":"generic-secret-of-bytes"}}]}"#,
        Proof::Parameter("token", "generic-secret-of-bytes"),
    ),
    (
        "voluum",
        r#"{"links":"any","dialect":"voluum","currency":"KWD","auth":[{"secret_path":"voluum-secret-of-bytes"}]}"#,
        Proof::Path("voluum-secret-of-bytes"),
    ),
    (
        "keitaro",
        r#"{"links":"any","dialect":"keitaro","currency":"USD","auth":[{"secret_path":"keitaro-secret-of-bytes"}]}"#,
        Proof::Path("keitaro-secret-of-bytes"),
    ),
    (
        "affise",
        r#"{"links":"any","dialect":"affise","currency":"JPY","auth":[{"secret_path":"affise-secret-of-bytes"}]}"#,
        Proof::Path("affise-secret-of-bytes"),
    ),
    (
        "tune",
        r#"{"links":"any","dialect":"tune","currency":"USD","auth":[{"addresses":["203.0.113.0/24"]}]}"#,
        Proof::Address,
    ),
    (
        "query",
        r#"{"links":"any","dialect":"generic","currency":"USD","auth":[{"hmac":{"key":"the key of queries","over":"query","parameter":"sig"}}]}"#,
        Proof::Query("the key of queries"),
    ),
    (
        "body",
        r#"{"links":"any","dialect":"generic","currency":"USD","auth":[{"hmac":{"key":"the key of bodies","over":"body","header":"x-signature"}}]}"#,
        Proof::Body("the key of bodies"),
    ),
];

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let keys = Keys::parse(&format!("1:{}", "11".repeat(32)));
    keys.expect("64 digits are a key")
});
static RING: LazyLock<KeyRing> = LazyLock::new(|| ring(0x11));

fn ring(byte: u8) -> KeyRing {
    let id = KeyId::new(1).expect("below 32");
    KeyRing::new(id, [(id, MacKey::new([byte; 32]))]).expect("it is among them")
}

fn click_of(ring: &KeyRing, time: u64) -> String {
    let parts = ClickIdParts {
        time: Micros(time),
        node: NodeId(7),
        lane: LaneId(1),
        seq: Seq(12_345),
        link: LinkId(9),
    };
    ring.sign(parts).to_string()
}

pub(crate) fn hmac(key: &str, parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("of any length");
    parts.iter().for_each(|part| mac.update(part));
    HEXLOWER.encode(&mac.finalize().into_bytes())
}

/// Properties of every rejection.
pub(crate) fn check_rejection(refused: &Refused) {
    let rejection = &refused.rejection;
    let known = |reason: &&Reason| reason.number() == rejection.reason;
    let reason = Reason::ALL.iter().find(known).expect("it has a number");
    assert_eq!(
        (refused.status, rejection.status),
        (reason.status(), reason.status())
    );
    assert_eq!(rejection.reason_name, reason.name());
    let begins = format!("refused: {} {}: ", reason.number(), reason.name());
    assert!(refused.body.starts_with(&begins), "{}", refused.body);
    assert!(refused.body.len() <= 256 && refused.body.ends_with('\n'));
    assert!(rejection.request.chars().count() <= 1_024);
    for text in [&rejection.request, &rejection.detail, &rejection.party] {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

/// Method and target, content type and signature in one line each, then the body.
pub(crate) fn postback(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(4, '\n');
    let (first, kind) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let (signature, body) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let (method, target) = first.split_once(' ').unwrap_or((first, ""));
    let mut request = request(method, target, kind, signature, body);
    for from in [CLIENT, "198.51.100.1"] {
        request.client = from.parse().ok();
        match decide(&request) {
            Decision::Refuse(refused) => check_rejection(&refused),
            Decision::Acknowledge(response) => assert!(response.len() <= 256, "{response}"),
            Decision::Accept(conversion, response) => {
                assert!(response.len() <= 256, "{response}");
                check_accepted(&request, &conversion);
            }
        }
    }
    check_secret_independence(&request);
}

fn request(method: &str, target: &str, kind: &str, signature: &str, body: &str) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut query = query.to_owned();
    let mut signature = signature.to_owned();
    if signature == SIGN {
        signature = hmac("the key of bodies", &[body.as_bytes()]);
        let digits = hmac("the key of queries", &[query.as_bytes()]);
        if path.contains("/query") {
            query = format!("{query}&sig={digits}");
        }
    }
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Request {
        method: method.into(),
        path: path.into(),
        query,
        headers: vec![
            header("content-type", kind),
            header("x-signature", &signature),
        ],
        body: body.into(),
        ..Request::default()
    }
}

fn decide(request: &Request) -> Decision<Conversion<'static>> {
    match Postback::read(request) {
        Err(refused) => Decision::Refuse(refused),
        Ok(postback) => {
            let key = postback.key();
            let name = key.strip_prefix("key/").map_or(key, |_| "keitaro");
            let entry = SENDERS.iter().find(|(known, ..)| *known == name);
            postback.decide(name, entry.map(|it| it.1.as_bytes()), &KEYS, NOW, |_| None)
        }
    }
}

/// An accepted conversion has a click signed by us, a proven sender, and only values that were sent.
fn check_accepted(request: &Request, conversion: &Conversion<'_>) {
    let sender = SENDERS.iter().find(|it| it.0 == conversion.advertiser);
    let (_, _, proof) = sender.expect("only known senders");
    let proof = *proof;
    let id = ClickId::parse(conversion.click_id.as_bytes()).expect("click id");
    let parts = RING.verify(&id).expect("ours");
    assert!(parts.time.0 <= NOW.0 + FUTURE && parts.time.0 + 90 * DAY >= NOW.0);
    let sent = sent(request);
    assert!(proves(proof, request, &sent), "{request:?}");
    let says = |text: &str| sent.iter().any(|(_, value)| value == text);
    assert!(says(&conversion.click_id), "{request:?}");
    for text in [&conversion.transaction, &conversion.kind_name] {
        assert!(text.is_empty() || says(text), "{text:?} of {request:?}");
    }
    assert!(conversion.transaction.len() <= 128 && conversion.kind_name.len() <= 64);
    assert!(ConversionKind::from_name(&conversion.kind).is_some());
    assert!(ConversionStatus::from_name(&conversion.status).is_some());
    let code = &*conversion.currency;
    assert!(code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()));
    let minor = u128::try_from(conversion.payout_minor).expect("never negative");
    assert!(minor <= MAX_MINOR);
    // The amount equals a sent one, in a currency with two, three or no decimals.
    let is_that = |(_, value): &(String, String)| {
        let value = value.strip_prefix('-').unwrap_or(value);
        let decimals = [0, 2, 3, 4];
        decimals
            .iter()
            .any(|decimals| reference_amount(value, *decimals) == Some(minor))
    };
    assert!(
        minor == 0 || sent.iter().any(is_that),
        "{minor} of {request:?}"
    );
    assert_eq!(conversion.address, request.client_text());
    // A second verification finds the same conversion from the signed request alone.
    if let Some(signed) = &conversion.signed {
        assert!(signed.size_bytes() <= tracker_api::MAX_SIGNED_BYTES);
        let request = received(signed);
        let (name, entry, _) = sender.expect("known");
        let postback = Postback::read(&request).expect("it was read before");
        let verified = postback.verify(name, Some(entry.as_bytes()), &KEYS, NOW, |_| None);
        let expected = Conversion {
            address: "".into(),
            signed: None,
            ..conversion.clone()
        };
        let found = verified.map(|it| it.conversion);
        assert_eq!(found, Ok(expected), "{request:?}");
    }
    assert_eq!(
        conversion.signed.is_some(),
        matches!(proof, Proof::Query(_) | Proof::Body(_))
    );
    // It can be serialised and sent on unchanged.
    let message = serde_json::to_string(conversion).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Conversion<'_>>(&message)
            .ok()
            .as_ref(),
        Some(conversion)
    );
}

fn received(signed: &SignedRequest<'_>) -> Request {
    let headers = signed.headers.iter();
    Request {
        method: signed.method.clone().into_owned(),
        path: signed.path.clone().into_owned(),
        query: signed.query.clone().into_owned(),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        body: signed.body.clone(),
        ..Request::default()
    }
}

/// All names and values, parsed by other libraries than the function's.
fn sent(request: &Request) -> Vec<(String, String)> {
    let form = |text: &[u8]| {
        let pairs = url::form_urlencoded::parse(text);
        pairs.into_owned().collect::<Vec<_>>()
    };
    let mut sent = form(request.query.as_bytes());
    let body = request.body.strip_prefix(b"\xef\xbb\xbf");
    let body = body.unwrap_or(&request.body);
    sent.extend(form(body));
    sent.extend(form(body.trim_ascii_end()));
    for (name, _) in &mut sent {
        *name = name.trim_start_matches("amp;").to_owned();
    }
    let text = String::from_utf8_lossy(body);
    let json: Result<BTreeMap<String, Box<serde_json::value::RawValue>>, _> =
        serde_json::from_str(&text);
    for (name, value) in json.into_iter().flatten() {
        let raw = value.get().to_owned();
        sent.push((name, serde_json::from_str(&raw).unwrap_or(raw)));
    }
    sent
}

fn proves(proof: Proof, request: &Request, sent: &[(String, String)]) -> bool {
    match proof {
        Proof::Path(secret) => {
            let segments = request.path.split('/');
            let decoded = |text: &str| {
                let text = text.replace('+', "%2B");
                let mut pairs = url::form_urlencoded::parse(text.as_bytes());
                pairs.next().map(|(name, _)| name.into_owned())
            };
            segments
                .into_iter()
                .any(|it| decoded(it).as_deref() == Some(secret))
        }
        Proof::Parameter(name, secret) => sent
            .iter()
            .any(|it| it.0.eq_ignore_ascii_case(name) && it.1 == secret),
        Proof::Query(key) => {
            let name = |pair: &&str| {
                let name = pair.to_ascii_lowercase();
                !name.trim_start_matches("amp;").starts_with("sig")
            };
            let signed: Vec<&str> = request.query.split('&').filter(name).collect();
            // Of several parameters with this prefix only one is the signature.
            let beginning = request.query.split('&').filter(|it| !name(it)).count();
            let digits = hmac(key, &[signed.join("&").as_bytes()]);
            beginning > 1 || sent.iter().any(|it| it.1.to_lowercase().ends_with(&digits))
        }
        Proof::Body(key) => {
            let digits = hmac(key, &[&request.body]);
            let mut headers = request.headers.iter();
            headers.any(|(_, value)| value.to_lowercase().ends_with(&digits))
        }
        Proof::Address => request.client_text() == CLIENT,
    }
}

/// Records and responses are the same for any wrong secret.
fn check_secret_independence(request: &Request) {
    let path = match request
        .path
        .trim_matches('/')
        .split('/')
        .collect::<Vec<_>>()[..]
    {
        ["postback", name] | ["postback", name, _] => format!("/postback/{name}"),
        _ => return,
    };
    let with = |secret: &str| {
        let path = format!("{path}/{secret}");
        let query = format!("token={secret}&{}&sig={secret}", request.query);
        let mut headers = request.headers.clone();
        headers[1].1 = secret.into();
        let request = Request {
            path,
            query,
            headers,
            client: None,
            ..request.clone()
        };
        match decide(&request) {
            Decision::Refuse(refused) => Some(refused),
            Decision::Accept(..) | Decision::Acknowledge(_) => None,
        }
    };
    let guesses = [
        with("0123456789abcdef"),
        with("a-much-longer-guess.of-it_0000000000"),
    ];
    let [Some(one), Some(other)] = guesses else {
        panic!("a guess was accepted: {request:?}");
    };
    // If the query is nearly too long, the longer guess is rejected for its length.
    if one.rejection.reason == other.rejection.reason {
        assert_eq!(one, other);
    }
}

/// A second parser of unsigned amounts: rounds to millionths and then to minor units, each time half to even.
fn reference_amount(text: &str, decimals: usize) -> Option<u128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{part}");
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() > 64 || !is_number {
        return None;
    }
    let padded = format!("{part:0<7}");
    let (six, dust) = padded.split_at(6);
    let middle = format!("{:0<width$}", "5", width = dust.len());
    let millionths: u128 = format!("{whole}{six}").parse().ok()?;
    let is_up = dust > middle.as_str() || dust == middle && millionths % 2 == 1;
    let millionths = millionths + u128::from(is_up);
    let minor = 10_u128.pow(6 - u32::try_from(decimals).ok()?);
    let (units, rest) = (millionths / minor, 2 * (millionths % minor));
    let units = units + u128::from(rest > minor || rest == minor && units % 2 == 1);
    (units <= MAX_MINOR).then_some(units)
}

/// A currency's three letters, then an amount.
pub(crate) fn money(bytes: &[u8]) {
    let mut input = Input(bytes);
    let code = String::from_utf8_lossy(input.take(3)).into_owned();
    let text = String::from_utf8_lossy(input.0).into_owned();
    let escaped = |text: &str| {
        let each = text.bytes().map(|byte| format!("%{byte:02x}"));
        each.collect::<String>()
    };
    let target = format!(
        "/postback/voluum/voluum-secret-of-bytes?cid={}&payout={}&currency={}",
        click_of(&RING, NOW.0 - DAY),
        escaped(&text),
        escaped(&code)
    );
    let decimals = match code.to_ascii_uppercase().as_str() {
        "JPY" | "CLP" => 0,
        "USD" | "EUR" | "GBP" => 2,
        "KWD" | "BHD" => 3,
        _ => return,
    };
    let expected = match text.strip_prefix('-') {
        // Reversals change no amount here.
        Some(amount) => reference_amount(amount, decimals).filter(|minor| *minor == 0),
        None if text.is_empty() => Some(0),
        None => reference_amount(&text, decimals),
    };
    let is_none = |it: &Refused| matches!(it.rejection.reason, 109 | 112 | 113 | 115);
    match decide(&request("GET", &target, "", "", "")) {
        Decision::Accept(conversion, _) => {
            let minor = u128::try_from(conversion.payout_minor).ok();
            assert_eq!(minor, expected, "{text:?} {code}");
            assert_eq!(conversion.currency, code.to_ascii_uppercase());
            let digits = format!("{:0>width$}", conversion.payout_minor, width = decimals + 1);
            let (whole, part) = digits.split_at(digits.len() - decimals);
            assert_eq!(
                reference_amount(&format!("{whole}.{part}"), decimals),
                minor
            );
        }
        Decision::Acknowledge(response) => {
            panic!("a sale without a status was acknowledged: {response}")
        }
        Decision::Refuse(refused) => {
            assert!(is_none(&refused), "{refused:?}");
            assert_eq!(expected, None, "{text:?} {code} was refused: {refused:?}");
        }
    }
}

/// `advertisers.toml`, or after a NUL byte one entry of the store.
pub(crate) fn advertisers(bytes: &[u8]) {
    if let Some(entry) = bytes.strip_prefix(b"\0") {
        return check_unproven_sender(entry);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match postback::entries(text) {
        Err(mistakes) => {
            for mistake in mistakes {
                let path = std::path::Path::new("advertisers.toml");
                let (offset, message) = (mistake.offset, &mistake.message);
                let shown = daemon::settings::redacted_error_at(path, text, offset, message);
                let shown = shown.to_string();
                assert!(names_secret(text) || !shown.contains("S3CRET"), "{shown}");
            }
        }
        Ok(entries) => {
            let tables: toml::Table = toml::from_str(text).expect("read before");
            for (name, table) in &tables {
                let entry = entries.get(name).expect("each has an entry");
                check_unproven_sender(entry);
                let keys = table.get("path_keys").and_then(toml::Value::as_array);
                for key in keys.into_iter().flatten().filter_map(toml::Value::as_str) {
                    let found = entries.get(&format!("key/{key}")).expect("each key leads");
                    assert_eq!(postback::alias(found).as_deref(), Some(name.as_str()));
                }
            }
        }
    }
}

/// Whether the marker is part of a key, which errors show so that a typo can be found.
fn names_secret(text: &str) -> bool {
    let after = |line: &str| {
        line.rsplit_once("S3CRET")
            .is_some_and(|(_, it)| it.contains('='))
    };
    let is_header = |line: &str| line.trim_start().starts_with('[') && line.contains("S3CRET");
    text.lines().any(|line| is_header(line) || after(line))
}

/// An entry accepts no request without proof, and errors of an entry do not quote it.
fn check_unproven_sender(entry: &[u8]) {
    let click = click_of(&RING, NOW.0 - DAY);
    let names = [
        "click_id",
        "cid",
        "subid",
        "transaction_id",
        "clickid",
        "cnv_id",
        "r",
    ];
    let pairs: Vec<String> = names.iter().map(|name| format!("{name}={click}")).collect();
    let target = format!("/postback/somebody?{}&currency=USD", pairs.join("&"));
    let request = request("GET", &target, "", "", "");
    let postback = Postback::read(&request).expect("postback");
    match postback.decide("somebody", Some(entry), &KEYS, NOW, |_| None) {
        Decision::Accept(conversion, _) => panic!("an unknown sender was accepted: {conversion:?}"),
        Decision::Acknowledge(response) => panic!("an unknown sender was accepted: {response}"),
        Decision::Refuse(refused) => {
            check_rejection(&refused);
            assert!(matches!(refused.rejection.reason, 102 | 103), "{refused:?}");
            assert!(!refused.rejection.detail.contains("S3CRET"), "{refused:?}");
        }
    }
}

pub(crate) mod seeds {
    //! Requests of advertisers and files of operators.

    use super::{DAY, NOW, RING, click_of, ring};

    pub(crate) fn postback() -> Vec<Vec<u8>> {
        let id = click_of(&RING, NOW.0 - DAY);
        let foreign = click_of(&ring(0x22), NOW.0 - DAY);
        let old = click_of(&RING, NOW.0 - 100 * DAY);
        let (form, json) = ("application/x-www-form-urlencoded", "application/json");
        let seeds = [
            format!(
                "GET /postback/generic?token=generic-secret-of-bytes&click_id={id}&payout=19.99&transaction_id=a1&event=lead&status=pending\n\n\n"
            ),
            format!(
                "GET /postback/voluum/voluum-secret-of-bytes?cid={id}&payout=1.234&txid=v%201&et=Signup%2B&currency=usd\n\n\n"
            ),
            format!(
                "GET /keitaro-secret-of-bytes/postback?subid={id}&status=sale&payout=5&tid=k1&sale_status=won,closed\n\n\n"
            ),
            format!(
                "GET /postback/affise/affise-secret-of-bytes?clickid={id}&action_id=f1&sum=30&status=5&goal=2\n\n\n"
            ),
            format!("GET /aff_lsr?adv=tune&transaction_id={id}&amount=7.25&adv_sub=t1\n\n\n"),
            format!("GET /postback/query?click_id={id}&payout=1&payout=1\n\nSIGN\n"),
            format!(
                "POST /postback/body?click_id={foreign}\n{json}\nSIGN\n{{\"click_id\": \"{id}\", \"payout\": 1.50, \"transaction_id\": \"x\\u0041\"}}"
            ),
            format!(
                "POST /postback/body\n{form}; charset=utf-8\nSIGN\nclick_id={id}&payout=.5&currency=EUR\n"
            ),
            format!(
                "POST /postback/generic?token=generic-secret-of-bytes\n{form}\n\nclick_id={id}&payout=%7Bpayout%7D"
            ),
            format!("GET /postback/voluum/voluum-secret-of-bytes?cid={foreign}\n\n\n"),
            format!(
                "GET /postback/voluum/voluum-secret-of-bytes?cid={id}&amp;payout=-19.990000000000002&amp;et=refund&note=%CF%0A\n\n\n"
            ),
            format!(
                "GET /keitaro-secret-of-bytes/postback?subid={id}&status=ping&ignore_status=ping,test&return=OK\n\n\n"
            ),
            format!("GET /reversal?adv=tune&transaction_id={id}&amount=2\n\n\n"),
            format!(
                "POST /postback/body\n{json}\nSIGN\n\u{feff}{{\"click_id\": \"{id}\", \"payout\": 0.4375, \"lines\": [{{\"a\": 1}}]}}"
            ),
            format!("GET /postback/voluum/voluum%2Dsecret-of-bytes?cid={old}\n\n\n"),
            format!(
                "GET /postback/generic?token=generic-secret-of-bytes&token=x&click_id={id}\n\n\n"
            ),
            format!(
                "PUT /p.ashx?adv=absent&r={id}&t=1&p=2&email=a@b.example\ntext/plain\nsha256=00\nabc"
            ),
        ];
        seeds.map(String::into_bytes).into()
    }

    pub(crate) fn money() -> Vec<Vec<u8>> {
        let seeds = [
            "USD19.99",
            "usd0.5",
            "EUR.5",
            "JPY1500",
            "JPY1500.00",
            "KWD1.234",
            "KWD1.2345",
            "USD-1",
            "USD1e3",
            "USD1,50",
            "USD10000000000.00",
            "USD10000000000.01",
            "GBP",
            "CLP0000000000000000000000000",
            "BHD92233720368547758.08",
            "EUR1.9900000000",
            "USD0.4375",
            "USD0.435",
            "USD457.31999999999999",
            "KWD0.0005000001",
        ];
        seeds.map(|text| text.as_bytes().to_vec()).into()
    }

    pub(crate) fn advertisers() -> Vec<Vec<u8>> {
        let files = [
            "[acme]\ndialect = \"voluum\"\ncurrency = \"USD\"\nauth = [{ secret_path = \"S3CRET of 16 bytes\" }]\npath_keys = [\"4f9a1c2\"]\nmax_click_age_days = 90\nstatus_words = { approved = [\"1\"] }\nevent_words = { lead = [\"17\"] }\nparameters = { click_id = \"ref\" }\nanswer = \"OK\"\n",
            "[a]\ndialect = \"cake\"\nauth = [{ secret_parameter = { name = \"token\", value = \"S3CRET of 16 bytes\" } }, { addresses = [\"203.0.113.0/24\"] }]\nauth_mode = \"all\"\n[b]\ndialect = \"generic\"\nauth = [{ hmac = { key = \"S3CRET of 16 bytes\", over = \"query\", parameter = \"sig\" } }]\n",
            "[a]\npath_keys = [\"k\"]\n[b]\npath_keys = [\"k\"]\n",
            "[a]\npath_keys = [\"k\"]\n[\"key/k\"]\ndialect = \"generic\"\n",
            "[z]\nauth = [{ secret_path = S3CRET }]\n",
            "\0{\"dialect\":\"generic\",\"auth\":[{\"secret_path\":\"S3CRET of 16 bytes\"}]}",
            "\0{\"dialect\":\"generic\",\"auth\":[{\"addresses\":[\"0.0.0.0/0\"]}],\"auth_mode\":\"any\"}",
            "\0{\"dialect\":\"S3CRET of 16 bytes\",\"auth\":[{\"hmac\":{\"key\":\"S3CRET of 16 bytes\",\"over\":\"body\",\"header\":\"\"}}]}",
        ];
        files.map(|text| text.as_bytes().to_vec()).into()
    }
}
