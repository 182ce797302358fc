//! Attacks on sign-on, access tokens and logout, as one table, against a provider with its own keys.
#![allow(missing_docs)]

mod attempt;
#[path = "../common/mod.rs"]
mod common;
mod forged_tokens;
mod protocol;
mod scene;

use accounts::sign_on::*;
use accounts::*;
use attempt::*;
use common::issuer::*;
use common::*;
use scene::Scene;
use serde_json::json;
use std::time::Duration;

fn outcome(result: accounts::Result<()>) -> Option<Expected> {
    match result {
        Ok(()) => None,
        Err(AccountsError::Token(fault)) => Some(Expected::Token(fault)),
        Err(error) => {
            let refusal = error.refusal().unwrap_or_else(|| panic!("{error}"));
            Some(Expected::Refused(refusal))
        }
    }
}

#[tokio::test]
async fn attacks_are_refused_for_their_reason() {
    let scene = Scene::new().await;
    // Unaltered, each of them succeeds.
    let unaltered: fn(&mut Attempt) = |_| {};
    assert_eq!(outcome(scene.run(Kind::SignOn, unaltered).await), None);
    assert_eq!(outcome(scene.run(Kind::Access, unaltered).await), None);
    let rows = scene.rows().await;
    assert_eq!(rows, [1, 1, 1]);
    let kinds = [Kind::SignOn, Kind::Access, Kind::Logout];
    let forged = kinds.into_iter().flat_map(forged_tokens::attacks);
    let attacks: Vec<Attack> = forged.chain(protocol::attacks()).collect();
    assert!(attacks.len() >= 40, "{}", attacks.len());
    for (kind, name, alter, expected) in attacks {
        let refused = outcome(scene.run(kind, alter).await);
        assert_eq!(refused, Some(expected), "{kind:?}: {name}");
        // So that keys may be fetched again, and the control's tokens stay valid.
        scene.fixture.clock.advance(Duration::from_secs(1));
        assert_eq!(scene.rows().await, rows, "{kind:?}: {name}");
    }
    assert_eq!(outcome(scene.run(Kind::Logout, unaltered).await), None);
    assert_eq!(scene.rows().await, [0, 1, 1]);
    let replayed = outcome(scene.run(Kind::Logout, unaltered).await);
    assert_eq!(replayed, Some(Expected::Token(TokenFault::Replayed)));
}

type Variation = (Kind, fn(&mut Attempt));

#[tokio::test]
async fn all_algorithms_are_accepted_with_their_keys() {
    let scene = Scene::new().await;
    let alterations: [fn(&mut Attempt); 6] = [
        |it| signed(it, Signing::Rs256, "RS256", "rsa"),
        |it| signed(it, Signing::Rs256, "RS256", "only-rs256"),
        |it| signed(it, Signing::Ps256, "PS256", "rsa"),
        |it| signed(it, Signing::Es256, "ES256", "ec"),
        |it| signed(it, Signing::EdDsa, "EdDSA", "ed"),
        |it| {
            signed(it, Signing::EdDsa, "EdDSA", "ed");
            // A single key fits.
            remove(&mut it.header, "kid");
            it.claims["at_hash"] =
                base64(&ring::digest::digest(&ring::digest::SHA512, b"opaque").as_ref()[..32])
                    .into();
        },
    ];
    for (number, alter) in alterations.into_iter().enumerate() {
        assert_eq!(
            outcome(scene.run(Kind::SignOn, alter).await),
            None,
            "{number}"
        );
    }
    // Harmless variations that providers have.
    let variations: [Variation; 6] = [
        (Kind::SignOn, |it| remove(&mut it.header, "typ")),
        (Kind::SignOn, |it| it.claims["aud"] = json!([CLIENT_ID])),
        (Kind::SignOn, |it| it.claims["azp"] = CLIENT_ID.into()),
        (Kind::SignOn, |it| {
            it.claims["exp"] = json!(it.claims["iat"].as_f64().expect("a time") - 59.5)
        }),
        (Kind::Access, |it| {
            it.header["typ"] = "application/AT+JWT".into()
        }),
        (Kind::Access, |it| {
            it.claims["aud"] = json!(["https://other.example", AUDIENCE])
        }),
    ];
    for (number, (kind, alter)) in variations.into_iter().enumerate() {
        assert_eq!(outcome(scene.run(kind, alter).await), None, "{number}");
    }
}

#[test]
fn return_paths_stay_on_this_site() {
    for path in [
        "/",
        "/links?page=2#top",
        "/a//b",
        "/%2f%2fattacker.example",
        "/?next=https://x.example",
    ] {
        assert_eq!(ReturnPath::parse(path).expect(path).as_str(), path);
        let read: ReturnPath = serde_json::from_value(json!(path)).expect(path);
        assert_eq!(serde_json::to_value(read).expect("JSON"), json!(path));
    }
    for target in [
        "",
        "links",
        "//attacker.example",
        "///attacker.example",
        "/\\attacker.example",
        "\\\\attacker.example",
        "/\t/attacker.example",
        "\t//attacker.example",
        "/\n/attacker.example",
        " /links",
        "https://attacker.example",
        "https:attacker.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "?next=/",
        "/\u{2215}attacker.example",
        "/\0",
        &format!("/{}", "x".repeat(2_048)),
    ] {
        let refused = ReturnPath::parse(target);
        assert_eq!(refusal(refused), Some(Refusal::InvalidField), "{target:?}");
        let read = serde_json::from_value::<ReturnPath>(json!(target));
        assert!(read.is_err(), "{target:?}");
    }
}

#[test]
fn secrets_of_a_sign_on_have_no_debug_content() {
    let callback = Callback::parse("code=sensitive&state=s&iss=i").expect("a query");
    let token = AccessToken::new("sensitive");
    let secret = ClientSecret::new("sensitive");
    let printed = format!(
        "{callback:?} {token:?} {secret:?} {:?}",
        SignOnCookie::new("sensitive")
    );
    assert!(!printed.contains("sensitive"), "{printed}");
}
