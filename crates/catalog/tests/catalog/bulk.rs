//! Many objects at once: all or none, with the faults of every row.

use crate::support::*;
use catalog::*;
use domain::LinkId;

#[tokio::test]
async fn ten_thousand_links_are_created_at_once() {
    for test in both().await {
        let parents = test.campaign().await;
        let drafts = |prefix: &str| -> Vec<Draft<Link>> {
            let slugs = (0..MAX_BULK).map(|row| format!("{prefix}{row}"));
            slugs
                .map(|slug| link(parents.campaign.id, &slug).into())
                .collect()
        };
        let before = test.links().await.0;
        let created = test.write(START, async |writer| writer.create_many(drafts("a")).await);
        let created = created.await.expect("created");
        assert_eq!(created.len(), MAX_BULK);
        assert!(created.is_sorted_by(|a, b| a.id.0 + 1 == b.id.0));
        let mut tx = test.catalog.database().begin().await.expect("transaction");
        let version = current_version(&mut tx).await.expect("read");
        assert_eq!(version.0, before.0 + MAX_BULK as u64);
        let links = resolved_links(&mut tx, None, MAX_LINKS)
            .await
            .expect("read");
        assert_eq!(links.len(), MAX_BULK);
        drop(tx);
        // One row of each kind of fault.
        let mut wrong = drafts("b");
        wrong[3].settings.slug = "a7".to_owned();
        wrong[17].settings.slug = "b5".to_owned();
        wrong[200].settings.code = 200;
        wrong[201].settings.campaign.0 = 99;
        wrong[202].status = Some(Activity::Archived);
        wrong[MAX_BULK - 1].settings.slug = "?".to_owned();
        wrong[MAX_BULK - 1].settings.destination = Some("x".to_owned());
        let refused = test.write(START, async |writer| writer.create_many(wrong).await);
        let mut found = reasons(refused.await);
        found.sort_by_key(|(reason, field)| (field.clone(), reason.number()));
        let expected = [
            (Reason::NameTaken, "/17/slug"),
            (Reason::OutOfRange, "/200/code"),
            (Reason::UnknownReference, "/201/campaign"),
            (Reason::StatusNotPossible, "/202/status"),
            (Reason::NameTaken, "/3/slug"),
            (Reason::InvalidUrl, "/9999/destination"),
            (Reason::InvalidSlug, "/9999/slug"),
        ];
        assert_eq!(
            found,
            expected.map(|(reason, field)| (reason, field.to_owned()))
        );
        let free = test.read(async |reader| reader.find_link("", "b0").await);
        assert_eq!(free.await.expect("read"), None);
    }
}

#[tokio::test]
async fn number_of_rows_is_limited() {
    for test in both().await {
        let parents = test.campaign().await;
        for count in [0, MAX_BULK + 1] {
            let drafts = vec![Draft::from(link(parents.campaign.id, "a")); count];
            let refused = test.write(START, async |writer| writer.create_many(drafts).await);
            assert_eq!(reasons(refused.await)[0].0, Reason::WrongCount);
        }
    }
}

#[tokio::test]
async fn imports_keep_ids_and_never_reuse_one() {
    for test in both().await {
        let parents = test.campaign().await;
        let draft = |slug: &str, id: Option<u32>| Draft {
            id: id.map(LinkId),
            ..Draft::from(link(parents.campaign.id, slug))
        };
        let create = async |drafts: Vec<Draft<Link>>| {
            test.write(START, async |writer| writer.create_many(drafts).await)
                .await
        };
        let mixed = vec![
            draft("a", None),
            draft("b", Some(70)),
            draft("c", Some(5)),
            draft("d", None),
        ];
        let created = create(mixed).await.expect("created");
        let ids: Vec<u32> = created.iter().map(|it| it.id.0).collect();
        assert_eq!(ids, [71, 70, 5, 72]);
        let archived = test.write(START, async |writer| {
            writer.archive::<Link>(LinkId(70), Revision(1)).await
        });
        archived.await.expect("archived");
        for (first, second, field) in [
            (Some(70), None, "/0/id"),
            (None, Some(72), "/1/id"),
            (Some(0), None, "/0/id"),
            (Some(4_000_000_001), None, "/0/id"),
            (Some(80), Some(80), "/1/id"),
        ] {
            let refused = create(vec![draft("e", first), draft("f", second)]).await;
            assert_eq!(reasons(refused), [(Reason::IdTaken, field.to_owned())]);
        }
        let last = create(vec![draft("g", None)]).await.expect("created");
        assert_eq!(last[0].id, LinkId(73));
    }
}

#[tokio::test]
async fn many_links_are_archived_all_or_none() {
    for test in both().await {
        let campaign = test.campaign().await.campaign.id;
        let mut links = Vec::new();
        for slug in ["a", "b", "c"] {
            links.push(test.create(link(campaign, slug)).await);
        }
        let archive = async |rows: Vec<(domain::LinkId, u32)>| {
            let rows: Vec<_> = rows.iter().map(|it| (it.0, Revision(it.1))).collect();
            test.write(seconds(5), async |writer| writer.archive_many(&rows).await)
                .await
        };
        let ids: Vec<_> = links.iter().map(|link| link.id).collect();
        let missing = domain::LinkId(99);
        let refused = archive(vec![(ids[0], 1), (ids[1], 7), (missing, 1), (ids[0], 1)]).await;
        let expected = [
            (Reason::RevisionConflict, "/1".to_owned()),
            (Reason::NotFound, "/2".to_owned()),
            (Reason::Repeated, "/3".to_owned()),
        ];
        assert_eq!(reasons(refused), expected);
        let (before, stored) = test.links().await;
        assert_eq!(stored.len(), 3);
        assert_eq!(reasons(archive(Vec::new()).await)[0].0, Reason::WrongCount);
        let archived = archive(vec![(ids[2], 1), (ids[0], 1)]).await;
        let archived = archived.expect("archived");
        let (_, stored) = test.links().await;
        assert_eq!((stored.len(), stored[0].id), (1, ids[1]));
        for link in archived {
            let read = test.read(async |reader| reader.get::<Link>(link.id).await);
            assert_eq!(read.await.expect("read"), link);
            assert_eq!((link.archived, link.revision.0), (Some(seconds(5)), 2));
        }
        let delta = test.links_changed(before).await;
        let removed =
            matches!(&delta, LinkChanges::Delta { removed, .. } if *removed == [ids[0], ids[2]]);
        assert!(removed, "{delta:?}");
        test.create(link(campaign, "a")).await;
    }
}
