//! Local sign-in on SQLite and on a real PostgreSQL: passwords, second factors, throttles.
#![allow(missing_docs)]

mod common;

use accounts::*;
use common::*;
use futures::future::join_all;
use sql_store::test_server::TestDatabase;
use std::time::{Duration, Instant};

const ADMIN: &str = "admin@example.com";

fn with_code(code: TotpCode) -> SignIn {
    let mut request = sign_in(ADMIN, PASSWORD);
    request.second_factor = Some(SecondFactor::Totp(code));
    request
}

#[tokio::test]
async fn setup_token_makes_one_admin() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let issue = async || fixture.issue_setup_token().await.expect("issued");
        let form = |token: OneTimeToken| FirstAdmin {
            token,
            name: "Ada".to_owned(),
            email: email(ADMIN),
            password: Password::new(PASSWORD),
        };
        let create = async |token| fixture.create_first_admin(&form(token), &client()).await;
        let invalid = Some(Refusal::InvalidOneTimeToken);

        let replaced = issue().await.expect("no admin yet");
        let expired = issue().await.expect("no admin yet");
        assert_eq!(refusal(create(replaced).await), invalid);
        fixture.clock.advance(HOUR);
        assert_eq!(refusal(create(expired).await), invalid);
        let token = issue().await.expect("no admin yet");
        for wrong in [
            "",
            "x",
            &token.expose()[1..],
            &token.expose().to_lowercase(),
        ] {
            assert_eq!(refusal(create(OneTimeToken::new(wrong)).await), invalid);
        }
        let stored = fixture
            .column("SELECT hash FROM accounts_one_time_tokens")
            .await;
        assert!(stored.len() == 1 && stored[0] != token.expose());
        // A weak password does not use the token up.
        let weak = FirstAdmin {
            password: Password::new("admin"),
            ..form(token.clone())
        };
        let refused = fixture.create_first_admin(&weak, &client()).await;
        assert_eq!(refusal(refused), Some(Refusal::InvalidField));
        // Of two requests at the same time one makes the admin.
        let both = join_all([create(token.clone()), create(token.clone())]).await;
        assert_eq!(both.iter().filter(|created| created.is_ok()).count(), 1);
        assert_eq!(refusal(create(token).await), invalid);
        assert!(issue().await.is_none());
        let admins = fixture.column("SELECT role FROM accounts_users").await;
        assert_eq!(admins, ["admin"]);
        let session = fixture
            .sign_in(&sign_in(" Admin@EXAMPLE.com ", PASSWORD))
            .await;
        assert!(session.expect("signed in").user.break_glass);
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_identically() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (admin, _) = fixture.first_admin().await;
    let disabled = fixture
        .add_user(&admin, "disabled@example.com", ANALYST)
        .await;
    fixture
        .set_status(&admin, &disabled.id, UserStatus::Disabled)
        .await
        .expect("disabled");
    let invited = NewUser {
        name: "N".to_owned(),
        email: email("invited@example.com"),
        membership: ANALYST,
    };
    fixture
        .invite_user(&admin, &invited)
        .await
        .expect("invited");
    for (address, password) in [
        (ADMIN, "wrong password of some length"),
        (ADMIN, ""),
        (ADMIN, &PASSWORD.to_uppercase()),
        (ADMIN, &"x".repeat(100_000)),
        ("unknown@example.com", PASSWORD),
        ("disabled@example.com", PASSWORD),
        ("invited@example.com", PASSWORD),
        ("invited@example.com", ""),
        ("no address", PASSWORD),
        ("", ""),
        ("' OR 1=1 --@example.com", PASSWORD),
    ] {
        let refused = fixture.sign_in(&sign_in(address, password)).await;
        assert_eq!(
            refusal(refused),
            Some(Refusal::InvalidCredentials),
            "{address} {password}"
        );
    }
    assert_eq!(
        refusal(fixture.sign_in(&sign_in(ADMIN, PASSWORD)).await),
        None
    );
}

#[tokio::test]
async fn unknown_users_take_as_long_as_known_ones() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    fixture.first_admin().await;
    let mut fastest = [Duration::MAX; 2];
    for round in 0..4 {
        let addresses = [ADMIN.to_owned(), format!("unknown{round}@example.com")];
        for (fastest, address) in fastest.iter_mut().zip(addresses) {
            let started = Instant::now();
            let refused = fixture
                .sign_in(&sign_in(&address, "wrong password of some length"))
                .await;
            *fastest = started.elapsed().min(*fastest);
            assert_eq!(refusal(refused), Some(Refusal::InvalidCredentials));
        }
    }
    let [known, unknown] = fastest;
    assert!(unknown * 2 > known && known * 2 > unknown, "{fastest:?}");
}

#[tokio::test]
async fn failures_block_the_account_for_growing_pauses() {
    for database in TestDatabase::both() {
        let mut fixture = Fixture::new(database).await;
        fixture.first_admin().await;
        let fail = sign_in(ADMIN, "wrong password of some length");
        for _ in 0..5 {
            let refused = fixture.sign_in(&fail).await;
            assert_eq!(refusal(refused), Some(Refusal::InvalidCredentials));
        }
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            let pause = Duration::from_secs(pause);
            // The right password and another address do not help, nor does a restart.
            fixture.reopen(AccountsSettings::default()).await;
            let mut right = sign_in(ADMIN, PASSWORD);
            right.client = client_at("198.51.100.9");
            match fixture.sign_in(&right).await {
                Err(AccountsError::TooManyAttempts(wait)) => assert_eq!(wait, pause),
                other => panic!("{other:?}"),
            }
            fixture.clock.advance(pause);
            let refused = fixture.sign_in(&fail).await;
            assert_eq!(refusal(refused), Some(Refusal::InvalidCredentials));
        }
        fixture.clock.advance(HOUR);
        assert_eq!(
            refusal(fixture.sign_in(&sign_in(ADMIN, PASSWORD)).await),
            None
        );
        // Success forgets the account's failures.
        let refused = fixture.sign_in(&fail).await;
        assert_eq!(refusal(refused), Some(Refusal::InvalidCredentials));
        assert_eq!(
            refusal(fixture.sign_in(&sign_in(ADMIN, PASSWORD)).await),
            None
        );
        let keys = fixture.column("SELECT key FROM accounts_throttles").await;
        assert!(
            keys.iter()
                .all(|key| !key.contains('@') && !key.contains("192.0.2")),
            "{keys:?}"
        );
    }
}

#[tokio::test]
async fn failures_elsewhere_do_not_block_known_addresses() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let attempt = async |address: &str, password: &str| {
            let mut request = sign_in(ADMIN, password);
            request.client = client_at(address);
            refusal(fixture.sign_in(&request).await)
        };
        let (home, elsewhere) = ("2001:db8:1::1", "198.51.100.9");
        let wait = Some(Refusal::TooManyAttempts);
        assert_eq!(attempt(home, PASSWORD).await, None);
        // Blocked attempts count for the address: the last ones are blocked by the address's own pause.
        for number in 0..40 {
            let refused = attempt(elsewhere, "wrong").await;
            let expected = if number < 5 {
                Some(Refusal::InvalidCredentials)
            } else {
                wait
            };
            assert_eq!(refused, expected, "{number}");
        }
        assert_eq!(attempt("203.0.113.5", PASSWORD).await, wait);
        let mut other = sign_in("another@example.com", PASSWORD);
        other.client = client_at(elsewhere);
        assert_eq!(refusal(fixture.sign_in(&other).await), wait);
        // One customer has the whole /64.
        assert_eq!(attempt("2001:db8:1::2", PASSWORD).await, None);
        let (present, other) = (Password::new(PASSWORD), Password::new(OTHER_PASSWORD));
        let here = client();
        let change = async || {
            refusal(
                fixture
                    .change_password(&admin, &present, &other, &here)
                    .await,
            )
        };
        assert_eq!(change().await, None);
        // A known address has failures of its own, also those of a session.
        for number in 0..6 {
            let expected = if number < 5 {
                Some(Refusal::InvalidCredentials)
            } else {
                wait
            };
            assert_eq!(attempt(home, "wrong").await, expected, "{number}");
            assert_eq!(change().await, expected, "{number}");
        }
        // Addresses are known for a time.
        fixture.clock.advance(DAY * 90);
        assert!(fixture.delete_expired().await.expect("deleted") > 0);
        let known = fixture.column("SELECT key FROM accounts_known_addresses");
        assert!(known.await.is_empty());
    }
}

#[tokio::test]
async fn failures_block_large_networks_of_one_customer() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    fixture.first_admin().await;
    let attempt = async |number: u32, address: String| {
        let request = SignIn {
            client: client_at(&address),
            ..sign_in(&format!("u{number}@example.com"), "")
        };
        refusal(fixture.sign_in(&request).await)
    };
    let wrong = Some(Refusal::InvalidCredentials);
    for number in 0..80 {
        let address = format!("2001:db8:0:{number:x}::1");
        assert_eq!(attempt(number, address).await, wrong, "{number}");
    }
    for (address, expected) in [
        ("2001:db8:0:ff::1", Some(Refusal::TooManyAttempts)),
        ("2001:db8:0:100::1", wrong),
        ("2001:db8:1::1", wrong),
    ] {
        assert_eq!(attempt(99, address.to_owned()).await, expected, "{address}");
    }
}

#[tokio::test]
async fn failures_block_the_address_for_all_accounts() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    fixture.first_admin().await;
    let attempt = |number: u32, address: &str, password: &str| {
        let mut request = sign_in(&format!("user{number}@example.com"), password);
        request.client = client_at(address);
        request
    };
    for number in 0..20 {
        // One customer has the whole /64.
        let address = format!("2001:db8::{number:x}");
        let refused = fixture.sign_in(&attempt(number, &address, "wrong")).await;
        assert_eq!(
            refusal(refused),
            Some(Refusal::InvalidCredentials),
            "{number}"
        );
    }
    for (address, expected) in [
        ("2001:db8::ffff", Refusal::TooManyAttempts),
        ("2001:db8:0:1::1", Refusal::InvalidCredentials),
        ("192.0.2.1", Refusal::InvalidCredentials),
    ] {
        let refused = fixture.sign_in(&attempt(99, address, "wrong")).await;
        assert_eq!(refusal(refused), Some(expected), "{address}");
    }
    fixture.clock.advance(DAY);
    let rows = fixture.delete_expired().await.expect("deleted");
    assert!(rows > 20, "{rows}");
}

#[tokio::test]
async fn parallel_guesses_are_counted_before_they_are_checked() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        fixture.first_admin().await;
        let fail = sign_in(ADMIN, "wrong password of some length");
        let attempts = (0..16).map(|_| fixture.sign_in(&fail));
        let refusals: Vec<_> = join_all(attempts).await.into_iter().map(refusal).collect();
        let of = |kind| refusals.iter().filter(|it| **it == Some(kind)).count();
        let counts = (
            of(Refusal::InvalidCredentials),
            of(Refusal::TooManyAttempts),
        );
        assert_eq!(counts, (5, 11), "{refusals:?}");
    }
}

#[tokio::test]
async fn parallel_hashes_are_bounded() {
    let settings = AccountsSettings {
        max_parallel_hashes: 1,
        hash_wait: Duration::ZERO,
        ..AccountsSettings::default()
    };
    let fixture = Fixture::with_settings(TestDatabase::sqlite(), settings).await;
    fixture.first_admin().await;
    let requests: Vec<_> = (0..12)
        .map(|it| sign_in(&format!("u{it}@example.com"), "wrong"))
        .collect();
    let attempts = join_all(requests.iter().map(|request| fixture.sign_in(request))).await;
    let busy = attempts
        .into_iter()
        .map(refusal)
        .filter(|it| *it == Some(Refusal::Busy))
        .count();
    assert!((1..12).contains(&busy), "{busy}");
    // A busy server is no failure of the client.
    assert_eq!(
        refusal(fixture.sign_in(&sign_in(ADMIN, PASSWORD)).await),
        None
    );
}

#[tokio::test]
async fn second_factor_is_required_and_accepted_once() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let begun = fixture
            .begin_totp(&admin, &Password::new(PASSWORD), &client())
            .await;
        let begun = begun.expect("begun");
        let secret = &begun.secret;
        let uri = format!("secret={}&issuer=FanzFiliate", secret.expose());
        assert!(
            begun
                .uri()
                .starts_with("otpauth://totp/FanzFiliate:admin%40example%2Ecom?")
        );
        assert!(begun.uri().ends_with(&uri), "{}", begun.uri());
        assert!(!format!("{begun:?}").contains(&secret.expose()));
        let stored = fixture
            .column("SELECT totp_secret FROM accounts_users")
            .await;
        assert!(!stored[0].contains(&secret.expose()));
        // It is not required before it is confirmed.
        let other = fixture
            .sign_in(&sign_in(ADMIN, PASSWORD))
            .await
            .expect("signed in");
        let now = || secret.code_at(fixture.clock.now());
        let wrong = TotpCode::new("1234567");
        let invalid = Some(Refusal::InvalidCredentials);
        assert_eq!(
            refusal(fixture.confirm_totp(&admin, &wrong, &client()).await),
            invalid
        );
        let codes = fixture
            .confirm_totp(&admin, &now(), &client())
            .await
            .expect("confirmed");
        assert_eq!(codes.len(), 10);
        assert_eq!(
            refusal(fixture.authenticate_session(&other.token).await),
            Some(Refusal::InvalidSession)
        );
        let again = fixture
            .begin_totp(&admin, &Password::new(PASSWORD), &client())
            .await;
        assert_eq!(refusal(again), Some(Refusal::SecondFactorState));

        let without = fixture.sign_in(&sign_in(ADMIN, PASSWORD)).await;
        assert_eq!(refusal(without), Some(Refusal::SecondFactorRequired));
        // The code of the enrolment was used.
        assert_eq!(refusal(fixture.sign_in(&with_code(now())).await), invalid);
        let half_minute = Duration::from_secs(30);
        fixture.clock.advance(half_minute);
        let session = fixture.sign_in(&with_code(now())).await.expect("signed in");
        assert!(session.user.has_totp);
        assert_eq!(refusal(fixture.sign_in(&with_code(now())).await), invalid);
        // Clocks may differ by a period, not by two.
        for (offset, expected) in [
            (-2, invalid),
            (2, invalid),
            (-1, None),
            (0, None),
            (1, None),
        ] {
            fixture.clock.advance(HOUR);
            let at = fixture.clock.now();
            let by = half_minute * i32::unsigned_abs(offset);
            let at = if offset < 0 {
                at.saturating_sub(by)
            } else {
                at.saturating_add(by)
            };
            let result = fixture.sign_in(&with_code(secret.code_at(at))).await;
            assert_eq!(refusal(result), expected, "{offset}");
        }
        // Of the same code twice at the same time one is accepted.
        fixture.clock.advance(HOUR);
        let request = with_code(now());
        let both = join_all([fixture.sign_in(&request), fixture.sign_in(&request)]).await;
        assert_eq!(both.iter().filter(|it| it.is_ok()).count(), 1, "{both:?}");
    }
}

#[tokio::test]
async fn recovery_codes_work_once_in_any_writing() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let begun = fixture
            .begin_totp(&admin, &Password::new(PASSWORD), &client())
            .await
            .expect("begun");
        let code = begun.secret.code_at(fixture.clock.now());
        let codes = fixture
            .confirm_totp(&admin, &code, &client())
            .await
            .expect("confirmed");
        let texts: Vec<_> = codes.iter().map(|code| code.expose().to_owned()).collect();
        let stored = fixture
            .column("SELECT hash FROM accounts_recovery_codes")
            .await;
        assert!(stored.len() == 10 && stored.iter().all(|hash| !texts.contains(hash)));
        let with = |text: &str| {
            let mut request = sign_in(ADMIN, PASSWORD);
            request.second_factor = Some(SecondFactor::Recovery(RecoveryCode::new(text)));
            request
        };
        let invalid = Some(Refusal::InvalidCredentials);
        for (text, expected) in [
            (texts[0].clone(), None),
            (texts[0].clone(), invalid),
            (texts[1].to_uppercase(), None),
            (texts[2].replace('-', " "), None),
            (texts[3][1..].to_owned(), invalid),
            (String::new(), invalid),
        ] {
            assert_eq!(
                refusal(fixture.sign_in(&with(&text)).await),
                expected,
                "{text}"
            );
        }
        fixture.clock.advance(HOUR / 2);
        let code = begun.secret.code_at(fixture.clock.now());
        let fresh = fixture
            .new_recovery_codes(&admin, &code, &client())
            .await
            .expect("replaced");
        assert_eq!(refusal(fixture.sign_in(&with(&texts[4])).await), invalid);
        assert_eq!(
            refusal(fixture.sign_in(&with(fresh[0].expose())).await),
            None
        );
        let elsewhere = fixture.sign_in(&with(fresh[1].expose())).await;
        let elsewhere = elsewhere.expect("signed in").token;
        for (code, expected) in [(&codes[5], invalid), (&fresh[2], None)] {
            let factor = SecondFactor::Recovery(code.clone());
            let password = Password::new(PASSWORD);
            let removed = fixture
                .remove_own_totp(&admin, &password, &factor, &client())
                .await;
            assert_eq!(refusal(removed), expected);
            let other = fixture.authenticate_session(&elsewhere).await;
            assert_eq!(other.is_ok(), expected.is_some());
        }
        assert_eq!(
            refusal(fixture.sign_in(&sign_in(ADMIN, PASSWORD)).await),
            None
        );
    }
}

#[test]
fn passwords_and_codes_have_no_debug_content() {
    let mut request = sign_in(ADMIN, PASSWORD);
    request.second_factor = Some(SecondFactor::Totp(TotpCode::new("424242")));
    let printed = format!(
        "{request:?} {:?} {:?} {:?} {:?}",
        request.password,
        request.second_factor,
        request.client,
        email(ADMIN)
    );
    for secret in [PASSWORD, ADMIN, "424242", "192.0.2.1"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
