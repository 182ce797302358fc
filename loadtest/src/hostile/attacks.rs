//! Authentic postbacks, and forged ones: each is an authentic postback with one change that invalidates its proof.

use super::case::{Case, Expect, StoredKey};
use super::postbacks::{ParameterLocation, Postback, TestData, hmac};
use super::random::Random;
use super::request::{Request, escaped};
use super::senders::{NETWORK, Proof, SENDERS, Sender};

/// Builds the request with this number.
pub(super) type BuildCase = fn(&TestData, &mut Random, u64) -> Case;

/// The kinds with their weights.
pub(super) const KINDS: &[(usize, BuildCase)] = &[
    (180, authentic),
    (20, replayed),
    (20, unsigned_additions),
    (60, wrong_secret),
    (30, no_proof),
    (20, two_secrets),
    (60, wrong_signature),
    (40, signature_of_other_request),
    (40, altered_after_signing),
    (20, only_unsigned_click),
    (30, address_from_no_proxy),
];

fn has_secret(sender: &Sender) -> bool {
    matches!(
        sender.proof,
        Proof::Path(_) | Proof::Parameter(..) | Proof::Both(..)
    )
}

/// Senders whose parameters are not signed: the secret alone authenticates them.
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

fn accepted(
    kind: &'static str,
    postback: &Postback,
    request: &Request,
    random: &mut Random,
) -> Case {
    let key = StoredKey::Transaction(postback.transaction.clone(), postback.claim);
    Case::new(
        kind,
        request,
        Expect::Accepted(postback.sender.response),
        random,
    )
    .stored_as(key)
}

pub(super) fn authentic(data: &TestData, random: &mut Random, number: u64) -> Case {
    let postback = Postback::authentic_from(data, random, 't', number, any);
    let request = postback.request(random);
    accepted("authentic", &postback, &request, random)
}

/// A replay changes nothing and remains one conversion.
fn replayed(data: &TestData, random: &mut Random, number: u64) -> Case {
    let postback = Postback::authentic_from(data, random, 'r', number, any);
    let request = postback.request(random);
    let times = random.within(2, 4) as u32;
    accepted("authentic, sent again", &postback, &request, random).times(times)
}

/// Unsigned additions to a signed request are ignored.
fn unsigned_additions(data: &TestData, random: &mut Random, number: u64) -> Case {
    let postback = Postback::authentic_from(data, random, 'n', number, signing);
    let mut request = postback.request(random);
    let sender = postback.sender;
    let more = format!(
        "{}=999999&{}=approved&{}={}",
        sender.payout,
        sender.status,
        sender.click,
        data.click(sender, random)
    );
    if postback.location == ParameterLocation::Query {
        request.method = "POST".into();
        request.body = more.into_bytes();
    } else {
        request.query = more;
    }
    accepted(
        "authentic, unsigned parts added",
        &postback,
        &request,
        random,
    )
}

/// A secret similar to `secret`, or another sender's.
fn similar_secret(secret: &str, random: &mut Random) -> String {
    let at = random.below(secret.len());
    let other = random.pick(SENDERS).proof;
    match (random.below(8), other) {
        (0, _) => secret[..at].into(),
        (1, _) => format!("{secret}{}", random.pick(&["x", " ", "0", "-", "."])),
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

fn wrong_secret(data: &TestData, random: &mut Random, number: u64) -> Case {
    let keyed = |sender: &Sender| matches!(sender.proof, Proof::PathKey(_));
    let mut postback =
        Postback::authentic_from(data, random, 'x', number, |it| has_secret(it) || keyed(it));
    postback.secret = similar_secret(&postback.secret, random);
    let mut request = postback.request(random);
    if keyed(postback.sender) {
        request.path = format!("/{}/postback", escaped(&postback.secret, random));
        // `//postback` is rejected by the edge itself, not by a function.
        let empty = postback.secret.is_empty();
        // A value that is no valid path key is rejected with another number.
        let by: &[u16] = if empty { &[101] } else { &[101, 103] };
        return refused("wrong secret", &request, by, random);
    }
    refused("wrong secret", &request, &[103], random)
}

fn no_proof(data: &TestData, random: &mut Random, number: u64) -> Case {
    let keyed = |sender: &Sender| matches!(sender.proof, Proof::PathKey(_));
    let mut postback = Postback::authentic_from(data, random, 'x', number, |it| !keyed(it));
    postback.secret.clear();
    postback.from = (*random.pick(&["198.51.100.9", "2001:db8::7", "unknown"])).into();
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

/// The right secret and a wrong one.
fn two_secrets(data: &TestData, random: &mut Random, number: u64) -> Case {
    let parameter = |it: &Sender| matches!(it.proof, Proof::Parameter(..));
    let postback = Postback::authentic_from(data, random, 'x', number, parameter);
    let mut request = postback.request(random);
    let Proof::Parameter(name, secret) = postback.sender.proof else {
        unreachable!("only such senders were selected");
    };
    let wrong = format!(
        "{name}={}",
        escaped(&similar_secret(secret, random), random)
    );
    request.query = if random.once_in(2) {
        format!("{wrong}&{}", request.query)
    } else {
        format!("{}&{wrong}", request.query)
    };
    refused("two secrets", &request, &[103], random)
}

/// Replaces the request's signature.
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

/// The valid signature of this request.
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

fn wrong_signature(data: &TestData, random: &mut Random, number: u64) -> Case {
    let postback = Postback::authentic_from(data, random, 'x', number, signing);
    let mut request = postback.request(random);
    let right = right_signature(&postback, &request);
    let mut bytes = right.clone().into_bytes();
    let at = random.below(bytes.len());
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    let flipped = String::from_utf8_lossy(&bytes).into_owned();
    let other = Postback {
        key: "a key of another sender".into(),
        ..postback.clone()
    };
    let other = right_signature(&other, &request);
    let wrong = match random.below(9) {
        0 => right[..random.below(64)].to_owned(),
        1 => format!("{right}{}", random.pick(&["0", "00", "ff"])),
        2 => format!("sha512={right}"),
        3 => format!("sha256=sha256={right}"),
        4 => String::new(),
        5 => "0".repeat(64),
        6 => other,
        7 => right.chars().rev().collect(),
        _ => flipped,
    };
    if wrong == right {
        return authentic(data, random, number);
    }
    signed_by(&postback, &mut request, &wrong);
    if random.once_in(8) {
        // The right signature, too: of two signatures none is accepted.
        match postback.sender.proof {
            Proof::Body(_) => request.header("X-Signature", right),
            _ => request.query = format!("sig={right}&{}", request.query),
        }
    }
    refused("wrong signature", &request, &[103], random)
}

/// The signature of another request of the same sender.
fn signature_of_other_request(data: &TestData, random: &mut Random, number: u64) -> Case {
    let postback = Postback::authentic_from(data, random, 'x', number, signing);
    let name = postback.sender.name;
    let other = Postback::authentic_from(data, random, 'y', number, |it| it.name == name);
    let mut request = postback.request(random);
    let signature = right_signature(&other, &other.request(random));
    signed_by(&postback, &mut request, &signature);
    refused("signature of another request", &request, &[103], random)
}

fn altered_after_signing(data: &TestData, random: &mut Random, number: u64) -> Case {
    let postback = Postback::authentic_from(data, random, 'x', number, signing);
    let mut request = postback.request(random);
    let more = format!("{}=999", postback.sender.payout);
    match (postback.location, random.below(3)) {
        (ParameterLocation::Query, 0) => request.query.push_str("&x=y"),
        (ParameterLocation::Query, 1) => request.query = format!("{more}&{}", request.query),
        (ParameterLocation::Query, _) => {
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
                return wrong_signature(data, random, number);
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
    // A changed byte may make the body unreadable before its signature is verified.
    let by: &[u16] = match postback.location {
        ParameterLocation::Query => &[103],
        _ => &[103, 115],
    };
    refused("altered after signing", &request, by, random)
}

/// The click is named only in the unsigned part.
fn only_unsigned_click(data: &TestData, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::authentic_from(data, random, 'x', number, signing);
    let click = format!("{}={}", postback.sender.click, postback.click());
    let name = postback.sender.click;
    postback.parameters.retain(|(known, _)| known != name);
    let mut request = postback.request(random);
    if postback.location == ParameterLocation::Query {
        request.method = "POST".into();
        request.body = click.into_bytes();
    } else {
        request.query = click;
    }
    refused("click in the unsigned part", &request, &[104], random)
}

/// Claims an address that no trusted proxy reported.
fn address_from_no_proxy(data: &TestData, random: &mut Random, number: u64) -> Case {
    let network = |it: &Sender| it.proof == Proof::Network;
    let postback = Postback::authentic_from(data, random, 'x', number, network);
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
    refused("address from no trusted proxy", &request, &[103], random)
}
