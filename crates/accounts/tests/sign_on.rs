//! Sign-on: accounts, roles, keys that rotate, a provider that fails. On SQLite and on a real PostgreSQL.
#![allow(missing_docs)]

mod common;

use accounts::sign_on::*;
use accounts::*;
use common::issuer::*;
use common::*;
use domain::{AffiliateId, NetworkId};
use futures::future::join_all;
use serde_json::{Value, json};
use sql_store::test_server::TestDatabase;
use std::sync::Arc;
use std::time::Duration;

struct Scene {
    fixture: Fixture,
    issuer: Issuer,
    sign_on: SignOn,
}

fn connect(accounts: &Accounts, settings: ProviderSettings) -> SignOn {
    let http = Arc::new(HyperClient::new(rustls::RootCertStore::empty()));
    SignOn::new(accounts.clone(), settings, http).expect("settings")
}

impl Scene {
    async fn new(database: TestDatabase) -> Self {
        let fixture = Fixture::new(database).await;
        let issuer = Issuer::start().await;
        let sign_on = connect(&fixture.accounts, issuer.settings());
        Self {
            fixture,
            issuer,
            sign_on,
        }
    }

    fn token(&self, typ: &str, kid: &str, claims: &Value) -> String {
        let seconds = self.fixture.clock.now().millis() / 1_000;
        let mut all = json!({ "iss": self.issuer.url, "iat": seconds, "exp": seconds + 300 });
        let object = all.as_object_mut().expect("an object");
        object.extend(claims.as_object().expect("an object").clone());
        sign(
            Signing::Rs256,
            &json!({ "alg": "RS256", "typ": typ, "kid": kid }),
            &all,
        )
    }

    /// Signs a subject on, whose ID token has these claims.
    async fn enter(&self, claims: Value) -> accounts::Result<SignedOn> {
        let page = ReturnPath::parse("/links?page=2").expect("a path");
        let begun = self.sign_on.begin(page).await?;
        let mut all = json!({ "aud": CLIENT_ID, "nonce": parameter(begun.url(), "nonce"), "email": "unverified@example.com" });
        let object = all.as_object_mut().expect("an object");
        object.extend(claims.as_object().expect("an object").clone());
        let id_token = self.token("JWT", "rsa", &all);
        let response =
            json!({ "id_token": id_token, "access_token": "opaque", "token_type": "bearer" });
        self.issuer.grant(begun.url(), "code", response);
        let state = parameter(begun.url(), "state");
        let callback =
            Callback::parse(&format!("code=code&state={state}&iss={}", self.issuer.url))?;
        self.sign_on
            .finish(&callback, &begun.cookie, &client(), None)
            .await
    }

    fn access_token(&self, kid: &str, subject: &str, scope: &str) -> AccessToken {
        let claims = json!({ "aud": AUDIENCE, "sub": subject, "client_id": "app", "jti": "1", "scope": scope });
        AccessToken::new(self.token("at+jwt", kid, &claims))
    }

    async fn access(&self, kid: &str) -> Option<Refusal> {
        let token = self.access_token(kid, "alice", FULL_ACCESS);
        refusal(self.sign_on.authenticate_access_token(&token).await)
    }
}

const UNLINKED: Membership = Membership::Affiliate {
    network: NetworkId(1),
    affiliate: None,
};

#[tokio::test]
async fn groups_decide_the_role_at_each_sign_on() {
    for database in TestDatabase::both() {
        let scene = Scene::new(database).await;
        let (admin, _) = scene.fixture.first_admin().await;
        let enter = async |groups: Value| {
            scene
                .enter(json!({ "sub": "alice", "groups": groups, "name": "Alice" }))
                .await
        };
        let first = enter(json!(["staff", "managers"]))
            .await
            .expect("signed on");
        let user = first.session.user.id.clone();
        assert_eq!(
            first.events,
            [AccountEvent::UserRegistered { user: user.clone() }]
        );
        assert_eq!(first.return_to.as_str(), "/links?page=2");
        let principal = scene.fixture.principal(&first.session).await;
        assert_eq!((&principal.user, principal.membership), (&user, MANAGER));
        for (groups, expected) in [
            (json!(["managers", "admins"]), Membership::Admin),
            (json!("managers"), MANAGER),
            (json!(["Managers", 7, null]), UNLINKED),
            (json!({ "managers": true }), UNLINKED),
            (json!([]), UNLINKED),
        ] {
            let entered = enter(groups.clone()).await.expect("signed on");
            assert!(entered.events.is_empty());
            assert_eq!(entered.session.user.id, user);
            assert_eq!(entered.session.user.membership, expected, "{groups}");
        }
        // What an operator assigned stays, unless a group decides.
        let linked = Membership::Affiliate {
            network: NetworkId(1),
            affiliate: Some(AffiliateId(11)),
        };
        scene
            .fixture
            .set_membership(&admin, &user, linked)
            .await
            .expect("changed");
        for (groups, expected) in [
            (json!([]), linked),
            (json!(["managers"]), MANAGER),
            (json!([]), UNLINKED),
        ] {
            let entered = enter(groups).await.expect("signed on");
            assert_eq!(entered.session.user.membership, expected);
        }
        scene
            .fixture
            .set_status(&admin, &user, UserStatus::Disabled)
            .await
            .expect("disabled");
        assert_eq!(
            refusal(enter(json!(["admins"])).await),
            Some(Refusal::NoAccount)
        );
        assert_eq!(scene.access("rsa").await, Some(Refusal::NoAccount));
    }
}

#[tokio::test]
async fn changed_groups_end_keys_and_sessions() {
    for database in TestDatabase::both() {
        let scene = Scene::new(database).await;
        let enter = async |groups: &str| {
            let claims = json!({ "sub": "alice", "groups": [groups] });
            scene.enter(claims).await.expect("signed on").session
        };
        let first = enter("managers").await;
        let principal = scene.fixture.principal(&first).await;
        let new = NewKey {
            user: principal.user.clone(),
            label: "ci".to_owned(),
            scopes: Scopes::parse("links.read").expect("scopes"),
            expires: None,
        };
        let created = scene.fixture.create_key(&principal, &new).await;
        let key = created.expect("created").key;
        // The provider may have removed the user.
        scene.fixture.clock.advance(DAY * 30);
        let old = scene.fixture.authenticate_key(&key).await;
        assert_eq!(refusal(old), Some(Refusal::SignOnTooOld));
        let first = enter("managers").await;
        for (groups, works) in [("managers", true), ("admins", false), ("managers", false)] {
            enter(groups).await;
            let session = scene.fixture.authenticate_session(&first.token).await;
            assert_eq!(session.is_ok(), works, "session of {groups}");
            let authenticated = scene.fixture.authenticate_key(&key).await;
            assert_eq!(authenticated.is_ok(), works, "key of {groups}");
        }
    }
}

#[tokio::test]
async fn user_that_loses_its_groups_is_suspended() {
    for database in TestDatabase::both() {
        let mut scene = Scene::new(database).await;
        let settings = ProviderSettings {
            unmapped: Unmapped::Refuse,
            ..scene.issuer.settings()
        };
        scene.sign_on = connect(&scene.fixture.accounts, settings);
        let stranger = scene.enter(json!({ "sub": "bob", "groups": [] })).await;
        assert_eq!(refusal(stranger), Some(Refusal::NoRole));
        assert!(
            scene
                .fixture
                .column("SELECT id FROM accounts_users")
                .await
                .is_empty()
        );

        let managers = json!({ "sub": "alice", "groups": ["managers"] });
        let first = scene.enter(managers.clone()).await.expect("signed on");
        let principal = scene.fixture.principal(&first.session).await;
        let scopes = Scopes::parse("links.read").expect("scopes");
        let new = NewKey {
            user: principal.user.clone(),
            label: "ci".to_owned(),
            scopes,
            expires: None,
        };
        let key = scene
            .fixture
            .create_key(&principal, &new)
            .await
            .expect("created")
            .key;
        let lost = scene.enter(json!({ "sub": "alice", "groups": [] })).await;
        assert_eq!(refusal(lost), Some(Refusal::NoRole));
        let session = scene
            .fixture
            .authenticate_session(&first.session.token)
            .await;
        assert_eq!(refusal(session), Some(Refusal::InvalidSession));
        assert_eq!(
            refusal(scene.fixture.authenticate_key(&key).await),
            Some(Refusal::InvalidKey)
        );
        assert_eq!(scene.access("rsa").await, Some(Refusal::NoAccount));
        scene.enter(managers).await.expect("signed on");
        assert_eq!(refusal(scene.fixture.authenticate_key(&key).await), None);
    }
}

#[tokio::test]
async fn admin_of_the_provider_replaces_the_setup_token() {
    let scene = Scene::new(TestDatabase::sqlite()).await;
    for (groups, is_issued) in [("managers", true), ("admins", false)] {
        let entered = scene.enter(json!({ "sub": "alice", "groups": [groups] }));
        entered.await.expect("signed on");
        let token = scene.fixture.issue_setup_token().await.expect("read");
        assert_eq!(token.is_some(), is_issued, "{groups}");
    }
}

#[tokio::test]
async fn accounts_are_never_linked_by_email() {
    let scene = Scene::new(TestDatabase::sqlite()).await;
    let (admin, _) = scene.fixture.first_admin().await;
    for (verified, expected) in [
        (json!(true), Some("admin@example.com")),
        (json!(false), None),
        (json!("true"), None),
        (Value::Null, None),
    ] {
        let claims = json!({
            "sub": "mallory", "groups": [], "email": "Admin@example.com", "email_verified": verified,
        });
        let user = scene.enter(claims).await.expect("signed on").session.user;
        assert_ne!(user.id, admin.user);
        assert_eq!(
            user.email.as_ref().map(Email::as_str),
            expected,
            "{verified}"
        );
        assert!(!user.is_local);
    }
    // The address signs only the local user in.
    let signed_in = scene
        .fixture
        .sign_in(&sign_in("admin@example.com", PASSWORD))
        .await;
    assert_eq!(signed_in.expect("signed in").user.id, admin.user);
    let mallory = scene.fixture.users(&admin, None, 10).await.expect("listed");
    let mallory = mallory
        .into_iter()
        .find(|user| !user.is_local)
        .expect("listed");
    let token = scene
        .fixture
        .issue_password_token(&admin, &mallory.id)
        .await;
    assert_eq!(refusal(token), Some(Refusal::InvalidField));
}

#[tokio::test]
async fn missing_claims_come_from_the_user_information() {
    let scene = Scene::new(TestDatabase::sqlite()).await;
    scene.issuer.state().user_information = json!({
        "sub": "alice", "groups": ["managers"], "name": "  Alice\u{7} \u{202e}A.  ",
        "email": "alice@example.com", "email_verified": true,
    });
    let user = scene
        .enter(json!({ "sub": "alice" }))
        .await
        .expect("signed on")
        .session
        .user;
    assert_eq!(
        (user.membership, user.email),
        (MANAGER, Some(email("alice@example.com")))
    );
    assert!(user.name.starts_with("Alice ") && !user.name.contains('\u{7}'));
    assert_eq!(scene.issuer.requests_to("/userinfo"), 1);
    scene
        .issuer
        .state()
        .broken
        .insert("/userinfo".to_owned(), (401, String::new()));
    let failed = scene.enter(json!({ "sub": "alice", "email": null })).await;
    assert_eq!(refusal(failed), Some(Refusal::ProviderUnavailable));
}

#[tokio::test]
async fn access_tokens_have_the_scopes_that_they_name() {
    let scene = Scene::new(TestDatabase::sqlite()).await;
    let entered = scene
        .enter(json!({ "sub": "alice", "groups": ["managers"] }))
        .await;
    let user = entered.expect("signed on").session.user.id;
    let manager = Scopes::of_role(Role::Manager).to_text();
    for (scope, expected) in [
        (FULL_ACCESS, manager.as_str()),
        ("openid links.read edges.write", "links.read"),
        ("", ""),
    ] {
        let token = scene.access_token("rsa", "alice", scope);
        let principal = scene.sign_on.validate(&token, &user).await.expect("valid");
        assert_eq!(principal.scopes.to_text(), expected);
        assert_eq!(
            (principal.user, principal.credential),
            (user.clone(), Credential::AccessToken)
        );
    }
    let bob = scene
        .enter(json!({ "sub": "bob", "groups": [] }))
        .await
        .expect("signed on")
        .session
        .user
        .id;
    let token = scene.access_token("rsa", "alice", FULL_ACCESS);
    let other = scene.sign_on.validate(&token, &bob).await;
    assert!(
        matches!(other, Err(AccountsError::Token(TokenFault::Subject))),
        "{other:?}"
    );
}

#[tokio::test]
async fn rotated_keys_are_fetched_at_a_bounded_rate() {
    let scene = Scene::new(TestDatabase::sqlite()).await;
    scene
        .enter(json!({ "sub": "alice", "groups": ["managers"] }))
        .await
        .expect("signed on");
    let fetched = || scene.issuer.requests_to("/jwks");
    assert_eq!(fetched(), 1);
    let invalid = Some(Refusal::InvalidToken);
    // Just after the first request, the second waits; then the new key is found.
    let mut rotated = jwks();
    rotated[0]["kid"] = "rotated".into();
    scene.issuer.state().keys = rotated;
    assert_eq!((scene.access("rotated").await, fetched()), (invalid, 1));
    scene.fixture.clock.advance(Duration::from_secs(30));
    assert_eq!((scene.access("rotated").await, fetched()), (None, 2));
    // The key that was replaced is not accepted any more.
    assert_eq!((scene.access("rsa").await, fetched()), (invalid, 2));
    // A flood of invented keys causes one request in 30 seconds.
    for (advance, expected) in [(30, 3), (0, 3), (29, 3), (1, 4)] {
        scene.fixture.clock.advance(Duration::from_secs(advance));
        let flood = (0..50).map(|_| scene.access("invented"));
        assert!(join_all(flood).await.iter().all(|it| *it == invalid));
        assert_eq!(fetched(), expected);
    }
    assert_eq!(scene.access("rotated").await, None);
}

#[tokio::test]
async fn provider_outage_does_not_stop_known_keys() {
    let scene = Scene::new(TestDatabase::sqlite()).await;
    let enter = async || {
        refusal(
            scene
                .enter(json!({ "sub": "alice", "groups": ["managers"] }))
                .await,
        )
    };
    assert_eq!(enter().await, None);
    for path in ["/jwks", "/.well-known/openid-configuration"] {
        scene
            .issuer
            .state()
            .broken
            .insert(path.to_owned(), (503, String::new()));
    }
    for (advance, expected) in [
        (Duration::ZERO, None),
        (HOUR, None),
        (HOUR * 22, None),
        (HOUR, Some(Refusal::ProviderUnavailable)),
    ] {
        scene.fixture.clock.advance(advance);
        assert_eq!(scene.access("rsa").await, expected, "{advance:?}");
    }
    scene.issuer.state().broken.clear();
    // The next request may be made half a minute after the one that failed.
    assert_eq!(
        scene.access("rsa").await,
        Some(Refusal::ProviderUnavailable)
    );
    scene.fixture.clock.advance(Duration::from_secs(30));
    assert_eq!(scene.access("rsa").await, None);
}

type Change = Box<dyn FnOnce(&mut State)>;

#[tokio::test]
async fn unusable_providers_are_reported_with_the_reason() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let replace = |name: &'static str, value: Value| {
        move |state: &mut State| {
            state.metadata.insert(name.to_owned(), value);
        }
    };
    let fail = |path: &'static str, status: u16, body: String| {
        move |state: &mut State| {
            state.broken.insert(path.to_owned(), (status, body));
        }
    };
    const METADATA: &str = "/.well-known/openid-configuration";
    let cases: Vec<(Change, &str)> = vec![
        (
            Box::new(replace("issuer", json!("https://attacker.example"))),
            "another issuer",
        ),
        (
            Box::new(replace(
                "token_endpoint",
                json!("http://attacker.example/token"),
            )),
            "token_endpoint is not an https URL",
        ),
        (
            Box::new(replace("jwks_uri", json!("file:///etc/passwd"))),
            "jwks_uri is not an https URL",
        ),
        (
            Box::new(replace(
                "authorization_endpoint",
                json!("javascript:alert(1)"),
            )),
            "authorization_endpoint is not",
        ),
        (
            Box::new(replace(
                "userinfo_endpoint",
                json!("https://user:password@example.com/"),
            )),
            "userinfo_endpoint is not",
        ),
        (
            Box::new(replace(
                "code_challenge_methods_supported",
                json!(["plain"]),
            )),
            "without S256",
        ),
        (
            Box::new(replace("jwks_uri", Value::Null)),
            "not the expected JSON",
        ),
        (Box::new(fail(METADATA, 500, String::new())), "status 500"),
        (Box::new(fail(METADATA, 302, String::new())), "status 302"),
        (
            Box::new(fail(METADATA, 200, "<html>".to_owned())),
            "not the expected JSON",
        ),
        (
            Box::new(fail(METADATA, 200, "x".repeat(300 << 10))),
            "longer than 256 KiB",
        ),
        (
            Box::new(|state: &mut State| state.keys.clear()),
            "no usable key",
        ),
        (
            Box::new(fail("/jwks", 200, "[]".to_owned())),
            "response of its jwks_uri is not",
        ),
    ];
    for (change, reason) in cases {
        let issuer = Issuer::start().await;
        change(&mut issuer.state());
        let sign_on = connect(&fixture.accounts, issuer.settings());
        let error = sign_on.begin(ReturnPath::parse("/").expect("a path")).await;
        let error = error.expect_err(reason);
        assert_eq!(error.refusal(), Some(Refusal::ProviderUnavailable));
        assert!(error.to_string().contains(reason), "{error}");
    }
    let mut unreachable = Issuer::start().await.settings();
    unreachable.issuer = "http://127.0.0.1:1".to_owned();
    let sign_on = connect(&fixture.accounts, unreachable);
    let begun = sign_on.begin(ReturnPath::parse("/").expect("a path")).await;
    let error = begun.expect_err("no server").to_string();
    assert!(error.contains("can't be reached"), "{error}");
}

#[tokio::test]
async fn contradictory_settings_are_refused() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let issuer = Issuer::start().await;
    let change = |field: &str, text: &str| {
        let mut settings = issuer.settings();
        let text = text.to_owned();
        match field {
            "issuer" => settings.issuer = text,
            "redirect_uri" => settings.redirect_uri = text,
            "client_id" => settings.client_id = text,
            "groups_claim" => settings.groups_claim = text,
            _ => settings.audience = text,
        }
        settings
    };
    for (field, text) in [
        ("issuer", "http://sso.example.com"),
        ("issuer", "https://sso.example.com/?tenant=1"),
        ("issuer", "sso.example.com"),
        ("redirect_uri", "http://console.example.com/callback"),
        ("redirect_uri", "https://console.example.com/#callback"),
        ("client_id", ""),
        ("groups_claim", ""),
        ("audience", ""),
        ("audience", CLIENT_ID),
    ] {
        let http = Arc::new(HyperClient::new(rustls::RootCertStore::empty()));
        let made = SignOn::new(fixture.accounts.clone(), change(field, text), http);
        assert_eq!(made.map(drop).expect_err(field).field, field, "{text}");
    }
}

#[tokio::test]
async fn logout_ends_sessions_of_the_session_or_subject() {
    for database in TestDatabase::both() {
        let scene = Scene::new(database).await;
        let enter = async |subject: &str, sid: &str| {
            let claims = json!({ "sub": subject, "sid": sid, "groups": [] });
            scene.enter(claims).await.expect("signed on").session.token
        };
        let tokens = [
            enter("alice", "a1").await,
            enter("alice", "a2").await,
            enter("alice", "a2").await,
            enter("bob", "b1").await,
            enter("alice", "").await,
        ];
        let events = json!({ "http://schemas.openid.net/event/backchannel-logout": {} });
        let mut alive = [true; 5];
        for (jti, sid, subject, ended, ends) in [
            ("1", Some("a2"), Some("alice"), 3, vec![1, 2, 4]),
            ("2", Some("unknown"), None, 0, vec![]),
            ("3", None, Some("stranger"), 0, vec![]),
            ("4", None, Some("alice"), 1, vec![0]),
            ("5", Some("b1"), None, 1, vec![3]),
        ] {
            let mut claims = json!({ "aud": CLIENT_ID, "jti": jti, "events": events });
            for (name, value) in [("sid", sid), ("sub", subject)] {
                if let Some(value) = value {
                    claims[name] = value.into();
                }
            }
            let token = scene.token("logout+jwt", "rsa", &claims);
            assert_eq!(
                scene
                    .sign_on
                    .back_channel_logout(&token)
                    .await
                    .expect("valid"),
                ended
            );
            for at in ends {
                alive[at] = false;
            }
            for (token, alive) in tokens.iter().zip(alive) {
                assert_eq!(
                    scene.fixture.authenticate_session(token).await.is_ok(),
                    alive
                );
            }
        }
    }
}
