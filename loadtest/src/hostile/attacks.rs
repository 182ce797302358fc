//! Postbacks that are authentic, and postbacks of who is not who it says: each made of an authentic one by a
//! change that makes it none, so that only this file knows what is wrong with it.

use super::case::{Case, Expect, Key};
use super::postbacks::{Place, Postback, World, hmac};
use super::random::Random;
use super::request::{Request, escaped};
use super::senders::{NETWORK, Proof, SENDERS, Sender};

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
    (30, forwarded_by_none),
];

fn secretive(sender: &Sender) -> bool {
    matches!(
        sender.proof,
        Proof::Path(_) | Proof::Parameter(..) | Proof::Both(..)
    )
}

/// Whoever knows its secret may change all the rest.
pub(super) fn unsigned(sender: &Sender) -> bool {
    !signing(sender)
}

pub(super) fn signing(sender: &Sender) -> bool {
    matches!(
        sender.proof,
        Proof::Query(_) | Proof::Body(_) | Proof::Both(..)
    )
}

pub(super) fn any(_: &Sender) -> bool {
    true
}

pub(super) fn refused(
    kind: &'static str,
    request: &Request,
    by: &'static [u16],
    random: &mut Random,
) -> Case {
    Case::new(kind, request, Expect::Refused(by), random)
}

fn taken(kind: &'static str, postback: &Postback, request: &Request, random: &mut Random) -> Case {
    let key = Key::Transaction(postback.transaction.clone(), postback.claim);
    Case::new(kind, request, Expect::Taken(postback.sender.answer), random).known_as(key)
}

pub(super) fn authentic(world: &World, random: &mut Random, number: u64) -> Case {
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
        // What can't be a path key is refused as such.
        let by: &[u16] = if empty { &[101] } else { &[101, 103] };
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
