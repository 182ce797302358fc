//! The ends of API keys that others depend on: of their makers, of sessions, of sign-ons. On SQLite and PostgreSQL.
#![allow(missing_docs)]

mod common;

use accounts::*;
use common::*;
use domain::Micros;
use sql_store::test_server::TestDatabase;
use std::time::Duration;

fn new_key(user: &UserId, expires: Option<Micros>) -> NewKey {
    NewKey {
        user: user.clone(),
        label: "ci".to_owned(),
        scopes: Scopes::parse("links.read keys.read keys.write").expect("scopes"),
        expires,
    }
}

fn after(time: Duration) -> Micros {
    START.saturating_add(time)
}

impl Fixture {
    /// A key, and the principal of its requests.
    async fn key(&self, by: &Principal, expires: Option<Micros>) -> (CreatedKey, Principal) {
        let created = self.create_key(by, &new_key(&by.user, expires)).await;
        let created = created.expect("created");
        let principal = self.authenticate_key(&created.key).await.expect("valid");
        (created, principal)
    }
}

#[tokio::test]
async fn key_expires_with_its_maker_at_the_latest() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let wrong = Password::new(OTHER_PASSWORD);
        let refused = fixture.confirmed(&admin, &wrong, &client()).await;
        assert_eq!(refusal(refused), Some(Refusal::InvalidCredentials));
        let right = Password::new(PASSWORD);
        let confirmed = fixture.confirmed(&admin, &right, &client()).await;
        let confirmed = confirmed.expect("the right password");
        let (_, short) = fixture.key(&admin, Some(after(HOUR))).await;
        let (_, endless) = fixture.key(&confirmed, None).await;
        let token = Principal::new(
            admin.user.clone(),
            Membership::Admin,
            Scopes::ALL,
            Credential::AccessToken,
        );
        let token = token.until(Some(after(MINUTE)));
        let (limit, never) = (Some(after(DAY * 90)), None);
        for (name, by, requested, expected) in [
            ("session", &admin, never, limit),
            ("session, late", &admin, Some(after(DAY * 91)), limit),
            ("session, early", &admin, Some(after(DAY)), Some(after(DAY))),
            ("password", &confirmed, never, never),
            ("key", &short, never, Some(after(HOUR))),
            ("key, late", &short, Some(after(DAY)), Some(after(HOUR))),
            (
                "key, early",
                &short,
                Some(after(MINUTE)),
                Some(after(MINUTE)),
            ),
            ("endless key", &endless, never, never),
            ("access token", &token, never, Some(after(MINUTE))),
        ] {
            let (created, _) = fixture.key(by, requested).await;
            assert_eq!(created.info.expires, expected, "{name}");
        }
        for expires in [after(DAY * 3_651), Micros(u64::MAX)] {
            let new = new_key(&admin.user, Some(expires));
            let refused = fixture.create_key(&confirmed, &new).await;
            assert_eq!(refusal(refused), Some(Refusal::InvalidField));
        }
        // Nor does a key prolong itself.
        fixture.clock.advance(MINUTE);
        let Credential::Key(id) = &short.credential else {
            panic!("a key");
        };
        let rotated = fixture.rotate_key(&short, id, Duration::ZERO).await;
        assert_eq!(rotated.expect("rotated").info.expires, Some(after(HOUR)));
    }
}

#[tokio::test]
async fn key_is_revoked_with_its_maker() {
    for database in TestDatabase::both() {
        let fixture = Fixture::new(database).await;
        let (admin, _) = fixture.first_admin().await;
        let (root, by_root) = fixture.key(&admin, None).await;
        let (child, by_child) = fixture.key(&by_root, None).await;
        let (grandchild, _) = fixture.key(&by_child, None).await;
        let (sibling, _) = fixture.key(&admin, None).await;
        let rotated = fixture.rotate_key(&by_child, &grandchild.info.id, HOUR);
        let rotated = rotated.await.expect("rotated");
        assert_eq!(child.info.parent.as_ref(), Some(&root.info.id));
        let alive = async || {
            let mut alive = Vec::new();
            for created in [&root, &child, &grandchild, &rotated, &sibling] {
                alive.push(fixture.authenticate_key(&created.key).await.is_ok());
            }
            alive
        };
        assert_eq!(alive().await, [true; 5]);
        let revoke = async |key: &CreatedKey| {
            let revoked = fixture.revoke_key(&admin, &key.info.id).await;
            revoked.expect("revoked");
        };
        revoke(&child).await;
        assert_eq!(alive().await, [true, false, false, false, true]);
        // A request that was authenticated before the revocation makes no key after it.
        let new = new_key(&admin.user, None);
        let late = fixture.create_key(&by_child, &new).await;
        assert_eq!(refusal(late), Some(Refusal::InvalidKey));
        let revoked = fixture.revoke_keys(&admin, &admin.user).await;
        assert_eq!(revoked.expect("revoked"), 2);
        assert_eq!(alive().await, [false; 5]);
    }
}

#[tokio::test]
async fn rotated_keys_count_and_dead_ones_are_deleted() {
    for database in TestDatabase::both() {
        let settings = AccountsSettings {
            max_keys: 2,
            ..AccountsSettings::default()
        };
        let fixture = Fixture::with_settings(database, settings).await;
        let (admin, _) = fixture.first_admin().await;
        let (first, _) = fixture.key(&admin, None).await;
        let rotate = async |id: &KeyId, overlap| fixture.rotate_key(&admin, id, overlap).await;
        let second = rotate(&first.info.id, HOUR).await.expect("rotated").info.id;
        let third = rotate(&second, HOUR).await;
        assert_eq!(refusal(third), Some(Refusal::TooManyKeys));
        let third = rotate(&second, Duration::ZERO).await.expect("rotated");
        let listed = async || fixture.keys(&admin, &admin.user).await.expect("listed");
        for (advance, expected) in [(DAY * 89, 3), (DAY * 2, 1)] {
            fixture.clock.advance(advance);
            fixture.delete_expired().await.expect("deleted");
            assert_eq!(listed().await.len(), expected);
        }
        assert_eq!(listed().await[0].id, third.info.id);
    }
}
