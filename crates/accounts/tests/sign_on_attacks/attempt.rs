//! A request that is right until an attack alters it.

use crate::common::TestClock;
use crate::common::issuer::*;
use accounts::Refusal;
use accounts::sign_on::TokenFault;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sign-on with an ID token.
    SignOn,
    /// A request with an access token.
    Access,
    /// A back-channel logout.
    Logout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Token(TokenFault),
    Refused(Refusal),
}

/// Whose cookie the browser sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cookie {
    Own,
    OfAnotherBrowser,
    OfAnotherProvider,
    Altered,
    Missing,
}

/// A request that is right until an attack alters it.
pub(crate) struct Attempt {
    pub(crate) signing: Signing,
    pub(crate) header: Value,
    pub(crate) claims: Value,
    /// The token as it is sent.
    pub(crate) alter_text: fn(String) -> String,
    /// The token response, besides the ID token.
    pub(crate) response: Value,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) cookie: Cookie,
    /// The time between the redirect to the provider and back.
    pub(crate) delay: Duration,
    pub(crate) other_verifier: bool,
    pub(crate) replayed: bool,
}

/// Seconds since 1970, later or earlier by some.
pub(crate) fn at(clock: &TestClock, offset: i64) -> Value {
    let seconds = i64::try_from(clock.now().millis() / 1_000).expect("a time");
    json!(seconds + offset)
}

pub(crate) fn attempt(kind: Kind, issuer: &Issuer, clock: &TestClock) -> Attempt {
    let common =
        json!({ "iss": issuer.url, "sub": "alice", "iat": at(clock, 0), "exp": at(clock, 120) });
    let (typ, specific) = match kind {
        Kind::SignOn => (
            "JWT",
            json!({ "aud": CLIENT_ID, "sid": "provider session" }),
        ),
        Kind::Access => (
            "at+jwt",
            json!({ "aud": AUDIENCE, "client_id": "app", "jti": "t1", "scope": FULL_ACCESS }),
        ),
        Kind::Logout => {
            let events = json!({ "http://schemas.openid.net/event/backchannel-logout": {} });
            (
                "logout+jwt",
                json!({ "aud": CLIENT_ID, "jti": "l1", "sid": "provider session", "events": events }),
            )
        }
    };
    let mut claims = common;
    let object = claims.as_object_mut().expect("an object");
    object.extend(specific.as_object().expect("an object").clone());
    Attempt {
        signing: Signing::Rs256,
        header: json!({ "alg": "RS256", "typ": typ, "kid": "rsa" }),
        claims,
        alter_text: |text| text,
        response: json!({ "access_token": "opaque", "token_type": "Bearer" }),
        query: Vec::new(),
        cookie: Cookie::Own,
        delay: Duration::ZERO,
        other_verifier: false,
        replayed: false,
    }
}

pub(crate) fn signed(attempt: &mut Attempt, signing: Signing, alg: &str, kid: &str) {
    attempt.signing = signing;
    attempt.header["alg"] = alg.into();
    attempt.header["kid"] = kid.into();
}

pub(crate) fn set_query(attempt: &mut Attempt, name: &str, value: Option<&str>) {
    let at = attempt
        .query
        .iter()
        .position(|(key, _)| *key == name)
        .expect("a parameter");
    match value {
        Some(value) => attempt.query[at].1 = value.to_owned(),
        None => drop(attempt.query.remove(at)),
    }
}

pub(crate) fn remove(value: &mut Value, name: &str) {
    value.as_object_mut().expect("an object").remove(name);
}

pub(crate) fn altered_payload(text: String) -> String {
    let parts: Vec<_> = text.split('.').collect();
    let payload = data_encoding::BASE64URL_NOPAD
        .decode(parts[1].as_bytes())
        .expect("Base64");
    let payload = String::from_utf8(payload)
        .expect("JSON")
        .replace("alice", "mallory");
    format!("{}.{}.{}", parts[0], base64(payload), parts[2])
}

/// A kind of request, the attack's name, what it alters, and the refusal.
pub(crate) type Attack = (Kind, &'static str, fn(&mut Attempt), Expected);
