//! Users on SQLite and on a real PostgreSQL: invitations, roles, status, the break-glass admin.
#![allow(missing_docs)]

mod common;

use accounts::*;
use common::*;
use domain::NetworkId;
use sql_store::Statement;
use sql_store::test_server::TestDatabase;

const FOREIGN: Membership = Membership::Manager {
    network: NetworkId(2),
};

fn new_user(address: &str, membership: Membership) -> NewUser {
    NewUser {
        name: " Name ".to_owned(),
        email: email(address),
        membership,
    }
}

#[tokio::test]
async fn invitation_sets_a_password_once() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let invited = fixture
            .invite_user(&admin, &new_user("m@example.com", MANAGER))
            .await;
        let invited = invited.expect("invited");
        assert_eq!(invited.user.name, "Name");
        let again = fixture
            .invite_user(&admin, &new_user("M@EXAMPLE.com", ANALYST))
            .await;
        assert_eq!(refusal(again), Some(Refusal::EmailTaken));
        let set = async |token: &OneTimeToken, password: &str| {
            refusal(fixture.set_password(token, &Password::new(password)).await)
        };
        let invalid = Some(Refusal::InvalidOneTimeToken);
        for weak in [
            "",
            "short",
            "fourteen chars",
            &"a".repeat(40),
            &"word ".repeat(300),
            "m@example.com",
        ] {
            assert_eq!(
                set(&invited.token, weak).await,
                Some(Refusal::InvalidField),
                "{weak}"
            );
        }
        assert_eq!(set(&invited.token, PASSWORD).await, None);
        assert_eq!(set(&invited.token, PASSWORD).await, invalid);
        let hashes = fixture
            .column("SELECT password FROM accounts_users WHERE role = 'manager'")
            .await;
        assert!(
            hashes[0].starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hashes:?}"
        );

        // A forgotten password: the link ends sessions and failures, and expires.
        let session = fixture
            .sign_in(&sign_in("m@example.com", PASSWORD))
            .await
            .expect("signed in");
        let late = fixture
            .issue_password_token(&admin, &invited.user.id)
            .await
            .expect("issued");
        fixture.clock.advance(DAY * 2);
        assert_eq!(set(&late.token, OTHER_PASSWORD).await, invalid);
        let fresh = fixture.issue_password_token(&admin, &invited.user.id).await;
        // The admin's session has ended, too; its principal is a value of this test.
        let fresh = fresh.expect("issued");
        assert_eq!(set(&fresh.token, OTHER_PASSWORD).await, None);
        assert_eq!(
            refusal(fixture.authenticate_session(&session.token).await),
            Some(Refusal::InvalidSession)
        );
        assert_eq!(
            refusal(
                fixture
                    .sign_in(&sign_in("m@example.com", OTHER_PASSWORD))
                    .await
            ),
            None
        );
        // The setup token's purpose is another one.
        assert!(fixture.issue_setup_token().await.expect("no").is_none());
    }
}

#[tokio::test]
async fn password_is_the_same_in_every_unicode_form() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (admin, _) = fixture.first_admin().await;
    let invited = fixture
        .invite_user(&admin, &new_user("m@example.com", MANAGER))
        .await
        .expect("invited");
    let composed = Password::new("caf\u{e9} \u{c5}ngstr\u{f6}m zw\u{f6}lf");
    fixture
        .set_password(&invited.token, &composed)
        .await
        .expect("set");
    let decomposed = "cafe\u{301} A\u{30a}ngstro\u{308}m zwo\u{308}lf";
    assert_eq!(
        refusal(fixture.sign_in(&sign_in("m@example.com", decomposed)).await),
        None
    );
}

#[tokio::test]
async fn users_are_changed_only_within_reach() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let manager = fixture.signed_in(&admin, "m@example.com", MANAGER).await;
        let analyst = fixture.signed_in(&admin, "n@example.com", ANALYST).await;
        let affiliate = fixture.add_user(&admin, "a@example.com", AFFILIATE).await;
        let foreign = fixture.add_user(&admin, "f@example.com", FOREIGN).await;
        let (not_found, missing) = (Some(Refusal::NotFound), Some(Refusal::MissingScope));
        for (name, principal, user, to, expected) in [
            ("own network", &manager, &affiliate.id, ANALYST, None),
            ("back", &manager, &affiliate.id, AFFILIATE, None),
            (
                "to admin",
                &manager,
                &affiliate.id,
                Membership::Admin,
                not_found,
            ),
            (
                "to a foreign network",
                &manager,
                &affiliate.id,
                FOREIGN,
                not_found,
            ),
            (
                "itself to admin",
                &manager,
                &manager.user,
                Membership::Admin,
                not_found,
            ),
            ("foreign user", &manager, &foreign.id, ANALYST, not_found),
            ("admin", &manager, &admin.user, ANALYST, not_found),
            ("by an analyst", &analyst, &affiliate.id, ANALYST, missing),
            (
                "itself by an analyst",
                &analyst,
                &analyst.user,
                MANAGER,
                missing,
            ),
            ("by an admin", &admin, &foreign.id, ANALYST, None),
        ] {
            let changed = fixture.set_membership(principal, user, to).await;
            assert_eq!(refusal(changed), expected, "{name}");
        }
        fixture
            .set_membership(&admin, &foreign.id, FOREIGN)
            .await
            .expect("changed");
        for (principal, user) in [(&manager, &foreign.id), (&manager, &admin.user)] {
            for result in [
                fixture.user(principal, user).await.map(drop),
                fixture
                    .set_status(principal, user, UserStatus::Disabled)
                    .await
                    .map(drop),
                fixture
                    .issue_password_token(principal, user)
                    .await
                    .map(drop),
                fixture.reset_second_factor(principal, user).await,
            ] {
                assert_eq!(refusal(result), not_found);
            }
        }
        let invited = fixture
            .invite_user(&manager, &new_user("x@example.com", FOREIGN))
            .await;
        assert_eq!(refusal(invited), not_found);
        let count = async |principal: &Principal| {
            fixture
                .users(principal, None, 100)
                .await
                .expect("listed")
                .len()
        };
        assert_eq!(
            (
                count(&admin).await,
                count(&manager).await,
                count(&analyst).await
            ),
            (5, 3, 1)
        );
        let page = fixture.users(&admin, None, 2).await.expect("listed");
        let rest = fixture
            .users(&admin, Some(&page[1].id), 999)
            .await
            .expect("listed");
        assert_eq!((page.len(), rest.len()), (2, 3));
    }
}

#[tokio::test]
async fn changed_membership_ends_all_credentials() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let manager = fixture.signed_in(&admin, "m@example.com", MANAGER).await;
        let colleague = fixture.add_user(&admin, "c@example.com", MANAGER).await;
        let new = NewKey {
            user: colleague.id.clone(),
            label: "ci".to_owned(),
            scopes: Scopes::of_role(Role::Manager),
            expires: None,
        };
        for (to, works) in [
            (MANAGER, true),
            (Membership::Admin, false),
            (FOREIGN, false),
            (MANAGER, false),
        ] {
            let by = if works { &manager } else { &admin };
            let key = fixture.create_key(by, &new).await.expect("created").key;
            let link = fixture.issue_password_token(by, &colleague.id).await;
            let link = link.expect("issued").token;
            let session = fixture.sign_in(&sign_in("c@example.com", PASSWORD)).await;
            let session = session.expect("signed in").token;
            let changed = fixture.set_membership(&admin, &colleague.id, to).await;
            assert_eq!(changed.expect("changed").membership, to);
            let authenticated = fixture.authenticate_session(&session).await;
            assert_eq!(authenticated.is_ok(), works, "session to {to:?}");
            let authenticated = fixture.authenticate_key(&key).await;
            assert_eq!(authenticated.is_ok(), works, "key to {to:?}");
            let set = fixture.set_password(&link, &Password::new(PASSWORD)).await;
            assert_eq!(set.is_ok(), works, "link to {to:?}");
        }
    }
}

#[tokio::test]
async fn parallel_changes_of_a_password_need_the_present_one() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let (present, client) = (Password::new(PASSWORD), client());
        let new = [OTHER_PASSWORD, "a third passphrase of some length"].map(Password::new);
        let changes = new
            .iter()
            .map(|new| fixture.change_password(&admin, &present, new, &client));
        let changed = futures::future::join_all(changes).await;
        assert_eq!(changed.iter().filter(|it| it.is_ok()).count(), 1);
    }
}

#[tokio::test]
async fn session_resets_no_credentials_of_its_own_user() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (admin, _) = fixture.first_admin().await;
    let manager = fixture.signed_in(&admin, "m@example.com", MANAGER).await;
    for (by, of, expected) in [
        (&admin, &admin.user, Some(Refusal::OwnCredentials)),
        (&manager, &manager.user, Some(Refusal::OwnCredentials)),
        (&admin, &manager.user, None),
    ] {
        let issued = fixture.issue_password_token(by, of).await;
        assert_eq!(refusal(issued), expected);
        let reset = fixture.reset_second_factor(by, of).await;
        assert_eq!(refusal(reset), expected);
    }
}

#[tokio::test]
async fn disabled_user_loses_its_sessions() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (admin, _) = fixture.first_admin().await;
    let user = fixture.add_user(&admin, "m@example.com", MANAGER).await;
    let session = fixture
        .sign_in(&sign_in("m@example.com", PASSWORD))
        .await
        .expect("signed in");
    for status in [UserStatus::Disabled, UserStatus::Active] {
        fixture
            .set_status(&admin, &user.id, status)
            .await
            .expect("changed");
        let authenticated = fixture.authenticate_session(&session.token).await;
        assert_eq!(refusal(authenticated), Some(Refusal::InvalidSession));
    }
}

#[tokio::test]
async fn break_glass_admin_always_exists() {
    for database in TestDatabase::both() {
        let mut fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let second = fixture
            .signed_in(&admin, "second@example.com", Membership::Admin)
            .await;
        let manager = fixture.add_user(&admin, "m@example.com", MANAGER).await;
        let last = Some(Refusal::LastAdmin);
        let disabled = fixture
            .set_status(&second, &admin.user, UserStatus::Disabled)
            .await;
        assert_eq!(refusal(disabled), last);
        let changed = fixture.set_membership(&second, &admin.user, MANAGER).await;
        assert_eq!(refusal(changed), last);
        let unsuitable = fixture.set_break_glass(&admin, &manager.id).await;
        assert_eq!(refusal(unsuitable), Some(Refusal::InvalidField));
        fixture
            .set_break_glass(&admin, &second.user)
            .await
            .expect("changed");
        let disabled = fixture
            .set_status(&second, &admin.user, UserStatus::Disabled)
            .await;
        assert!(!disabled.expect("changed").break_glass);

        let settings = AccountsSettings {
            local_sign_in: LocalSignIn::BreakGlassOnly,
            ..AccountsSettings::default()
        };
        fixture.reopen(settings).await;
        for (address, expected) in [
            ("second@example.com", None),
            ("m@example.com", Some(Refusal::InvalidCredentials)),
        ] {
            let signed_in = fixture.sign_in(&sign_in(address, PASSWORD)).await;
            assert_eq!(refusal(signed_in), expected, "{address}");
        }
    }
}

#[tokio::test]
async fn credentials_change_only_in_a_session() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (admin, session) = fixture.first_admin().await;
    let scopes = Scopes::of_role(Role::Admin);
    let new = NewKey {
        user: admin.user.clone(),
        label: "all".to_owned(),
        scopes,
        expires: None,
    };
    let key = fixture.create_key(&admin, &new).await.expect("created").key;
    let by_key = fixture.authenticate_key(&key).await.expect("valid");
    let (present, other) = (Password::new(PASSWORD), Password::new(OTHER_PASSWORD));
    let code = TotpCode::new("000000");
    for result in [
        fixture
            .change_password(&by_key, &present, &other, &client())
            .await,
        fixture
            .begin_totp(&by_key, &present, &client())
            .await
            .map(drop),
        fixture
            .confirm_totp(&by_key, &code, &client())
            .await
            .map(drop),
        fixture
            .new_recovery_codes(&by_key, &code, &client())
            .await
            .map(drop),
        fixture
            .remove_own_totp(
                &by_key,
                &present,
                &SecondFactor::Totp(code.clone()),
                &client(),
            )
            .await,
        fixture.reset_second_factor(&by_key, &admin.user).await,
        fixture
            .invite_user(&by_key, &new_user("x@example.com", MANAGER))
            .await
            .map(drop),
        fixture
            .set_membership(&by_key, &admin.user, Membership::Admin)
            .await
            .map(drop),
        fixture
            .issue_password_token(&by_key, &admin.user)
            .await
            .map(drop),
        fixture
            .set_break_glass(&by_key, &admin.user)
            .await
            .map(drop),
    ] {
        assert_eq!(refusal(result), Some(Refusal::SessionRequired));
    }
    let elsewhere = fixture
        .sign_in(&sign_in("admin@example.com", PASSWORD))
        .await
        .expect("signed in");
    let wrong = fixture
        .change_password(&admin, &other, &other, &client())
        .await;
    assert_eq!(refusal(wrong), Some(Refusal::InvalidCredentials));
    fixture
        .change_password(&admin, &present, &other, &client())
        .await
        .expect("changed");
    assert_eq!(
        refusal(fixture.authenticate_session(&session.token).await),
        None
    );
    let ended = fixture.authenticate_session(&elsewhere.token).await;
    assert_eq!(refusal(ended), Some(Refusal::InvalidSession));
    assert_eq!(
        refusal(
            fixture
                .sign_in(&sign_in("admin@example.com", OTHER_PASSWORD))
                .await
        ),
        None
    );
}

#[tokio::test]
async fn store_errors_have_no_details_in_debug() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let mut tx = fixture.tables().await;
    let drop = Statement::new("DROP TABLE accounts_throttles");
    tx.execute(drop).await.expect("dropped");
    tx.commit().await.expect("committed");
    let refused = fixture.sign_in(&sign_in("m@example.com", PASSWORD)).await;
    let error = refused.expect_err("no table");
    assert!(matches!(error, AccountsError::Store(_)), "{error}");
    assert_eq!(format!("{error:?}"), format!("{error}"));
}

#[test]
fn addresses_are_normalised_or_refused() {
    for (text, expected) in [
        (" Ada.L+x@Example.COM ", Some("ada.l+x@example.com")),
        ("ada@b\u{fc}cher.example", Some("ada@xn--bcher-kva.example")),
        ("a@b.c", Some("a@b.c")),
        ("", None),
        ("ada", None),
        ("@example.com", None),
        ("ada@", None),
        ("ada@localhost", None),
        ("ada@example.com.", None),
        ("ada@exa mple.com", None),
        ("a b@example.com", None),
        (".ada@example.com", None),
        ("ada..l@example.com", None),
        ("\u{430}da@example.com", None),
        ("\"ada\"@example.com", None),
        ("ada@[192.0.2.1]", None),
        ("a@b@example.com", None),
        ("ada@example.com\r\nBcc: x@example.com", None),
    ] {
        let parsed = Email::parse(text).ok();
        assert_eq!(parsed.as_ref().map(Email::as_str), expected, "{text:?}");
    }
    assert!(Email::parse(&format!("{}@example.com", "x".repeat(65))).is_err());
    assert!(Email::parse(&format!("a@{}.com", "x".repeat(260))).is_err());
}

#[tokio::test]
async fn futures_can_be_spawned() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let (admin, _) = fixture.first_admin().await;
    let accounts = fixture.accounts.clone();
    let changed = tokio::spawn(async move {
        let (present, other) = (Password::new(PASSWORD), Password::new(OTHER_PASSWORD));
        accounts
            .change_password(&admin, &present, &other, &client())
            .await?;
        let begun = accounts.begin_totp(&admin, &other, &client()).await?;
        let code = begun.secret.code_at(START);
        accounts
            .confirm_totp(&admin, &code, &client())
            .await
            .map(drop)
    });
    assert_eq!(refusal(changed.await.expect("no panic")), None);
}
