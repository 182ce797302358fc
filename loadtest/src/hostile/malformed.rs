//! Requests that HTTP, forms and JSON allow but no sender writes, and authentic requests with random byte changes,
//! for which this file decides whether they are still authentic.

use super::attacks::BuildCase;
use super::case::{Case, Expect, StoredKey};
use super::postbacks::{ParameterLocation, Postback, TestData, hmac};
use super::random::Random;
use super::request::Request;
use super::senders::{Proof, Sender};
use percent_encoding::percent_decode;
use tracking_events::{CLICK_ID_CHARS, ClickId, OLD_CLICK_ID_CHARS};

/// The kinds with their weights.
pub(super) const KINDS: &[(usize, BuildCase)] = &[
    (120, mutated_bytes),
    (50, unexpected_json),
    (30, unsupported_content_type),
    (30, unsupported_method),
    (30, unusual_but_valid),
    (8, long_body),
    (8, broken_chunks),
    (12, not_http),
];

/// Bytes that a target may contain.
const TARGET: &[u8] = b"abcxyzABCXYZ0189-._~!$&'()*+,;=:@/?%{}[]|";

/// Senders whose requests are authenticated by a secret alone.
fn has_secret(sender: &Sender) -> bool {
    matches!(sender.proof, Proof::Path(_) | Proof::Parameter(..))
}

fn refused(kind: &'static str, request: &Request, by: &'static [u16], random: &mut Random) -> Case {
    Case::new(kind, request, Expect::Refused(by), random)
}

fn mutated_bytes(data: &TestData, random: &mut Random, number: u64) -> Case {
    let postback = Postback::authentic_from(data, random, 'm', number, |_| true);
    let mut request = postback.request(random);
    for _ in 0..random.within(1, 4) {
        match random.below(4) {
            0 if request.path.len() > 1 => {
                let mut text = request.path.split_off(1).into_bytes();
                mutate(&mut text, random);
                request.path.push_str(&String::from_utf8_lossy(&text));
            }
            1 | 2 if !request.body.is_empty() => mutate(&mut request.body, random),
            _ => {
                let mut text = std::mem::take(&mut request.query).into_bytes();
                mutate(&mut text, random);
                request.query = String::from_utf8_lossy(&text).into_owned();
            }
        }
    }
    let authentic = is_authentic(data, postback.sender, &request);
    let expect = Expect::Mutated { authentic };
    Case::new("bytes changed at random", &request, expect, random)
}

fn mutate(text: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(text.len() + 1);
    let end = (at + random.below(12)).min(text.len());
    match random.below(5) {
        0 if at < text.len() => text[at] = *random.pick(TARGET),
        1 => drop(text.drain(at..end)),
        2 => {
            let retries = text[at..end].to_vec();
            drop(text.splice(at..at, retries));
        }
        3 if at < text.len() => {
            let other = end.min(text.len() - 1);
            text.swap(at, other);
        }
        _ => text.insert(at, *random.pick(TARGET)),
    }
}

/// Whether the request still contains the sender's proof and a click of this deployment.
fn is_authentic(data: &TestData, sender: &Sender, request: &Request) -> bool {
    let target = request.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let parameters = [decoded(query.as_bytes()), decoded(&request.body)].concat();
    let clicks = [CLICK_ID_CHARS, OLD_CLICK_ID_CHARS]
        .into_iter()
        .flat_map(|chars| parameters.windows(chars))
        .any(|text| ClickId::parse(text).is_ok_and(|id| data.ring.verify(&id).is_ok()));
    let within =
        |text: &[u8], secret: &str| text.windows(secret.len()).any(|it| it == secret.as_bytes());
    let in_path = |secret: &str| within(&decoded(path.as_bytes()), secret);
    clicks
        && match sender.proof {
            Proof::Path(secret) | Proof::PathKey(secret) => in_path(secret),
            Proof::Parameter(_, secret) => within(&parameters, secret),
            Proof::Query(key) => query_is_signed(query, &request.body, key),
            Proof::Body(key) => {
                let signature = hmac(key, &request.body);
                let mut headers = request.headers.iter();
                headers.any(|(_, value)| value.to_lowercase().ends_with(&signature))
            }
            Proof::Network => true,
            Proof::Both(secret, key) => {
                in_path(secret) && query_is_signed(query, &request.body, key)
            }
        }
}

/// Whether any value in the request is the signature of the rest of the query.
fn query_is_signed(query: &str, body: &[u8], key: &str) -> bool {
    let named = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        name.eq_ignore_ascii_case("sig")
    };
    let signed: Vec<&str> = query.split('&').filter(|it| !named(it)).collect();
    let signature = hmac(key, signed.join("&").as_bytes());
    let parameters = [decoded(query.as_bytes()), decoded(body)].concat();
    let parameters = String::from_utf8_lossy(&parameters).to_lowercase();
    parameters.contains(&signature)
}

/// Decodes escapes of forms and JSON, so that no occurrence is missed.
fn decoded(text: &[u8]) -> Vec<u8> {
    let plain: Vec<u8> = percent_decode(text).collect();
    let mut out = Vec::new();
    let mut rest = &plain[..];
    while let Some((first, after)) = rest.split_first() {
        let unit = after.strip_prefix(b"u").and_then(|hex| hex.get(..4));
        let unit = unit.and_then(|hex| std::str::from_utf8(hex).ok());
        let unit = unit.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match unit.filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &after[5..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// A JSON body that is no object, has a duplicate key, or has another type where a string is read.
fn unexpected_json(data: &TestData, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::authentic_from(data, random, 'x', number, has_secret);
    postback.location = ParameterLocation::Json;
    let mut request = postback.request(random);
    let deep = random.within(2, 30_000);
    let (click, read) = (postback.sender.click, postback.sender.transaction);
    let inner = String::from_utf8_lossy(&request.body).into_owned();
    let inner = inner.trim_start_matches('{').trim_end_matches('}');
    let with = |field: &str| format!("{{{inner}, {field}}}").into_bytes();
    let (body, by): (Vec<u8>, &[u16]) = match random.below(15) {
        0 => ("[".repeat(deep).into(), &[115]),
        1 => ("{\"a\":".repeat(deep / 3).into(), &[115]),
        2 => (
            with(&format!(
                "\"{read}\": {}1{}",
                "[".repeat(deep / 2),
                "]".repeat(deep / 2)
            )),
            &[115],
        ),
        3 => (format!("[{{{inner}}}]").into(), &[115]),
        4 => (with(&format!("\"{read}\": {{\"y\": 1}}")), &[115]),
        5 => (with(&format!("\"{click}\": \"somebody else's\"")), &[119]),
        6 => (with(&format!("\"{}\": 1", click.to_uppercase())), &[119]),
        7 => (with(&format!("\"{read}\": \"\\ud800\"")), &[115]),
        8 => (with(&format!("\"{read}\": \"\\u0000\"")), &[115]),
        9 => (format!("\u{feff}\u{feff}{{{inner}}}").into(), &[115]),
        10 => (format!("{{{inner}}}{{{inner}}}").into(), &[115]),
        11 => (format!("{{{inner},}}").into(), &[115]),
        12 => {
            let started = format!("{{{inner}, \"{read}\": \"");
            ([started.as_bytes(), b"\xff\xfe\"}"].concat(), &[115])
        }
        13 => (format!("{{{inner}, 'x': 1}}").into(), &[115]),
        _ => (b"nul".to_vec(), &[115]),
    };
    request.body = body;
    refused("unexpected JSON", &request, by, random)
}

fn unsupported_content_type(data: &TestData, random: &mut Random, number: u64) -> Case {
    const KINDS: &[&str] = &[
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/json-patch+json",
        "application/octet-stream",
        "application/x-www-form-urlencoded2",
        "x",
        "application/json, text/plain",
    ];
    let mut postback = Postback::authentic_from(data, random, 'x', number, has_secret);
    postback.location = ParameterLocation::Form;
    let mut request = postback.request(random);
    request.replace("Content-Type", *random.pick(KINDS));
    refused("body of another type", &request, &[117], random)
}

fn unsupported_method(data: &TestData, random: &mut Random, number: u64) -> Case {
    const METHODS: &[&str] = &[
        "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "get", "POSTS", "PROPFIND", "M-SEARCH",
        "TRACE",
    ];
    let postback = Postback::authentic_from(data, random, 'x', number, has_secret);
    let mut request = postback.request(random);
    request.method = (*random.pick(METHODS)).into();
    refused("unsupported method", &request, &[118], random)
}

/// Authentic requests in unusual but valid forms.
fn unusual_but_valid(data: &TestData, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::authentic_from(data, random, 's', number, |_| true);
    let signed = !matches!(
        postback.sender.proof,
        Proof::Path(_) | Proof::PathKey(_) | Proof::Parameter(..) | Proof::Network
    );
    let shout = random.once_in(3);
    for (name, _) in postback.parameters.iter_mut().filter(|_| shout) {
        name.make_ascii_uppercase();
    }
    let mut request = postback.request(random);
    match random.below(7) {
        0 => request.path = format!("http://edge{}", request.path),
        1 => (0..60).for_each(|at| request.header(&format!("X-{at}"), "y".repeat(100))),
        2 if !request.body.is_empty() => request.header("Expect", "100-continue"),
        3 if request.path.starts_with("/postback/") => {
            request.path = request.path.replace('/', "//").replacen("//", "/", 1);
        }
        4 if !signed && !request.body.is_empty() => request.method = "GET".into(),
        5 if !signed && !request.query.is_empty() => {
            request.query = format!("&&{}&&=&", request.query.replace('&', "&&"));
        }
        _ => request.query.push_str("#a?b=c&d"),
    }
    let key = StoredKey::Transaction(postback.transaction.clone(), postback.claim);
    let expect = Expect::Accepted(postback.sender.response);
    Case::new("authentic, unusual form", &request, expect, random).stored_as(key)
}

/// A body above the limit of a function.
fn long_body(data: &TestData, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::authentic_from(data, random, 'x', number, has_secret);
    postback.location = ParameterLocation::Form;
    let mut request = postback.request(random);
    let more = random.within(64 << 10, 300_000);
    request.body.extend(std::iter::repeat_n(b'&', more));
    request.chunked = random.once_in(2);
    refused("body that is too long", &request, &[306, 116], random).send_alone()
}

/// A forgery: whatever part of it is read, it must not be accepted.
fn forgery(data: &TestData, random: &mut Random, number: u64) -> Request {
    let mut postback = Postback::authentic_from(data, random, 'x', number, has_secret);
    postback.secret = "guessed".into();
    postback.location = ParameterLocation::Form;
    postback.request(random)
}

fn not_http_case(request: &Request, bytes: Vec<u8>, random: &mut Random) -> Case {
    let case = Case::new("not HTTP", request, Expect::NotHttp, random);
    Case { bytes, ..case }.send_alone()
}

fn broken_chunks(data: &TestData, random: &mut Random, number: u64) -> Case {
    let mut request = forgery(data, random, number);
    request.body.clear();
    request.chunked = true;
    let bytes = request.bytes(random);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let head = text.find("\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let chunks: &[u8] = random.pick::<&[u8]>(&[
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\nabc\r\n",
        b"-1\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcdef\r\n0\r\n\r\n",
        b"5\r\nab",
        b"",
        b"3;\x00\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"7fffffff\r\nabc",
        b"3\nabc\n0\n\n",
    ]);
    let bytes = [&bytes[..head], chunks].concat();
    let case = not_http_case(&request, bytes, random);
    Case {
        kind: "invalid chunks",
        ..case
    }
}

fn not_http(data: &TestData, random: &mut Random, number: u64) -> Case {
    let request = forgery(data, random, number);
    let target = request.target();
    let post = |headers: &str, body: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: edge\r\n{headers}\r\n{body}").into_bytes()
    };
    let long = "y".repeat(random.within(17 << 10, 60 << 10));
    let bytes = match random.below(19) {
        0 => post("Content-Length: x\r\n", "abc"),
        1 => post("Content-Length: -3\r\n", "abc"),
        2 => post("Content-Length: 3\r\nContent-Length: 5\r\n", "abcde"),
        3 => post(
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        4 => post("Transfer-Encoding: gzip\r\n", "abc"),
        5 => post("Content-Length: 100\r\n", "abc"),
        6 => post("Content-Length: 18446744073709551616\r\n", "abc"),
        7 => post("no colon\r\n", ""),
        8 => post("X-Nul: a\0b\r\n", ""),
        9 => post(" folded: x\r\n", ""),
        10 => post("X-Odd : x\r\n", ""),
        11 => post(&format!("X-Long: {long}\r\n"), ""),
        12 => format!("GET {target} HTTP/1.1 \r\n\r\n").into_bytes(),
        13 => format!("GET {target} HTTP/9.9\r\n\r\n").into_bytes(),
        14 => format!("GET {target} \r\n\r\n").into_bytes(),
        15 => format!("GE\u{7f}T {target} HTTP/1.1\r\n\r\n").into_bytes(),
        16 => format!("GET {target}&x=\u{1} HTTP/1.1\r\n\r\n").into_bytes(),
        17 => format!("GET /{long} HTTP/1.1\r\nHost: edge\r\n\r\n").into_bytes(),
        _ => (0..random.within(1, 400))
            .map(|_| random.next() as u8)
            .collect(),
    };
    not_http_case(&request, bytes, random)
}
