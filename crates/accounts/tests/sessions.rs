//! Sessions on SQLite and on a real PostgreSQL.
#![allow(missing_docs)]

mod common;

use accounts::*;
use common::*;
use sql_store::test_server::TestDatabase;
use std::time::Duration;

#[tokio::test]
async fn session_ends_when_idle_and_after_its_lifetime() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (_, idle) = fixture.first_admin().await;
        let busy = fixture
            .sign_in(&sign_in("admin@example.com", PASSWORD))
            .await
            .expect("signed in");
        let invalid = Some(Refusal::InvalidSession);
        for step in 1..24_u32 {
            fixture.clock.advance(HOUR / 2);
            assert_eq!(
                refusal(fixture.authenticate_session(&busy.token).await),
                None,
                "{step}"
            );
            if step == 2 {
                assert_eq!(
                    refusal(fixture.authenticate_session(&idle.token).await),
                    invalid
                );
            }
        }
        fixture.clock.advance(HOUR / 2);
        assert_eq!(
            refusal(fixture.authenticate_session(&busy.token).await),
            invalid
        );
        assert_eq!(fixture.delete_expired().await.expect("deleted"), 2);
        assert!(
            fixture
                .column("SELECT id FROM accounts_sessions")
                .await
                .is_empty()
        );
    }
}

#[tokio::test]
async fn sign_in_rotates_the_session_of_the_browser() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (_, first) = fixture.first_admin().await;
        // An attacker plants its own or an invented id in the victim's browser before the sign-in.
        let planted = SessionToken::new("A".repeat(43));
        for previous in [&planted, &first.token] {
            let mut request = sign_in("admin@example.com", PASSWORD);
            request.previous = Some(previous.clone());
            let session = fixture.sign_in(&request).await.expect("signed in");
            assert_ne!(session.token.expose(), previous.expose());
            assert_ne!(session.id, first.id);
            let invalid = fixture.authenticate_session(previous).await;
            assert_eq!(refusal(invalid), Some(Refusal::InvalidSession));
        }
    }
}

#[tokio::test]
async fn sessions_are_listed_and_ended_by_their_owner() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let analyst = fixture.signed_in(&admin, "n@example.com", ANALYST).await;
        fixture.clock.advance(MINUTE);
        let mut request = sign_in("n@example.com", PASSWORD);
        request.client = client_at("2001:db8::7");
        request.client.user_agent = "é".repeat(9_999);
        let phone = fixture.sign_in(&request).await.expect("signed in");
        let listed = fixture
            .sessions(&analyst, &analyst.user)
            .await
            .expect("listed");
        let shown: Vec<_> = listed
            .iter()
            .map(|it| (it.address.as_str(), it.is_current))
            .collect();
        assert_eq!(shown, [("2001:db8::7", false), ("192.0.2.1", true)]);
        assert_eq!(listed[0].user_agent, "é".repeat(256));
        assert_eq!(listed[0].method, SessionMethod::Password);

        let missing = SessionId::try_from(format!("ses_{}", "0".repeat(22))).expect("an id");
        let foreign = fixture
            .sessions(&admin, &admin.user)
            .await
            .expect("listed")
            .remove(0)
            .id;
        for id in [&missing, &foreign] {
            let ended = fixture.end_session(&analyst, id).await;
            assert_eq!(refusal(ended), Some(Refusal::NotFound));
        }
        fixture
            .end_session(&analyst, &phone.id)
            .await
            .expect("ended");
        let ended = fixture.authenticate_session(&phone.token).await;
        assert_eq!(refusal(ended), Some(Refusal::InvalidSession));

        fixture.sign_in(&request).await.expect("signed in");
        assert_eq!(
            fixture
                .end_sessions(&analyst, &analyst.user)
                .await
                .expect("ended"),
            1
        );
        let left = fixture
            .sessions(&analyst, &analyst.user)
            .await
            .expect("listed");
        assert!(left.len() == 1 && left[0].is_current);
        // An operator ends those of a user.
        assert_eq!(
            fixture
                .end_sessions(&admin, &analyst.user)
                .await
                .expect("ended"),
            1
        );
    }
}

#[tokio::test]
async fn oldest_session_ends_when_there_are_too_many() {
    let settings = AccountsSettings {
        max_sessions: 3,
        ..AccountsSettings::default()
    };
    let fixture = Fixture::with_settings(TestDatabase::sqlite(), settings).await;
    let (_, first) = fixture.first_admin().await;
    let mut sessions = vec![first];
    for _ in 0..3 {
        fixture.clock.advance(Duration::from_secs(1));
        let session = fixture
            .sign_in(&sign_in("admin@example.com", PASSWORD))
            .await;
        sessions.push(session.expect("signed in"));
    }
    for (at, session) in sessions.iter().enumerate() {
        let authenticated = fixture.authenticate_session(&session.token).await;
        assert_eq!(authenticated.is_ok(), at > 0, "{at}");
    }
}

#[tokio::test]
async fn csrf_token_belongs_to_one_session() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (_, one) = fixture.first_admin().await;
    let other = fixture
        .sign_in(&sign_in("admin@example.com", PASSWORD))
        .await
        .expect("signed in");
    assert!(one.token.check_csrf(&one.token.csrf_token()).is_ok());
    let right = one.token.csrf_token();
    for wrong in [
        "",
        "0",
        &right.expose()[1..],
        other.token.csrf_token().expose(),
        one.token.expose(),
    ] {
        let checked = one.token.check_csrf(&CsrfToken::new(wrong));
        assert_eq!(refusal(checked), Some(Refusal::InvalidCsrfToken), "{wrong}");
    }
}

#[tokio::test]
async fn only_hashes_of_sessions_are_stored() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (_, session) = fixture.first_admin().await;
    let hashes = fixture.column("SELECT hash FROM accounts_sessions").await;
    assert!(hashes.len() == 1 && hashes[0] != session.token.expose());
    // Neither the hash nor the public id opens the session.
    for text in [
        hashes[0].as_str(),
        session.id.as_str(),
        "",
        &"x".repeat(100_000),
        "\0",
    ] {
        let authenticated = fixture.authenticate_session(&SessionToken::new(text)).await;
        assert_eq!(refusal(authenticated), Some(Refusal::InvalidSession));
    }
    fixture.sign_out(&session.token).await.expect("signed out");
    assert!(
        fixture
            .column("SELECT hash FROM accounts_sessions")
            .await
            .is_empty()
    );
}
