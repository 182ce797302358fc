//! Postbacks of who is not who it says, or does not say what may be said: each made of an authentic one by
//! a change that makes it none, so that only this file knows what is wrong with it.

use super::case::{Case, Expect, Key};
use super::postbacks::{Place, Postback, World, hmac};
use super::random::Random;
use super::request::{Request, escaped};
use super::senders::{MISCONFIGURED, NETWORK, Proof, SENDERS, Sender};

const DAY: i64 = 86_400_000_000;

/// Makes a request out of the world, for its number.
pub(super) type Make = fn(&World, &mut Random, u64) -> Case;

/// The kinds, each with how often it comes.
pub(super) const KINDS: &[(usize, Make)] = &[
    (180, authentic),
    (20, replayed),
    (20, unsigned_noise),
    (60, wrong_secret),
    (30, no_proof),
    (20, two_secrets),
    (60, wrong_signature),
    (40, moved_signature),
    (40, altered_after_signing),
    (20, only_unsigned_click),
    (60, forged_click),
    (40, no_click_id),
    (30, click_out_of_time),
    (30, said_twice),
    (30, unexpanded_macro),
    (50, bad_amount),
    (30, bad_currency),
    (30, unknown_word),
    (40, unreadable_text),
    (20, too_much),
    (20, unknown_path),
    (10, misconfigured),
    (30, forwarded_by_none),
];

fn secretive(sender: &Sender) -> bool {
    matches!(
        sender.proof,
        Proof::Path(_) | Proof::Parameter(..) | Proof::Both(..)
    )
}

/// Whoever knows its secret may change all the rest.
fn unsigned(sender: &Sender) -> bool {
    !signing(sender)
}

fn signing(sender: &Sender) -> bool {
    matches!(
        sender.proof,
        Proof::Query(_) | Proof::Body(_) | Proof::Both(..)
    )
}

fn any(_: &Sender) -> bool {
    true
}

fn refused(kind: &'static str, request: &Request, by: &'static [u16], random: &mut Random) -> Case {
    Case::new(kind, request, Expect::Refused(by), random)
}

fn taken(kind: &'static str, postback: &Postback, request: &Request, random: &mut Random) -> Case {
    let key = Key::Transaction(postback.transaction.clone(), postback.claim);
    Case::new(kind, request, Expect::Taken(postback.sender.answer), random).known_as(key)
}

fn authentic(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 't', number, any);
    let request = postback.request(random);
    taken("authentic", &postback, &request, random)
}

/// Whoever saw a request may send it again: it says nothing new, and is one conversion all the same.
fn replayed(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 'r', number, any);
    let request = postback.request(random);
    let times = random.within(2, 4) as u32;
    taken("authentic, sent again", &postback, &request, random).times(times)
}

/// What is added where nothing is signed changes nothing.
fn unsigned_noise(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 'n', number, signing);
    let mut request = postback.request(random);
    let sender = postback.sender;
    let more = format!(
        "{}=999999&{}=approved&{}={}",
        sender.payout,
        sender.status,
        sender.click,
        world.click(sender, random)
    );
    if postback.place == Place::Query {
        request.method = "POST".into();
        request.body = more.into_bytes();
    } else {
        request.query = more;
    }
    taken(
        "authentic, unsigned parts added",
        &postback,
        &request,
        random,
    )
}

/// Nearly `secret`, or another's.
fn twisted(secret: &str, random: &mut Random) -> String {
    let at = random.below(secret.len());
    let other = random.of(SENDERS).proof;
    match (random.below(8), other) {
        (0, _) => secret[..at].into(),
        (1, _) => format!("{secret}{}", random.of(&["x", " ", "0", "-", "."])),
        (2, _) => secret.to_uppercase(),
        (3, _) => secret[at + 1..].into(),
        (4, Proof::Path(other) | Proof::PathKey(other) | Proof::Parameter(_, other))
            if other != secret =>
        {
            other.into()
        }
        (5, _) => secret.replace('-', "_"),
        (6, _) => "*".into(),
        _ => {
            let mut bytes = secret.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'z' { b'y' } else { b'z' };
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }
}

fn wrong_secret(world: &World, random: &mut Random, number: u64) -> Case {
    let keyed = |sender: &Sender| matches!(sender.proof, Proof::PathKey(_));
    let mut postback =
        Postback::honest(world, random, 'x', number, |it| secretive(it) || keyed(it));
    postback.secret = twisted(&postback.secret, random);
    let mut request = postback.request(random);
    if keyed(postback.sender) {
        request.path = format!("/{}/postback", escaped(&postback.secret, random));
        // `//postback` is no function's, but the edge's own to refuse.
        let empty = postback.secret.is_empty();
        let by: &[u16] = if empty { &[1] } else { &[101] };
        return refused("wrong secret", &request, by, random);
    }
    refused("wrong secret", &request, &[103], random)
}

fn no_proof(world: &World, random: &mut Random, number: u64) -> Case {
    let keyed = |sender: &Sender| matches!(sender.proof, Proof::PathKey(_));
    let mut postback = Postback::honest(world, random, 'x', number, |it| !keyed(it));
    postback.secret.clear();
    postback.from = (*random.of(&["198.51.100.9", "2001:db8::7", "unknown"])).into();
    let mut request = postback.request(random);
    if signing(postback.sender) {
        let pairs = request
            .query
            .split('&')
            .filter(|it| !it.starts_with("sig="));
        request.query = pairs.collect::<Vec<_>>().join("&");
        request.headers.retain(|(name, _)| name != "X-Signature");
    }
    refused("no proof", &request, &[103], random)
}

/// The right one beside a wrong one.
fn two_secrets(world: &World, random: &mut Random, number: u64) -> Case {
    let parameter = |it: &Sender| matches!(it.proof, Proof::Parameter(..));
    let postback = Postback::honest(world, random, 'x', number, parameter);
    let mut request = postback.request(random);
    let Proof::Parameter(name, secret) = postback.sender.proof else {
        unreachable!("only those fit");
    };
    let wrong = format!("{name}={}", escaped(&twisted(secret, random), random));
    request.query = if random.once_in(2) {
        format!("{wrong}&{}", request.query)
    } else {
        format!("{}&{wrong}", request.query)
    };
    refused("two secrets", &request, &[103], random)
}

/// Puts `signature` in place of the request's own.
fn signed_by(postback: &Postback, request: &mut Request, signature: &str) {
    if let Proof::Body(_) = postback.sender.proof {
        return request.replace("X-Signature", signature);
    }
    let pairs = request
        .query
        .split('&')
        .filter(|it| !it.starts_with("sig="));
    let signed: Vec<&str> = pairs.collect();
    request.query = format!("{}&sig={signature}", signed.join("&"));
}

/// What the sender has signed, or would have.
fn right_signature(postback: &Postback, request: &Request) -> String {
    if let Proof::Body(_) = postback.sender.proof {
        return hmac(&postback.key, &request.body);
    }
    let pairs = request
        .query
        .split('&')
        .filter(|it| !it.starts_with("sig="));
    hmac(
        &postback.key,
        pairs.collect::<Vec<_>>().join("&").as_bytes(),
    )
}

fn wrong_signature(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 'x', number, signing);
    let mut request = postback.request(random);
    let right = right_signature(&postback, &request);
    let mut bytes = right.clone().into_bytes();
    let at = random.below(bytes.len());
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    let flipped = String::from_utf8_lossy(&bytes).into_owned();
    let other = Postback {
        key: "a key of somebody else".into(),
        ..postback.clone()
    };
    let other = right_signature(&other, &request);
    let wrong = match random.below(9) {
        0 => right[..random.below(64)].to_owned(),
        1 => format!("{right}{}", random.of(&["0", "00", "ff"])),
        2 => format!("sha512={right}"),
        3 => format!("sha256=sha256={right}"),
        4 => String::new(),
        5 => "0".repeat(64),
        6 => other,
        7 => right.chars().rev().collect(),
        _ => flipped,
    };
    if wrong == right {
        return authentic(world, random, number);
    }
    signed_by(&postback, &mut request, &wrong);
    if random.once_in(8) {
        // The right one, too: of two, none is believed.
        match postback.sender.proof {
            Proof::Body(_) => request.header("X-Signature", right),
            _ => request.query = format!("sig={right}&{}", request.query),
        }
    }
    refused("wrong signature", &request, &[103], random)
}

/// The signature of another request by the same sender.
fn moved_signature(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 'x', number, signing);
    let name = postback.sender.name;
    let other = Postback::honest(world, random, 'y', number, |it| it.name == name);
    let mut request = postback.request(random);
    let signature = right_signature(&other, &other.request(random));
    signed_by(&postback, &mut request, &signature);
    refused("signature of another request", &request, &[103], random)
}

fn altered_after_signing(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 'x', number, signing);
    let mut request = postback.request(random);
    let more = format!("{}=999", postback.sender.payout);
    match (postback.place, random.below(3)) {
        (Place::Query, 0) => request.query.push_str("&x=y"),
        (Place::Query, 1) => request.query = format!("{more}&{}", request.query),
        (Place::Query, _) => {
            // The same pairs in another order.
            let pairs: Vec<&str> = request.query.split('&').collect();
            let signed: Vec<&str> = pairs
                .iter()
                .copied()
                .filter(|it| !it.starts_with("sig="))
                .collect();
            let signature = pairs.iter().find(|it| it.starts_with("sig="));
            let turned: Vec<&str> = signed.iter().rev().copied().collect();
            if turned == signed {
                return wrong_signature(world, random, number);
            }
            request.query = format!("{}&{}", turned.join("&"), signature.unwrap_or(&""));
        }
        (_, 0) => request.body.push(b' '),
        (_, 1) => request.body.insert(0, b' '),
        _ => {
            let at = random.below(request.body.len());
            request.body[at] = if request.body[at] == b'a' { b'b' } else { b'a' };
        }
    }
    // A changed byte may make the body unreadable before anybody asks who sent it.
    let by: &[u16] = match postback.place {
        Place::Query => &[103],
        _ => &[103, 115],
    };
    refused("altered after signing", &request, by, random)
}

/// The click is named only where nothing is signed.
fn only_unsigned_click(world: &World, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::honest(world, random, 'x', number, signing);
    let click = format!("{}={}", postback.sender.click, postback.click());
    let name = postback.sender.click;
    postback.said.retain(|(said, _)| said != name);
    let mut request = postback.request(random);
    if postback.place == Place::Query {
        request.method = "POST".into();
        request.body = click.into_bytes();
    } else {
        request.query = click;
    }
    refused("click where nothing is signed", &request, &[104], random)
}

fn forged_click(world: &World, random: &mut Random, number: u64) -> Case {
    const ALPHABET: &[u8] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
    let mut postback = Postback::honest(world, random, 'x', number, any);
    let good = postback.click().to_owned();
    let forged = match random.below(5) {
        0 => world.click_of(&world.foreign, DAY, random),
        1 => world.click_of(&world.unknown, DAY, random),
        2 => (0..36).map(|_| char::from(*random.of(ALPHABET))).collect(),
        3 => {
            // The time of one, the signature of another.
            let other = world.click(postback.sender, random);
            if good == other {
                return authentic(world, random, number);
            }
            let at = random.within(1, 35);
            format!("{}{}", &good[..at], &other[at..])
        }
        _ => {
            let mut bytes = good.clone().into_bytes();
            let at = random.below(36);
            bytes[at] = *random.of(ALPHABET);
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    let known = |id: &str| {
        let id = tracking_events::ClickId::parse(id.as_bytes());
        id.is_ok_and(|id| world.ring.verify(&id).is_ok())
    };
    if known(&forged) {
        return authentic(world, random, number);
    }
    postback.say(postback.sender.click, forged);
    let request = postback.request(random);
    refused("forged click", &request, &[106], random)
}

fn no_click_id(world: &World, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::honest(world, random, 'x', number, any);
    let good = postback.click().to_owned();
    let (name, at) = (postback.sender.click, random.below(36));
    let (value, by): (String, &[u16]) = match random.below(7) {
        0 => (good[..at].into(), if at == 0 { &[104] } else { &[105] }),
        1 => (format!("{good}A"), &[105]),
        2 => (format!(" {good}"), &[105]),
        3 => (format!("{}é{}", &good[..at], &good[at + 1..]), &[105]),
        4 => (format!("{}={}", &good[..at], &good[at + 1..]), &[105]),
        5 => (random.next().to_string(), &[105]),
        _ => (String::new(), &[104]),
    };
    if value.is_empty() && random.once_in(2) {
        postback.said.retain(|(said, _)| said != name);
    } else {
        postback.say(name, value);
    }
    let request = postback.request(random);
    refused("no click id", &request, by, random)
}

fn click_out_of_time(world: &World, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::honest(world, random, 'x', number, any);
    let days = postback.sender.days.cast_signed();
    let age = match random.below(3) {
        // A run takes at most some hours.
        0 => -DAY * random.within(1, 900) as i64,
        1 => days * DAY + 1_000_000,
        _ => DAY * (days + random.within(1, 10_000) as i64),
    };
    let click = world.click_of(&world.ring, age, random);
    postback.say(postback.sender.click, click);
    let request = postback.request(random);
    refused("click out of time", &request, &[107], random)
}

fn said_twice(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 'x', number, unsigned);
    let mut request = postback.request(random);
    let sender = postback.sender;
    let (name, value) = random.of(&postback.said);
    let fields = [sender.click, sender.transaction, sender.payout, sender.code];
    let (name, first) = if fields.contains(&name.as_str()) {
        (name.clone(), value.clone())
    } else {
        (sender.click.to_owned(), postback.click().to_owned())
    };
    let mut other = first.clone();
    other.push('1');
    let shouted = if random.once_in(2) {
        name.to_uppercase()
    } else {
        name
    };
    // A query of its own goes with any body.
    let pair = format!("{shouted}={other}");
    request.query = match request.query.as_str() {
        "" => pair,
        before if random.once_in(2) => format!("{pair}&{before}"),
        before => format!("{before}&{pair}"),
    };
    refused("said twice", &request, &[119], random)
}

fn unexpanded_macro(world: &World, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::honest(world, random, 'x', number, any);
    let sender = postback.sender;
    let names = [
        sender.click,
        sender.transaction,
        sender.payout,
        sender.code,
        sender.status,
        sender.event,
    ];
    let word = random.of(&["click_id", "payout", "aff_sub:1", "a b", "TID", "s2"]);
    let value = match random.below(8) {
        0 => format!("{{{word}}}"),
        1 => format!("{{{{{word}}}}}"),
        2 => format!("${{{word}}}"),
        3 => format!("#{word}#"),
        4 => format!("[{word}]"),
        5 => format!("<{word}>"),
        6 => format!("%{word}%"),
        _ => "REPLACE".into(),
    };
    let name: &str = *random.of(&names);
    postback.say(name, value);
    let request = postback.request(random);
    refused("macro not filled in", &request, &[112], random)
}

fn bad_amount(world: &World, random: &mut Random, number: u64) -> Case {
    const AMOUNTS: &[&str] = &[
        "-1",
        "-0",
        "+1",
        "1e3",
        "1E400",
        "1e-2",
        "1,50",
        "1.999",
        "1.2.3",
        " 1",
        "1 ",
        "0x10",
        "NaN",
        "Infinity",
        "-inf",
        "\u{661}\u{662}",
        "\u{ff11}",
        "1_000",
        "1'000",
        "$5",
        "5USD",
        "10000000000.01",
        "99999999999999999999",
        "9223372036854775807",
        "18446744073709551616",
        "0000000000000000000000001",
        "1.0000000000000000000000001",
        ".",
        "..",
        "--",
        "null",
        "true",
        "٫5",
        "1\u{a0}000",
        "0.001",
        "1/2",
        "1%",
        "٠",
        "²",
        "1.5.",
        "0b1",
        "1;2",
        "1 000",
    ];
    let mut postback = Postback::honest(world, random, 'x', number, any);
    postback.say(postback.sender.code, "USD");
    postback.say(postback.sender.payout, *random.of(AMOUNTS));
    let request = postback.request(random);
    refused("amount that is none", &request, &[109], random)
}

fn bad_currency(world: &World, random: &mut Random, number: u64) -> Case {
    const CODES: &[&str] = &[
        "XXQ",
        "US",
        "USDT",
        "XAU",
        "XXX",
        "XTS",
        "dollars",
        "$",
        "U$D",
        "USD ",
        "\u{ff35}\u{ff33}\u{ff24}",
        "BTC",
        "0",
        "840",
        "ÜSD",
        "usdd",
        "EU",
        "u",
        "ſGD",
    ];
    let mut postback = Postback::honest(world, random, 'x', number, any);
    postback.say(postback.sender.code, *random.of(CODES));
    let request = postback.request(random);
    refused("currency that is none", &request, &[108], random)
}

fn unknown_word(world: &World, random: &mut Random, number: u64) -> Case {
    const WORDS: &[&str] = &[
        "maybe",
        "approved;",
        "approve d",
        "0x1",
        "ｏｋ",
        "APPROVED\u{200b}",
        "-",
        "apprοved",
        "1=1",
        "'",
        "99",
    ];
    let generic = |it: &Sender| it.event == "event" && it.click != "cnv_id" && it.click != "subid";
    let mut postback = Postback::honest(world, random, 'x', number, generic);
    let (name, by): (&str, &[u16]) = if random.once_in(2) {
        (postback.sender.status, &[110])
    } else {
        (postback.sender.event, &[111])
    };
    postback.say(name, *random.of(WORDS));
    let request = postback.request(random);
    refused("word that nobody knows", &request, by, random)
}

/// Bytes that are no text, or control something.
fn unreadable_text(world: &World, random: &mut Random, number: u64) -> Case {
    const BYTES: &[&str] = &[
        "%00",
        "%0a",
        "%0D%0A",
        "%1b",
        "%7f",
        "%C2%85",
        "%ff",
        "%C0%AF",
        "%ED%A0%80",
        "%F5%80%80%80",
        "%80",
        "%e2%82",
    ];
    let postback = Postback::honest(world, random, 'x', number, any);
    let mut request = postback.request(random);
    let bytes = random.of(BYTES);
    let pair = match random.below(4) {
        0 => format!("{bytes}=x"),
        1 => format!("{}={bytes}", postback.sender.transaction),
        2 => format!("x=a{bytes}b"),
        _ => format!("a{bytes}"),
    };
    request.query = match request.query.as_str() {
        "" => pair,
        before => format!("{before}&{pair}"),
    };
    refused("bytes that are no text", &request, &[115], random)
}

fn too_much(world: &World, random: &mut Random, number: u64) -> Case {
    let movable = |it: &Sender| !matches!(it.proof, Proof::Body(_));
    let mut postback = Postback::honest(world, random, 'x', number, movable);
    let sender = postback.sender;
    let by: &[u16] = match random.below(6) {
        0 => {
            postback.say(sender.transaction, "y".repeat(random.within(129, 512)));
            &[113]
        }
        1 => {
            postback.say(sender.event, "y".repeat(random.within(65, 512)));
            &[113]
        }
        2 => {
            postback.say("sub1", "y".repeat(random.within(513, 4_000)));
            &[113]
        }
        3 => {
            postback.say(&"n".repeat(random.within(513, 4_000)), "y");
            &[113]
        }
        4 => {
            (0..random.within(65, 200))
                .for_each(|at| postback.said.push((format!("p{at}"), "1".into())));
            &[114]
        }
        _ => {
            // Below what a head may be long, above what a query may.
            postback.place = Place::Query;
            let pad = (0..random.within(18, 26)).map(|at| (format!("pad{at}"), "z".repeat(500)));
            postback.said.extend(pad);
            &[120]
        }
    };
    let request = postback.request(random);
    refused("more than is read", &request, by, random)
}

fn unknown_path(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 'x', number, unsigned);
    let mut request = postback.request(random);
    let (path, by): (String, &[u16]) = match random.below(10) {
        0 => ("/postback/nobody".into(), &[101]),
        1 => ("/postback/key%2F321".into(), &[101]),
        2 => (format!("/postback/..%2F{}", postback.sender.name), &[101]),
        3 => ("/postback/..".into(), &[101]),
        4 => (format!("/postback/{}/a/b", postback.sender.name), &[100]),
        5 => (
            format!("/{}/postback", "k".repeat(random.within(1, 64))),
            &[101],
        ),
        6 => (
            format!("/postback/{}", "n".repeat(random.within(65, 2_000))),
            &[101],
        ),
        7 => (format!("/postback/{}%00", postback.sender.name), &[101]),
        8 => ("/postback//".into(), &[101]),
        _ => (
            format!("/postback/{}", postback.sender.name.to_uppercase()),
            &[101],
        ),
    };
    request.path = path;
    // Whoever is named by a parameter is named.
    let named = |it: &&str| {
        !["adv=", "advertiser=", "nid="]
            .iter()
            .any(|name| it.starts_with(name))
    };
    request.query = request
        .query
        .split('&')
        .filter(named)
        .collect::<Vec<_>>()
        .join("&");
    refused("path of nobody", &request, by, random)
}

fn misconfigured(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 'x', number, unsigned);
    let mut request = postback.request(random);
    request.path = format!("/postback/{MISCONFIGURED}");
    refused("advertiser that is not set up", &request, &[102], random)
}

/// Who claims an address that no proxy saw.
fn forwarded_by_none(world: &World, random: &mut Random, number: u64) -> Case {
    let network = |it: &Sender| it.proof == Proof::Network;
    let postback = Postback::honest(world, random, 'x', number, network);
    let mut request = postback.request(random);
    let address = format!("{NETWORK}7");
    let other = "198.51.100.1";
    let seen = match random.below(6) {
        0 => format!("{address}, {other}"),
        1 => format!("{address},{other}, 127.0.0.1"),
        2 => format!("\"{address}\", {other}"),
        3 => other.into(),
        4 => format!("{address}x"),
        _ => String::new(),
    };
    request.replace("X-Forwarded-For", seen);
    match random.below(4) {
        0 => request.header("Spin-Client-Addr", format!("{address}:80")),
        1 => request.header("Forwarded", format!("for={address}")),
        2 => request.header("X-Real-IP", address),
        _ => {}
    }
    refused("address that nobody saw", &request, &[103], random)
}
