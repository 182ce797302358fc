//! Attacks on the protocols: the redirect and its cookie, and claims that one kind of token must have.

use crate::attempt::*;
use crate::common::issuer::*;
use Expected::{Refused, Token};
use Kind::{Access, Logout, SignOn};
use accounts::Refusal::{self, InvalidSignOn, ProviderUnavailable, SignOnDeclined};
use accounts::sign_on::TokenFault as Fault;
use serde_json::{Value, json};
use std::time::Duration;

/// All of them.
pub(crate) fn attacks() -> Vec<Attack> {
    vec![
        (
            SignOn,
            "access token as ID token",
            |it| it.header["typ"] = "at+jwt".into(),
            Token(Fault::Type),
        ),
        (
            SignOn,
            "logout token as ID token",
            |it| it.header["typ"] = "logout+jwt".into(),
            Token(Fault::Type),
        ),
        (
            SignOn,
            "nonce of another sign-on",
            |it| it.claims["nonce"] = "x".repeat(43).into(),
            Token(Fault::Nonce),
        ),
        (
            SignOn,
            "no nonce",
            |it| it.claims["nonce"] = Value::Null,
            Token(Fault::Claim("nonce")),
        ),
        (
            SignOn,
            "further audience",
            |it| it.claims["aud"] = json!([CLIENT_ID, "another-client"]),
            Token(Fault::Audience),
        ),
        (
            SignOn,
            "other authorized party",
            |it| it.claims["azp"] = "another-client".into(),
            Token(Fault::AuthorizedParty),
        ),
        (
            SignOn,
            "issued long ago",
            |it| {
                it.claims["iat"] = json!(it.claims["iat"].as_i64().expect("a time") - 700);
            },
            Token(Fault::TooOld),
        ),
        (
            SignOn,
            "no subject",
            |it| remove(&mut it.claims, "sub"),
            Token(Fault::Claim("sub")),
        ),
        (
            SignOn,
            "empty subject",
            |it| it.claims["sub"] = "".into(),
            Token(Fault::Claim("sub")),
        ),
        (
            SignOn,
            "numeric subject",
            |it| it.claims["sub"] = json!(7),
            Token(Fault::Claim("sub")),
        ),
        (
            SignOn,
            "long subject",
            |it| it.claims["sub"] = "x".repeat(256).into(),
            Token(Fault::Claim("sub")),
        ),
        (
            SignOn,
            "hash of another access token",
            |it| it.claims["at_hash"] = base64([7; 16]).into(),
            Token(Fault::AccessTokenHash),
        ),
        (
            SignOn,
            "other state",
            |it| set_query(it, "state", Some(&"x".repeat(43))),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "no state",
            |it| set_query(it, "state", None),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "empty state",
            |it| set_query(it, "state", Some("")),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "cookie of another browser (CSRF)",
            |it| it.cookie = Cookie::OfAnotherBrowser,
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "altered cookie",
            |it| it.cookie = Cookie::Altered,
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "no cookie",
            |it| it.cookie = Cookie::Missing,
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "cookie of another provider (mix-up)",
            |it| it.cookie = Cookie::OfAnotherProvider,
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "other issuer in the redirect (mix-up)",
            |it| set_query(it, "iss", Some("https://attacker.example")),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "no issuer in the redirect (mix-up)",
            |it| set_query(it, "iss", None),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "two states",
            |it| it.query.push(("state", "x".to_owned())),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "two codes",
            |it| it.query.push(("code", "x".to_owned())),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "no code",
            |it| set_query(it, "code", None),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "empty code",
            |it| set_query(it, "code", Some("")),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "invented code",
            |it| set_query(it, "code", Some("invented")),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "long redirect",
            |it| it.query.push(("x", "x".repeat(8 << 10))),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "declined",
            |it| it.query.push(("error", "access_denied".to_owned())),
            Refused(SignOnDeclined),
        ),
        (
            SignOn,
            "declined with another state",
            |it| {
                it.query.push(("error", "access_denied".to_owned()));
                set_query(it, "state", Some("x"));
            },
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "too late",
            |it| it.delay = Duration::from_secs(600),
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "injected code of another sign-on (PKCE)",
            |it| it.other_verifier = true,
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "replayed redirect",
            |it| it.replayed = true,
            Refused(InvalidSignOn),
        ),
        (
            SignOn,
            "response without ID token",
            |it| it.response["id_token"] = Value::Null,
            Refused(ProviderUnavailable),
        ),
        (
            SignOn,
            "user information of another subject",
            |it| {
                remove(&mut it.claims, "groups");
                it.response["access_token"] = "of mallory".into();
            },
            Token(Fault::Subject),
        ),
        (
            Access,
            "ID token as access token",
            |it| it.header["typ"] = "JWT".into(),
            Token(Fault::Type),
        ),
        (
            Access,
            "token without a type",
            |it| remove(&mut it.header, "typ"),
            Token(Fault::Type),
        ),
        (
            Access,
            "audience of the client",
            |it| it.claims["aud"] = CLIENT_ID.into(),
            Token(Fault::Audience),
        ),
        (
            Access,
            "no client",
            |it| remove(&mut it.claims, "client_id"),
            Token(Fault::Claim("client_id")),
        ),
        (
            Access,
            "token bound to a key of its sender",
            |it| it.claims["cnf"] = json!({ "jkt": "x" }),
            Token(Fault::SenderConstrained),
        ),
        (
            Access,
            "no id",
            |it| remove(&mut it.claims, "jti"),
            Token(Fault::Claim("jti")),
        ),
        (
            Access,
            "no subject",
            |it| remove(&mut it.claims, "sub"),
            Token(Fault::Claim("sub")),
        ),
        (
            Access,
            "subject without account",
            |it| it.claims["sub"] = "stranger".into(),
            Refused(Refusal::NoAccount),
        ),
        (
            Access,
            "subject in another case",
            |it| it.claims["sub"] = "ALICE".into(),
            Refused(Refusal::NoAccount),
        ),
        (
            Logout,
            "access token as logout token",
            |it| it.header["typ"] = "at+jwt".into(),
            Token(Fault::Type),
        ),
        (
            Logout,
            "ID token as logout token",
            |it| {
                it.header["typ"] = "JWT".into();
                remove(&mut it.claims, "events");
            },
            Token(Fault::NotALogout),
        ),
        (
            Logout,
            "event of another kind",
            |it| it.claims["events"] = json!({ "https://example.com/event": {} }),
            Token(Fault::NotALogout),
        ),
        (
            Logout,
            "event without an object",
            |it| {
                it.claims["events"] =
                    json!({ "http://schemas.openid.net/event/backchannel-logout": true });
            },
            Token(Fault::NotALogout),
        ),
        (
            Logout,
            "nonce",
            |it| it.claims["nonce"] = "x".into(),
            Token(Fault::NotALogout),
        ),
        (
            Logout,
            "null nonce",
            |it| it.claims["nonce"] = Value::Null,
            Token(Fault::NotALogout),
        ),
        (
            Logout,
            "no id",
            |it| remove(&mut it.claims, "jti"),
            Token(Fault::Claim("jti")),
        ),
        (
            Logout,
            "neither session nor subject",
            |it| {
                remove(&mut it.claims, "sid");
                remove(&mut it.claims, "sub");
            },
            Token(Fault::Claim("sub")),
        ),
        (
            Logout,
            "further audience",
            |it| it.claims["aud"] = json!([CLIENT_ID, "x"]),
            Token(Fault::Audience),
        ),
        (
            Logout,
            "issued long ago",
            |it| {
                it.claims["iat"] = json!(it.claims["iat"].as_i64().expect("a time") - 700);
            },
            Token(Fault::TooOld),
        ),
    ]
}
