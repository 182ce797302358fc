//! The change log.

use crate::support::*;
use catalog::*;
use serde_json::json;

const ALL: ChangeQuery = ChangeQuery {
    after: Version(0),
    kind: None,
    object: None,
    author_id: None,
    limit: MAX_CHANGES,
};

#[tokio::test]
async fn every_write_is_recorded_with_its_author() {
    for test in both().await {
        let created = test.create(affiliate("ann")).await;
        test.write(seconds(1), async |writer| {
            let id = created.id;
            let updated = writer
                .update(id, created.revision, affiliate("ben"))
                .await?;
            let banned = AffiliateStatus::Banned;
            let banned = writer.set_status(id, updated.revision, banned, "fraud");
            let banned: Object<Affiliate> = banned.await?;
            writer.archive::<Affiliate>(id, banned.revision).await
        })
        .await
        .expect("written");
        let read = async |query: ChangeQuery| {
            let read = test.read(async |reader| reader.changes(&query).await);
            read.await.expect("read")
        };
        let changes = read(ChangeQuery {
            kind: Some(KindName::Affiliate),
            object: Some(created.id.0),
            ..ALL
        })
        .await;
        let name = |value: &Option<serde_json::Value>| match value {
            Some(value) => (value["name"].clone(), value["status"].clone()),
            None => (json!(null), json!(null)),
        };
        let seen: Vec<_> = changes
            .iter()
            .map(|it| (it.action, it.time, name(&it.before), name(&it.after)))
            .collect();
        let (none, ann, ben, banned, archived) = (
            (json!(null), json!(null)),
            (json!("ann"), json!("applied")),
            (json!("ben"), json!("applied")),
            (json!("ben"), json!("banned")),
            (json!("ben"), json!("archived")),
        );
        let expected = [
            (Action::Created, START, none, ann.clone()),
            (Action::Updated, seconds(1), ann, ben.clone()),
            (Action::StatusChanged, seconds(1), ben, banned.clone()),
            (Action::Archived, seconds(1), banned, archived),
        ];
        assert_eq!(seen, expected);
        assert!(changes.is_sorted_by(|a, b| a.version.0 + 1 == b.version.0));
        let author = (changes[0].author_kind, &*changes[0].author_id);
        assert_eq!(author, (AuthorKind::User, "operator-7"));
        assert_eq!(changes[0].author_address, Some([192, 0, 2, 7].into()));
        let after = json!({
            "id": created.id, "network": 1, "name": "ben", "status": "banned", "status_reason": "fraud",
            "revision": 3, "kyc_tier": 0, "created": "2027-01-15T08:00:00Z", "updated": "2027-01-15T08:00:01Z",
        });
        assert_eq!(changes[2].after, Some(after));
        // The default network was created by the program.
        let own = read(ChangeQuery {
            author_id: Some("catalog".to_owned()),
            ..ALL
        });
        assert_eq!(own.await.len(), 1);
        let later = read(ChangeQuery {
            after: changes[1].version,
            limit: 1,
            ..ALL
        });
        assert_eq!(later.await, changes[2..3]);
    }
}

#[test]
fn author_addresses_are_not_shown() {
    let author = Author {
        kind: AuthorKind::Key,
        id: "k1".to_owned(),
        address: Some([192, 0, 2, 7].into()),
    };
    assert!(!format!("{author:?}").contains("192"));
}
