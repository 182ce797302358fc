//! API keys on SQLite and on a real PostgreSQL.
#![allow(missing_docs)]

mod common;

use accounts::*;
use common::*;
use domain::Micros;
use futures::future::join_all;
use sql_store::test_server::TestDatabase;
use std::time::Duration;

fn new_key(user: &UserId, scopes: &str, expires: Option<Micros>) -> NewKey {
    NewKey {
        user: user.clone(),
        label: "ci".to_owned(),
        scopes: Scopes::parse(scopes).expect("scopes"),
        expires,
    }
}

#[tokio::test]
async fn key_acts_with_its_scopes_until_it_ends() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let user = fixture.add_user(&admin, "m@example.com", MANAGER).await;
        let create = |expires| {
            let new = new_key(&user.id, "links.read links.write", expires);
            let fixture = &fixture;
            let admin = &admin;
            async move { fixture.create_key(admin, &new).await.expect("created") }
        };
        let (endless, short) = (
            create(None).await,
            create(Some(START.saturating_add(HOUR))).await,
        );
        let principal = fixture.authenticate_key(&endless.key).await.expect("valid");
        assert_eq!(principal.scopes.to_text(), "links.read links.write");
        assert_eq!((&principal.user, principal.membership), (&user.id, MANAGER));
        assert_eq!(
            principal.credential,
            Credential::Key(endless.info.id.clone())
        );

        fixture.clock.advance(HOUR - Duration::from_micros(1));
        assert_eq!(refusal(fixture.authenticate_key(&short.key).await), None);
        fixture.clock.advance(Duration::from_micros(1));
        let expired = fixture.authenticate_key(&short.key).await;
        assert_eq!(refusal(expired), Some(Refusal::InvalidKey));

        fixture
            .set_status(&admin, &user.id, UserStatus::Disabled)
            .await
            .expect("disabled");
        let disabled = fixture.authenticate_key(&endless.key).await;
        assert_eq!(refusal(disabled), Some(Refusal::InvalidKey));
        fixture
            .set_status(&admin, &user.id, UserStatus::Active)
            .await
            .expect("enabled");
        fixture
            .revoke_key(&admin, &endless.info.id)
            .await
            .expect("revoked");
        let revoked = fixture.authenticate_key(&endless.key).await;
        assert_eq!(refusal(revoked), Some(Refusal::InvalidKey));
        let listed = fixture.keys(&admin, &user.id).await.expect("listed");
        assert_eq!(listed.len(), 2);
    }
}

#[tokio::test]
async fn altered_keys_are_refused_before_and_after_lookup() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (admin, _) = fixture.first_admin().await;
    let created = fixture
        .create_key(&admin, &new_key(&admin.user, "links.read", None))
        .await;
    let text = created.expect("created").key.expose().to_owned();
    assert_eq!(text.len(), 61);
    let flip = |at: usize| {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
        String::from_utf8(bytes).expect("ASCII")
    };
    let mut altered: Vec<String> = (0..text.len()).map(flip).collect();
    altered.extend([
        String::new(),
        "fz_".to_owned(),
        format!("{text} "),
        text[..60].to_owned(),
        text.replace("fz_", "FZ_"),
        text.replacen('_', "-", 1),
        "é".repeat(61),
        "fz_abcdefgh_".to_owned() + &"0".repeat(49),
        "x".repeat(100_000),
    ]);
    for altered in &altered {
        let error = ApiKey::parse(altered).expect_err("another checksum");
        assert_eq!(error, Refusal::MalformedKey);
    }
    // A well-formed key with the same id, from another deployment.
    let other = Fixture::new(TestDatabase::sqlite()).await;
    let (foreign_admin, _) = other.first_admin().await;
    let foreign = other
        .create_key(
            &foreign_admin,
            &new_key(&foreign_admin.user, "links.read", None),
        )
        .await;
    let foreign = foreign.expect("created").key;
    assert_eq!(
        refusal(fixture.authenticate_key(&foreign).await),
        Some(Refusal::InvalidKey)
    );
    let key = ApiKey::parse(&text).expect("its checksum");
    assert_eq!(refusal(fixture.authenticate_key(&key).await), None);
}

#[tokio::test]
async fn key_with_another_secret_is_refused() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (admin, _) = fixture.first_admin().await;
    let new = new_key(&admin.user, "links.read", None);
    let key = fixture.create_key(&admin, &new).await.expect("created").key;
    // The right id, a guessed secret and the checksum that belongs to both.
    let guess = |secret: &str| {
        let body = format!("{}{secret}", &key.expose()[..12]);
        let text = format!("{body}{}", checksum(&body));
        ApiKey::parse(&text).expect("a right checksum")
    };
    let right = &key.expose()[12..55];
    let valid = fixture.authenticate_key(&guess(right)).await;
    assert_eq!(refusal(valid), None);
    for secret in ["0".repeat(43), right.to_lowercase(), right.to_uppercase()] {
        let refused = fixture.authenticate_key(&guess(&secret)).await;
        assert_eq!(refusal(refused), Some(Refusal::InvalidKey), "{secret}");
    }
}

/// CRC-32C in six digits of base 62.
fn checksum(body: &str) -> String {
    let digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let number = crc32c::crc32c(body.as_bytes());
    let digit = |power| {
        let digit = number / 62_u32.pow(power) % 62;
        digits.chars().nth(digit as usize).expect("a digit")
    };
    (0..=5).rev().map(digit).collect()
}

#[tokio::test]
async fn only_hashes_of_keys_are_stored() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, session) = fixture.first_admin().await;
        let created = fixture
            .create_key(&admin, &new_key(&admin.user, "links.read", None))
            .await;
        let created = created.expect("created");
        let hashes = fixture.column("SELECT hash FROM accounts_api_keys").await;
        assert_eq!(hashes[0].len(), 64);
        assert!(!created.key.expose().contains(&hashes[0]));
        let printed = format!(
            "{created:?} {:?} {session:?} {:?}",
            created.key, fixture.accounts
        );
        for secret in [
            created.key.expose(),
            &created.key.expose()[12..],
            session.token.expose(),
            "admin@",
        ] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}

#[tokio::test]
async fn last_use_is_written_once_a_minute() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (admin, _) = fixture.first_admin().await;
    let created = fixture
        .create_key(&admin, &new_key(&admin.user, "links.read", None))
        .await;
    let key = created.expect("created").key;
    let second = Duration::from_secs(1);
    for (advance, expected) in [
        (Duration::ZERO, START),
        (MINUTE - second, START),
        (second, START.saturating_add(MINUTE)),
        (second, START.saturating_add(MINUTE)),
    ] {
        fixture.clock.advance(advance);
        fixture.authenticate_key(&key).await.expect("valid");
        let keys = fixture.keys(&admin, &admin.user).await.expect("listed");
        assert_eq!(keys[0].last_used, Some(expected));
    }
}

#[tokio::test]
async fn processes_use_one_database_at_the_same_time() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let location = fixture.database.location();
        let other = open(&location, &fixture.clock, AccountsSettings::default()).await;
        let (admin, session) = fixture.first_admin().await;
        let new = new_key(&admin.user, "links.read", None);
        let key = fixture.create_key(&admin, &new).await.expect("created").key;
        for _ in 0..20 {
            // Each of them writes the time of the last use.
            fixture.clock.advance(MINUTE);
            let (one, two) = (&fixture.accounts, &other);
            let keys = [one, two, one, two].map(|it| it.authenticate_key(&key));
            let sessions = [two, one, two, one].map(|it| it.authenticate_session(&session.token));
            let (keys, sessions) = futures::join!(join_all(keys), join_all(sessions));
            for authenticated in keys.into_iter().chain(sessions) {
                assert_eq!(refusal(authenticated), None);
            }
        }
    }
}

#[tokio::test]
async fn rotated_key_works_for_the_overlap() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let expires = START.saturating_add(DAY * 10);
        let new = new_key(&admin.user, "links.read keys.write", Some(expires));
        let old = fixture.create_key(&admin, &new).await.expect("created");
        fixture.clock.advance(DAY);
        let rotated = fixture
            .rotate_key(&admin, &old.info.id, HOUR)
            .await
            .expect("rotated");
        assert_eq!(rotated.info.scopes, old.info.scopes);
        assert_eq!(rotated.info.expires, Some(START.saturating_add(DAY * 11)));
        let again = fixture.rotate_key(&admin, &old.info.id, HOUR).await;
        assert_eq!(refusal(again), Some(Refusal::InvalidKey));
        let too_long = fixture.rotate_key(&admin, &rotated.info.id, DAY * 31).await;
        assert_eq!(refusal(too_long), Some(Refusal::InvalidField));
        for (advance, old_works) in [(HOUR - MINUTE, true), (MINUTE, false)] {
            fixture.clock.advance(advance);
            let (old, new) = (&old.key, &rotated.key);
            assert_eq!(fixture.authenticate_key(old).await.is_ok(), old_works);
            assert_eq!(refusal(fixture.authenticate_key(new).await), None);
        }
        let listed = fixture.keys(&admin, &admin.user).await.expect("listed");
        let replaced = listed
            .iter()
            .find(|key| key.id == old.info.id)
            .expect("listed");
        assert_eq!(replaced.replaced_by.as_ref(), Some(&rotated.info.id));
    }
}

#[tokio::test]
async fn keys_gain_no_scopes_that_their_maker_lacks() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (admin, _) = fixture.first_admin().await;
    let manager = fixture.signed_in(&admin, "m@example.com", MANAGER).await;
    let affiliate = fixture.signed_in(&admin, "a@example.com", AFFILIATE).await;
    let analyst = fixture.signed_in(&admin, "n@example.com", ANALYST).await;
    let limited = fixture
        .create_key(
            &manager,
            &new_key(&manager.user, "keys.write links.read", None),
        )
        .await;
    let limited = fixture
        .authenticate_key(&limited.expect("created").key)
        .await
        .expect("valid");
    let missing = Some(Refusal::MissingScope);
    for (name, principal, user, scopes, expected) in [
        ("own", &manager, &manager.user, "links.write", None),
        (
            "of a user of the network",
            &manager,
            &affiliate.user,
            "links.write",
            None,
        ),
        (
            "beyond the user's role",
            &manager,
            &affiliate.user,
            "offers.write",
            Some(Refusal::InvalidField),
        ),
        (
            "beyond the maker's role",
            &manager,
            &manager.user,
            "edges.write",
            missing,
        ),
        (
            "beyond the maker's key",
            &limited,
            &manager.user,
            "links.write",
            missing,
        ),
        (
            "within the maker's key",
            &limited,
            &manager.user,
            "links.read",
            None,
        ),
        (
            "of an admin",
            &manager,
            &admin.user,
            "links.read",
            Some(Refusal::NotFound),
        ),
        (
            "of another user",
            &analyst,
            &manager.user,
            "links.read",
            Some(Refusal::NotFound),
        ),
        (
            "own of an analyst",
            &analyst,
            &analyst.user,
            "links.read",
            None,
        ),
        (
            "own of an affiliate",
            &affiliate,
            &affiliate.user,
            "links.write",
            None,
        ),
        (
            "without scopes",
            &manager,
            &manager.user,
            "",
            Some(Refusal::InvalidField),
        ),
    ] {
        let created = fixture
            .create_key(principal, &new_key(user, scopes, None))
            .await;
        assert_eq!(refusal(created), expected, "{name}");
    }
    let foreign = fixture
        .keys(&admin, &manager.user)
        .await
        .expect("listed")
        .remove(0)
        .id;
    for result in [
        fixture.revoke_key(&affiliate, &foreign).await,
        fixture
            .rotate_key(&affiliate, &foreign, HOUR)
            .await
            .map(drop),
        fixture.keys(&affiliate, &manager.user).await.map(drop),
    ] {
        assert_eq!(refusal(result), Some(Refusal::NotFound));
    }
}

#[tokio::test]
async fn invalid_fields_of_keys_are_named() {
    let settings = AccountsSettings {
        max_keys: 1,
        ..AccountsSettings::default()
    };
    let fixture = Fixture::with_settings(TestDatabase::sqlite(), settings).await;
    let (admin, _) = fixture.first_admin().await;
    let valid = new_key(&admin.user, "links.read", None);
    for (label, expires, pointer) in [
        ("", None, "/label"),
        (" \t", None, "/label"),
        ("a\u{7}b", None, "/label"),
        (&"x".repeat(101), None, "/label"),
        ("ci", Some(START), "/expires"),
    ] {
        let new = NewKey {
            label: label.to_owned(),
            expires,
            ..valid.clone()
        };
        let error = fixture.create_key(&admin, &new).await.expect_err(pointer);
        assert!(
            matches!(error, AccountsError::Invalid { pointer: at, .. } if at == pointer),
            "{error}"
        );
    }
    fixture.create_key(&admin, &valid).await.expect("created");
    let more = fixture.create_key(&admin, &valid).await;
    assert_eq!(refusal(more), Some(Refusal::TooManyKeys));
}
