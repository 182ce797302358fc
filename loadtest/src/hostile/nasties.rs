//! What HTTP, forms and JSON let through and nobody sane sends; and authentic requests with bytes changed
//! at random, of which this file says whether they are still authentic.

use super::attacks::Make;
use super::case::{Case, Expect, Key};
use super::postbacks::{Place, Postback, World, hmac};
use super::random::Random;
use super::request::Request;
use super::senders::{Proof, Sender};
use percent_encoding::percent_decode;
use tracking_events::{CLICK_ID_CHARS, ClickId, OLD_CLICK_ID_CHARS};

/// The kinds, each with how often it comes.
pub(super) const KINDS: &[(usize, Make)] = &[
    (120, changed_bytes),
    (50, strange_json),
    (30, strange_kind),
    (30, strange_method),
    (30, strange_but_right),
    (8, long_body),
    (8, broken_chunks),
    (12, no_http),
];

/// Bytes that a target may hold.
const TARGET: &[u8] = b"abcxyzABCXYZ0189-._~!$&'()*+,;=:@/?%{}[]|";

/// Whoever knows the secret may say anything.
fn secretive(sender: &Sender) -> bool {
    matches!(sender.proof, Proof::Path(_) | Proof::Parameter(..))
}

fn refused(kind: &'static str, request: &Request, by: &'static [u16], random: &mut Random) -> Case {
    Case::new(kind, request, Expect::Refused(by), random)
}

fn changed_bytes(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 'm', number, |_| true);
    let mut request = postback.request(random);
    for _ in 0..random.within(1, 4) {
        match random.below(4) {
            0 if request.path.len() > 1 => {
                let mut text = request.path.split_off(1).into_bytes();
                change(&mut text, random);
                request.path.push_str(&String::from_utf8_lossy(&text));
            }
            1 | 2 if !request.body.is_empty() => change(&mut request.body, random),
            _ => {
                let mut text = std::mem::take(&mut request.query).into_bytes();
                change(&mut text, random);
                request.query = String::from_utf8_lossy(&text).into_owned();
            }
        }
    }
    let authentic = is_authentic(world, postback.sender, &request);
    let expect = Expect::Either { authentic };
    Case::new("bytes changed at random", &request, expect, random)
}

fn change(text: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(text.len() + 1);
    let end = (at + random.below(12)).min(text.len());
    match random.below(5) {
        0 if at < text.len() => text[at] = *random.of(TARGET),
        1 => drop(text.drain(at..end)),
        2 => {
            let again = text[at..end].to_vec();
            drop(text.splice(at..at, again));
        }
        3 if at < text.len() => {
            let other = end.min(text.len() - 1);
            text.swap(at, other);
        }
        _ => text.insert(at, *random.of(TARGET)),
    }
}

/// Whether what is sent still holds the proof of `sender` and a click of the fleet's.
fn is_authentic(world: &World, sender: &Sender, request: &Request) -> bool {
    let target = request.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let said = [decoded(query.as_bytes()), decoded(&request.body)].concat();
    let clicks = [CLICK_ID_CHARS, OLD_CLICK_ID_CHARS]
        .into_iter()
        .flat_map(|chars| said.windows(chars))
        .any(|text| ClickId::parse(text).is_ok_and(|id| world.ring.verify(&id).is_ok()));
    let within =
        |text: &[u8], secret: &str| text.windows(secret.len()).any(|it| it == secret.as_bytes());
    let in_path = |secret: &str| within(&decoded(path.as_bytes()), secret);
    clicks
        && match sender.proof {
            Proof::Path(secret) | Proof::PathKey(secret) => in_path(secret),
            Proof::Parameter(_, secret) => within(&said, secret),
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

/// Whether anything that was sent is the signature of the query without it.
fn query_is_signed(query: &str, body: &[u8], key: &str) -> bool {
    let named = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        name.eq_ignore_ascii_case("sig")
    };
    let signed: Vec<&str> = query.split('&').filter(|it| !named(it)).collect();
    let signature = hmac(key, signed.join("&").as_bytes());
    let said = [decoded(query.as_bytes()), decoded(body)].concat();
    let said = String::from_utf8_lossy(&said).to_lowercase();
    said.contains(&signature)
}

/// Escapes of forms and of JSON undone, so that nothing that is there is missed.
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

/// A body of JSON that is no object, says a thing twice, or has something else than a text where one is read.
fn strange_json(world: &World, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::honest(world, random, 'x', number, secretive);
    postback.place = Place::Json;
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
            let begun = format!("{{{inner}, \"{read}\": \"");
            ([begun.as_bytes(), b"\xff\xfe\"}"].concat(), &[115])
        }
        13 => (format!("{{{inner}, 'x': 1}}").into(), &[115]),
        _ => (b"nul".to_vec(), &[115]),
    };
    request.body = body;
    refused("JSON that is none of ours", &request, by, random)
}

fn strange_kind(world: &World, random: &mut Random, number: u64) -> Case {
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
    let mut postback = Postback::honest(world, random, 'x', number, secretive);
    postback.place = Place::Form;
    let mut request = postback.request(random);
    request.replace("Content-Type", *random.of(KINDS));
    refused("body of another type", &request, &[117], random)
}

fn strange_method(world: &World, random: &mut Random, number: u64) -> Case {
    const METHODS: &[&str] = &[
        "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "get", "POSTS", "PROPFIND", "M-SEARCH",
        "TRACE",
    ];
    let postback = Postback::honest(world, random, 'x', number, secretive);
    let mut request = postback.request(random);
    request.method = (*random.of(METHODS)).into();
    refused("method that is not taken", &request, &[118], random)
}

/// Authentic, however it is written.
fn strange_but_right(world: &World, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::honest(world, random, 's', number, |_| true);
    let signed = !matches!(
        postback.sender.proof,
        Proof::Path(_) | Proof::PathKey(_) | Proof::Parameter(..) | Proof::Network
    );
    let shout = random.once_in(3);
    for (name, _) in postback.said.iter_mut().filter(|_| shout) {
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
    let key = Key::Transaction(postback.transaction.clone(), postback.claim);
    let expect = Expect::Taken(postback.sender.answer);
    Case::new("authentic, oddly written", &request, expect, random).known_as(key)
}

/// Longer than a function may be sent.
fn long_body(world: &World, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::honest(world, random, 'x', number, secretive);
    postback.place = Place::Form;
    let mut request = postback.request(random);
    let more = random.within(64 << 10, 300_000);
    request.body.extend(std::iter::repeat_n(b'&', more));
    request.chunked = random.once_in(2);
    refused("body that is too long", &request, &[306, 116], random).alone()
}

/// A forgery, so that whatever of it is read must not be taken.
fn forgery(world: &World, random: &mut Random, number: u64) -> Request {
    let mut postback = Postback::honest(world, random, 'x', number, secretive);
    postback.secret = "guessed".into();
    postback.place = Place::Form;
    postback.request(random)
}

fn broken(request: &Request, bytes: Vec<u8>, random: &mut Random) -> Case {
    let case = Case::new("no HTTP", request, Expect::Broken, random);
    Case { bytes, ..case }.alone()
}

fn broken_chunks(world: &World, random: &mut Random, number: u64) -> Case {
    let mut request = forgery(world, random, number);
    request.body.clear();
    request.chunked = true;
    let bytes = request.bytes(random);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let head = text.find("\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let chunks: &[u8] = random.of::<&[u8]>(&[
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
    let case = broken(&request, bytes, random);
    Case {
        kind: "chunks that are none",
        ..case
    }
}

fn no_http(world: &World, random: &mut Random, number: u64) -> Case {
    let request = forgery(world, random, number);
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
    broken(&request, bytes, random)
}
