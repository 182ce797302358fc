//! Links as the edges get them.

use crate::support::*;
use catalog::*;

fn inactive(kind: KindName, why: Why) -> LinkState {
    LinkState::Inactive(InactiveCause { kind, why })
}

async fn state(test: &TestCatalog) -> LinkState {
    test.links().await.1[0].state
}

#[tokio::test]
async fn link_has_everything_of_its_parents() {
    for test in both().await {
        let parents = test.campaign().await;
        let (offer, campaign) = (parents.offer.id, parents.campaign.id);
        let creative: Creative = from_json(serde_json::json!({
            "name": "banner", "offer": offer, "content": { "text": { "text": "Shoes!" } },
        }));
        let creative = test.create(creative).await;
        let terms = test.write(START, async |writer| {
            let standard = terms(TermsOwner::Offer(offer), None, None);
            writer.create_terms(standard).await?;
            let special = Terms {
                name: "special".to_owned(),
                ..terms(TermsOwner::Campaign(campaign), None, None)
            };
            writer.create_terms(special).await
        });
        let terms = terms.await.expect("created");
        let settings = Link {
            offer_destination: Some("sale".to_owned()),
            fallback: Some("https://shop.example/closed".to_owned()),
            creative: Some(creative.id),
            code: 307,
            pass_query: true,
            append_click_id: false,
            ..link(campaign, "spring")
        };
        let link = test.create(settings).await;
        let expected = serde_json::json!({
            "id": link.id, "domain": "", "slug": "spring", "destination": "https://shop.example/sale",
            "fallback": "https://shop.example/closed", "code": 307, "state": "active", "pass_query": true,
            "append_click_id": false, "network": { "id": 1, "name": "default" },
            "advertiser": { "id": parents.advertiser.id, "name": "shop" }, "offer": { "id": offer, "name": "shoes" },
            "affiliate": { "id": parents.affiliate.id, "name": "ann" },
            "campaign": { "id": campaign, "name": "spring" }, "creative": { "id": creative.id, "name": "banner" },
            "terms": { "id": terms.id, "name": "special" },
        });
        let (_, links) = test.links().await;
        assert_eq!(
            serde_json::to_value(&links).expect("JSON"),
            serde_json::json!([expected])
        );
    }
}

#[tokio::test]
async fn destination_is_own_or_one_of_the_offer() {
    for test in both().await {
        let parents = test.campaign().await;
        let plain = || link(parents.campaign.id, "a");
        let own = "https://own.example/".to_owned();
        for (settings, expected) in [
            (plain(), "https://shop.example/?c={click_id}"),
            (
                Link {
                    offer_destination: Some("sale".to_owned()),
                    ..plain()
                },
                "https://shop.example/sale",
            ),
            (
                Link {
                    offer_destination: Some("gone".to_owned()),
                    ..plain()
                },
                "https://shop.example/?c={click_id}",
            ),
            (
                Link {
                    destination: Some(own.clone()),
                    ..plain()
                },
                &*own,
            ),
        ] {
            let created = test.create(settings).await;
            let (_, links) = test.links().await;
            assert_eq!(links[0].destination, expected);
            let archived = test.write(START, async |writer| {
                writer.archive::<Link>(created.id, created.revision).await
            });
            archived.await.expect("archived");
        }
    }
}

#[tokio::test]
async fn state_follows_from_each_parent() {
    for test in both().await {
        let parents = test.campaign().await;
        let link = test.create(link(parents.campaign.id, "a")).await;
        macro_rules! change {
            ($kind:ty, $object:expr, $status:expr, $reason:literal) => {
                test.write(START, async |writer| {
                    let read = writer.reader().get::<$kind>($object.id).await?;
                    let (id, revision) = (read.id, read.revision);
                    writer
                        .set_status::<$kind>(id, revision, $status, $reason)
                        .await
                })
                .await
                .expect("changed")
            };
        }
        /// Pauses an object, and activates it again.
        macro_rules! pause {
            ($kind:ty, $object:expr) => {
                change!($kind, $object, Activity::Paused, "");
                assert_eq!(state(&test).await, inactive(<$kind>::NAME, Why::Paused));
                change!($kind, $object, Activity::Active, "");
                assert_eq!(state(&test).await, LinkState::Active);
            };
        }
        pause!(Link, link);
        pause!(Campaign, parents.campaign);
        pause!(Offer, parents.offer);
        pause!(Advertiser, parents.advertiser);
        let network = test.read(async |reader| reader.get::<Network>(DEFAULT_NETWORK).await);
        let network = network.await.expect("read");
        pause!(Network, network);
        change!(
            Affiliate,
            parents.affiliate,
            AffiliateStatus::Suspended,
            "question"
        );
        let suspended = inactive(KindName::Affiliate, Why::Paused);
        assert_eq!(state(&test).await, suspended);
        // The first cause in the order of parents.
        change!(Network, network, Activity::Paused, "");
        assert_eq!(state(&test).await, suspended);
        change!(Campaign, parents.campaign, Activity::Archived, "");
        let archived = inactive(KindName::Campaign, Why::Archived);
        assert_eq!(state(&test).await, archived);
    }
}

#[tokio::test]
async fn offers_on_approval_need_an_approved_application() {
    for test in both().await {
        let advertiser = test.create(advertiser("shop")).await;
        let settings = Offer {
            access: OfferAccess::OnApproval,
            ..offer(advertiser.id, "shoes")
        };
        let offer = test.create(settings).await;
        let affiliate = test.create(approved("ann")).await;
        let campaign = test
            .create(campaign(affiliate.id, offer.id, "spring"))
            .await;
        test.create(link(campaign.id, "a")).await;
        let refused = inactive(KindName::Application, Why::NotApproved);
        assert_eq!(state(&test).await, refused);
        let application = Application {
            affiliate: affiliate.id,
            offer: offer.id,
            message: "a newsletter".to_owned(),
        };
        let mut application = test.create(application).await;
        for (status, expected) in [
            (ApplicationStatus::Approved, LinkState::Active),
            (ApplicationStatus::Rejected, refused),
            (ApplicationStatus::Pending, refused),
            (ApplicationStatus::Approved, LinkState::Active),
            (ApplicationStatus::Archived, refused),
        ] {
            let (before, _) = test.links().await;
            let written = test.write(START, async |writer| {
                let (id, revision) = (application.id, application.revision);
                writer
                    .set_status::<Application>(id, revision, status, "why")
                    .await
            });
            application = written.await.expect("changed");
            assert_eq!(state(&test).await, expected, "{status}");
            let LinkChanges::Delta { changed, .. } = test.links_changed(before).await else {
                panic!("few links");
            };
            assert_eq!(changed[0].state, expected);
        }
    }
}

#[tokio::test]
async fn dates_take_effect_when_they_are_recorded() {
    for test in both().await {
        let parents = test.campaign().await;
        let settings = Link {
            starts: Some(seconds(10)),
            ends: Some(seconds(30)),
            ..link(parents.campaign.id, "a")
        };
        let created = test.create(settings).await.id;
        let ended = test.write(START, async |writer| {
            let settings = Offer {
                ends: Some(seconds(20)),
                ..parents.offer.settings.clone()
            };
            writer.update(parents.offer.id, Revision(1), settings).await
        });
        ended.await.expect("updated");
        let mut table = test.links().await;
        for (now, next, expected) in [
            (1, Some(10), inactive(KindName::Link, Why::NotStarted)),
            (9, Some(10), inactive(KindName::Link, Why::NotStarted)),
            (10, Some(20), LinkState::Active),
            (25, Some(30), inactive(KindName::Offer, Why::Ended)),
            // The clock never goes back.
            (5, Some(30), inactive(KindName::Offer, Why::Ended)),
            (99, None, inactive(KindName::Link, Why::Ended)),
        ] {
            let mut tx = test.catalog.database().begin().await.expect("transaction");
            record_dates(&mut tx, || seconds(now))
                .await
                .expect("recorded");
            let found = next_date(&mut tx).await.expect("read");
            tx.commit().await.expect("committed");
            assert_eq!(found, next.map(seconds), "{now}");
            assert_eq!(state(&test).await, expected, "{now}");
            let LinkChanges::Delta {
                version,
                changed,
                removed,
            } = test.links_changed(table.0).await
            else {
                panic!("few links");
            };
            assert!(removed.is_empty() && changed.iter().all(|link| link.id == created));
            table = (
                version,
                changed
                    .into_iter()
                    .next()
                    .map_or(table.1, |link| vec![link]),
            );
            assert_eq!(table, test.links().await, "{now}");
        }
    }
}

#[tokio::test]
async fn archived_links_are_removed_and_their_slugs_free() {
    for test in both().await {
        let campaign = test.campaign().await.campaign.id;
        let old = test.create(link(campaign, "a")).await;
        let (before, _) = test.links().await;
        let archived = test.write(START, async |writer| {
            writer.archive::<Link>(old.id, old.revision).await
        });
        archived.await.expect("archived");
        let new = test.create(link(campaign, "a")).await;
        let (after, links) = test.links().await;
        assert_eq!((links.len(), links[0].id), (1, new.id));
        let delta = LinkChanges::Delta {
            version: after,
            changed: links,
            removed: vec![old.id],
        };
        assert_eq!(test.links_changed(before).await, delta);
    }
}

#[tokio::test]
async fn unknown_versions_need_a_full_load() {
    for test in both().await {
        let (version, _) = test.links().await;
        let later = Version(version.0 + 1);
        assert_eq!(
            test.links_changed(later).await,
            LinkChanges::LoadAll { version }
        );
        let nothing = LinkChanges::Delta {
            version,
            changed: Vec::new(),
            removed: Vec::new(),
        };
        assert_eq!(test.links_changed(version).await, nothing);
    }
}

#[tokio::test]
async fn damaged_links_are_left_out_and_others_stay() {
    for test in both().await {
        let parents = test.campaign().await;
        let campaign = test
            .create(campaign(parents.affiliate.id, parents.offer.id, "other"))
            .await;
        let damaged = test.create(link(campaign.id, "a")).await;
        let unreadable = test.create(link(parents.campaign.id, "b")).await;
        let mut sound = Vec::new();
        for slug in ["c", "d", "e"] {
            sound.push(test.create(link(parents.campaign.id, slug)).await.id);
        }
        test.execute("DELETE FROM catalog_campaigns WHERE id = 2")
            .await;
        test.execute("UPDATE catalog_links SET document = '{' WHERE id = 2")
            .await;
        // Pages of two, of which the first two links are damaged.
        let (_, links) = test.links().await;
        let ids: Vec<_> = links.iter().map(|link| link.id).collect();
        assert_eq!(ids, sound);
        let LinkChanges::Delta {
            changed, removed, ..
        } = test.links_changed(Version(0)).await
        else {
            panic!("few links");
        };
        assert_eq!(changed, links);
        assert_eq!(removed, [damaged.id, unreadable.id]);
    }
}

#[tokio::test]
async fn deltas_have_links_that_changes_matter_to() {
    for test in both().await {
        let parents = test.campaign().await;
        let created = test.create(link(parents.campaign.id, "a")).await.id;
        let mut settings = parents.offer.settings.clone();
        let mut revision = parents.offer.revision;
        let mut version = test.links().await.0;
        for (name, description, expected) in [
            ("shoes", "long", &[][..]),
            ("boots", "long", &[created]),
            ("boots", "longer", &[]),
        ] {
            settings.name = name.to_owned();
            settings.description = description.to_owned();
            let updated = test.write(START, async |writer| {
                let (id, settings) = (parents.offer.id, settings.clone());
                writer.update(id, revision, settings).await
            });
            revision = updated.await.expect("updated").revision;
            let LinkChanges::Delta {
                version: next,
                changed,
                ..
            } = test.links_changed(version).await
            else {
                panic!("few links");
            };
            let ids: Vec<_> = changed.iter().map(|link| link.id).collect();
            assert_eq!(ids, expected, "{name} {description}");
            assert!(next > version);
            version = next;
        }
    }
}
