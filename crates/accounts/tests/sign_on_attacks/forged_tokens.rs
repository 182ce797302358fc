//! Attacks on the form, key, signature, issuer, audience and times of a token, for tokens of every kind.

use crate::attempt::*;
use crate::common::issuer::*;
use Expected::Token;
use accounts::sign_on::TokenFault as Fault;
use serde_json::json;

/// The attacks with tokens of this kind.
pub(crate) fn attacks(kind: Kind) -> Vec<Attack> {
    vec![
        (
            kind,
            "algorithm none",
            |it| signed(it, Signing::Nothing, "none", "rsa"),
            Token(Fault::Algorithm),
        ),
        (
            kind,
            "algorithm nOnE",
            |it| signed(it, Signing::Nothing, "nOnE", "rsa"),
            Token(Fault::Algorithm),
        ),
        (
            kind,
            "no signature",
            |it| signed(it, Signing::Nothing, "RS256", "rsa"),
            Token(Fault::Signature),
        ),
        (
            kind,
            "HS256 with the public key",
            |it| signed(it, Signing::HmacOfPublicKey, "HS256", "rsa"),
            Token(Fault::Algorithm),
        ),
        (
            kind,
            "HMAC as RS256",
            |it| signed(it, Signing::HmacOfPublicKey, "RS256", "rsa"),
            Token(Fault::Signature),
        ),
        (
            kind,
            "HS256 with a published secret",
            |it| signed(it, Signing::HmacOfPublicKey, "HS256", "secret"),
            Token(Fault::Algorithm),
        ),
        (
            kind,
            "null critical extension",
            |it| it.header["crit"] = serde_json::Value::Null,
            Token(Fault::CriticalExtension),
        ),
        (
            kind,
            "RS384",
            |it| signed(it, Signing::Rs256, "RS384", "rsa"),
            Token(Fault::Algorithm),
        ),
        (
            kind,
            "a foreign key's signature",
            |it| signed(it, Signing::Foreign, "RS256", "rsa"),
            Token(Fault::Signature),
        ),
        (
            kind,
            "a foreign key in the header",
            |it| {
                signed(it, Signing::Foreign, "RS256", "rsa");
                it.header["jwk"] = foreign_jwk("rsa");
            },
            Token(Fault::Signature),
        ),
        (
            kind,
            "a foreign set of keys in the header",
            |it| {
                signed(it, Signing::Foreign, "RS256", "elsewhere");
                it.header["jku"] = "https://attacker.example/jwks".into();
            },
            Token(Fault::UnknownKey),
        ),
        (
            kind,
            "unknown key id",
            |it| it.header["kid"] = "nope".into(),
            Token(Fault::UnknownKey),
        ),
        (
            kind,
            "key id of a path",
            |it| it.header["kid"] = "../../dev/null".into(),
            Token(Fault::UnknownKey),
        ),
        (
            kind,
            "no key id, several keys",
            |it| remove(&mut it.header, "kid"),
            Token(Fault::UnknownKey),
        ),
        (
            kind,
            "a key for encryption",
            |it| signed(it, Signing::Foreign, "RS256", "encryption"),
            Token(Fault::UnknownKey),
        ),
        (
            kind,
            "PS256 with a key for RS256",
            |it| signed(it, Signing::Ps256, "PS256", "only-rs256"),
            Token(Fault::UnknownKey),
        ),
        (
            kind,
            "RS256 with a key of P-256",
            |it| signed(it, Signing::Es256, "RS256", "ec"),
            Token(Fault::UnknownKey),
        ),
        (
            kind,
            "RS256 named PS256",
            |it| signed(it, Signing::Rs256, "PS256", "rsa"),
            Token(Fault::Signature),
        ),
        (
            kind,
            "altered claims",
            |it| it.alter_text = altered_payload,
            Token(Fault::Signature),
        ),
        (
            kind,
            "critical extension",
            |it| it.header["crit"] = json!(["exp"]),
            Token(Fault::CriticalExtension),
        ),
        (
            kind,
            "other issuer",
            |it| it.claims["iss"] = "https://attacker.example".into(),
            Token(Fault::Issuer),
        ),
        (
            kind,
            "issuer with a slash",
            |it| it.claims["iss"] = format!("{}/", it.claims["iss"].as_str().expect("text")).into(),
            Token(Fault::Issuer),
        ),
        (
            kind,
            "no issuer",
            |it| remove(&mut it.claims, "iss"),
            Token(Fault::Claim("iss")),
        ),
        (
            kind,
            "other audience",
            |it| it.claims["aud"] = "another-client".into(),
            Token(Fault::Audience),
        ),
        (
            kind,
            "no audience",
            |it| remove(&mut it.claims, "aud"),
            Token(Fault::Claim("aud")),
        ),
        (
            kind,
            "empty audience",
            |it| it.claims["aud"] = json!([]),
            Token(Fault::Audience),
        ),
        (
            kind,
            "expired",
            |it| it.claims["exp"] = json!(it.claims["iat"].as_i64().expect("a time") - 61),
            Token(Fault::Expired),
        ),
        (
            kind,
            "no expiry",
            |it| remove(&mut it.claims, "exp"),
            Token(Fault::Claim("exp")),
        ),
        (
            kind,
            "expiry as a text",
            |it| it.claims["exp"] = "9999999999".into(),
            Token(Fault::Claim("exp")),
        ),
        (
            kind,
            "negative expiry",
            |it| it.claims["exp"] = json!(-1),
            Token(Fault::Claim("exp")),
        ),
        (
            kind,
            "issued in the future",
            |it| it.claims["iat"] = json!(it.claims["iat"].as_i64().expect("a time") + 61),
            Token(Fault::NotYetValid),
        ),
        (
            kind,
            "not valid yet",
            |it| it.claims["nbf"] = json!(it.claims["iat"].as_i64().expect("a time") + 61),
            Token(Fault::NotYetValid),
        ),
        (
            kind,
            "no token",
            |it| it.alter_text = |_| String::new(),
            Token(Fault::Malformed),
        ),
        (
            kind,
            "two parts",
            |it| it.alter_text = |text| text.rsplit_once('.').expect("parts").0.to_owned(),
            Token(Fault::Malformed),
        ),
        (
            kind,
            "four parts",
            |it| it.alter_text = |text| text + ".AAAA",
            Token(Fault::Malformed),
        ),
        (
            kind,
            "padded parts",
            |it| it.alter_text = |text| text + "==",
            Token(Fault::Malformed),
        ),
        (
            kind,
            "no JSON",
            |it| it.alter_text = |_| "AAAA.AAAA.AAAA".to_owned(),
            Token(Fault::Malformed),
        ),
        (
            kind,
            "too long",
            |it| it.claims["x"] = "x".repeat(16 << 10).into(),
            Token(Fault::Malformed),
        ),
    ]
}
