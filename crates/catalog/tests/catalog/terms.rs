//! Versions of terms: their periods, and which are in force.

use crate::support::*;
use catalog::*;
use domain::*;

#[tokio::test]
async fn campaign_terms_precede_those_of_the_offer() {
    for test in both().await {
        let parents = test.campaign().await;
        let owners = (
            TermsOwner::Offer(parents.offer.id),
            TermsOwner::Campaign(parents.campaign.id),
        );
        let create = async |now: u64, owner: TermsOwner, from: Option<u64>, until: Option<u64>| {
            test.write(seconds(now), async |writer| {
                let terms = terms(owner, from.map(seconds), until.map(seconds));
                writer.create_terms(terms).await
            })
            .await
            .expect("created")
            .id
        };
        let standard = create(10, owners.0, None, None).await;
        let special = create(20, owners.1, Some(30), Some(40)).await;
        // It replaces the open ones from 50 on.
        let newer = create(25, owners.0, Some(50), None).await;
        test.record_dates(seconds(1_000_001)).await;
        for (at, expected) in [
            (9, None),
            (10, Some(standard)),
            (29, Some(standard)),
            (30, Some(special)),
            (39, Some(special)),
            (40, Some(standard)),
            (49, Some(standard)),
            (50, Some(newer)),
            (1_000_000, Some(newer)),
        ] {
            let found = test.read(async |reader| {
                let campaign = parents.campaign.id;
                reader.terms_in_force(campaign, seconds(at)).await
            });
            let found = found.await.expect("read");
            assert_eq!(found.as_ref().map(|it| it.id), expected, "{at}");
            assert!(found.is_none_or(|it| it.settings.is_in_force(seconds(at))));
        }
        let ended = test.read(async |reader| reader.get::<Terms>(standard).await);
        let ended = ended.await.expect("read");
        assert_eq!(ended.settings.valid_until, Some(seconds(50)));
        assert_eq!(ended.revision, Revision(2));
    }
}

#[tokio::test]
async fn periods_of_one_owner_never_overlap() {
    for test in both().await {
        let parents = test.campaign().await;
        let owner = TermsOwner::Offer(parents.offer.id);
        let create = async |from: Option<u64>, until: Option<u64>| {
            test.write(seconds(10), async |writer| {
                let terms = terms(owner, from.map(seconds), until.map(seconds));
                writer.create_terms(terms).await
            })
            .await
        };
        create(Some(100), Some(200)).await.expect("the first");
        let open = create(Some(300), None).await.expect("open").id;
        for (from, until, reason) in [
            (Some(150), Some(160), Some(Reason::TermsOverlap)),
            (Some(50), Some(101), Some(Reason::TermsOverlap)),
            (Some(199), None, Some(Reason::TermsOverlap)),
            // The open ones begin at the same time or later: they are not replaced.
            (Some(300), None, Some(Reason::TermsOverlap)),
            (Some(250), Some(301), Some(Reason::TermsOverlap)),
            (Some(9), Some(20), Some(Reason::TermsInPast)),
            (Some(60), Some(60), Some(Reason::InvalidPeriod)),
            (Some(200), Some(300), None),
            (None, Some(100), None),
            (Some(301), Some(310), None),
        ] {
            match (create(from, until).await, reason) {
                (Ok(_), None) => {}
                (outcome, Some(reason)) => {
                    let found = reasons(outcome);
                    assert!(found.iter().any(|it| it.0 == reason), "{from:?}: {found:?}");
                }
                (Err(error), None) => panic!("{from:?}: {error}"),
            }
        }
        let all = test.read(async |reader| reader.list::<Terms>(&ListQuery::default()).await);
        let all = all.await.expect("read").items;
        let ended = all.iter().find(|it| it.id == open).expect("listed");
        assert_eq!(ended.settings.valid_until, Some(seconds(301)));
        for (index, a) in all.iter().enumerate() {
            for b in &all[index + 1..] {
                let (a, b) = (&a.settings, &b.settings);
                assert!(a.valid_until <= b.valid_from || b.valid_until <= a.valid_from);
            }
        }
    }
}

#[tokio::test]
async fn terms_end_or_are_withdrawn_before_they_begin() {
    for test in both().await {
        let parents = test.campaign().await;
        let owner = TermsOwner::Campaign(parents.campaign.id);
        let (current, later) = test
            .write(seconds(10), async |writer| {
                let current = terms(owner, None, Some(seconds(100)));
                let later = terms(owner, Some(seconds(200)), None);
                Ok((
                    writer.create_terms(current).await?,
                    writer.create_terms(later).await?,
                ))
            })
            .await
            .expect("created");
        let withdraw = async |terms: &Object<Terms>| {
            test.write(seconds(20), async |writer| {
                writer.withdraw_terms(terms.id, terms.revision).await
            })
            .await
        };
        let end = async |at: u64| {
            test.write(seconds(20), async |writer| {
                writer
                    .end_terms(current.id, current.revision, seconds(at))
                    .await
            })
            .await
        };
        assert_eq!(reasons(withdraw(&current).await)[0].0, Reason::TermsInForce);
        assert_eq!(reasons(end(19).await)[0].0, Reason::TermsInPast);
        assert_eq!(reasons(end(101).await)[0].0, Reason::TermsOverlap);
        assert_eq!(
            end(20).await.expect("ended").settings.valid_until,
            Some(seconds(20))
        );
        let withdrawn = withdraw(&later).await.expect("withdrawn");
        assert_eq!(withdrawn.status, TermsStatus::Archived);
        test.record_dates(seconds(301)).await;
        let found = test.read(async |reader| {
            reader
                .terms_in_force(parents.campaign.id, seconds(300))
                .await
        });
        assert_eq!(found.await.expect("read"), None);
    }
}

/// The periods of all terms that were not withdrawn, in seconds.
async fn periods(test: &TestCatalog) -> Vec<(u64, Option<u64>)> {
    let all = test.read(async |reader| reader.list::<Terms>(&ListQuery::default()).await);
    let second = |time: Micros| (time.0 - START.0) / 1_000_000;
    let all = all.await.expect("read").items.into_iter().map(|it| {
        let from = it.settings.valid_from.map(second);
        (from.expect("stored"), it.settings.valid_until.map(second))
    });
    let mut periods: Vec<_> = all.collect();
    periods.sort_unstable();
    periods
}

#[tokio::test]
async fn withdrawals_and_promotions_leave_no_gap() {
    for test in both().await {
        let parents = test.campaign().await;
        let owner = TermsOwner::Offer(parents.offer.id);
        let create = async |from: u64, until: Option<u64>| {
            let terms = terms(owner, Some(seconds(from)), until.map(seconds));
            let created = test.write(seconds(10), async |writer| writer.create_terms(terms).await);
            created.await.expect("created")
        };
        let withdraw = async |terms: Object<Terms>| {
            let (id, revision) = (terms.id, terms.revision);
            let withdrawn = test.write(seconds(20), async |writer| {
                writer.withdraw_terms(id, revision).await
            });
            assert!(withdrawn.await.expect("withdrawn").archived.is_some());
        };
        create(10, None).await;
        let later = create(300, None).await;
        assert_eq!(periods(&test).await, [(10, Some(300)), (300, None)]);
        withdraw(later).await;
        assert_eq!(periods(&test).await, [(10, None)]);
        let promotion = create(100, Some(200)).await;
        let with_promotion = [(10, Some(100)), (100, Some(200)), (200, None)];
        assert_eq!(periods(&test).await, with_promotion);
        withdraw(promotion).await;
        assert_eq!(periods(&test).await, [(10, Some(200)), (200, None)]);
        // The continuation has the prices of the terms that it continues.
        let all = test.read(async |reader| reader.list::<Terms>(&ListQuery::default()).await);
        let all = all.await.expect("read").items;
        let prices = all
            .iter()
            .map(|it| (&it.settings.name, &it.settings.events));
        let prices: Vec<_> = prices.collect();
        assert_eq!(prices[0], prices[1]);
    }
}

#[tokio::test]
async fn terms_are_final_before_the_clock_only() {
    for test in both().await {
        let parents = test.campaign().await;
        let read = async |second: u64| {
            test.read(async |reader| {
                let campaign = parents.campaign.id;
                reader.terms_in_force(campaign, seconds(second)).await
            })
            .await
        };
        test.record_dates(seconds(50)).await;
        assert_eq!(read(49).await.expect("final"), None);
        for second in [50, 51, 1_000] {
            assert_eq!(reasons(read(second).await)[0].0, Reason::NotFinal);
        }
        // Terms of a writer with a clock that is behind begin at the catalog's.
        let owner = TermsOwner::Campaign(parents.campaign.id);
        let created = test.write(seconds(40), async |writer| {
            writer.create_terms(terms(owner, None, None)).await
        });
        let created = created.await.expect("created").settings;
        assert_eq!(created.valid_from, Some(seconds(50)));
        assert_eq!(read(49).await.expect("final"), None);
    }
}

#[test]
fn tier_follows_from_the_measure() {
    let tier = |from, minor| PriceTier {
        from,
        per_event_minor: minor,
        ..PriceTier::default()
    };
    let price = Price {
        tiers: vec![tier(0, 100), tier(10, 120), tier(50, 150)],
        ..Price::default()
    };
    for (reached, minor) in [
        (0, 100),
        (9, 100),
        (10, 120),
        (49, 120),
        (50, 150),
        (i64::MAX, 150),
    ] {
        let tier = price.tier(reached).expect("a tier");
        assert_eq!(tier.per_event_minor, minor, "{reached}");
    }
    assert_eq!(Price::default().tier(0), None);
}

#[tokio::test]
async fn invalid_prices_are_refused_with_their_field() {
    let tier =
        |from: i64, points: u32| serde_json::json!({ "from": from, "sale_basis_points": points });
    for test in both().await {
        let parents = test.campaign().await;
        for (event, tiers, measure, field, reason) in [
            (
                "sale",
                vec![tier(1, 5)],
                "count",
                "tiers",
                Reason::OutOfRange,
            ),
            (
                "sale",
                vec![tier(0, 5), tier(0, 6)],
                "count",
                "tiers",
                Reason::OutOfRange,
            ),
            (
                "sale",
                vec![tier(0, 100_001)],
                "count",
                "tiers/0/sale_basis_points",
                Reason::OutOfRange,
            ),
            (
                "click",
                vec![tier(0, 5)],
                "count",
                "tiers/0/sale_basis_points",
                Reason::Contradiction,
            ),
            (
                "click",
                vec![tier(0, 0)],
                "amount",
                "measure",
                Reason::Contradiction,
            ),
            (
                "sale",
                vec![tier(0, 5); 21],
                "count",
                "tiers",
                Reason::WrongCount,
            ),
        ] {
            let mut wrong = terms(TermsOwner::Offer(parents.offer.id), None, None);
            wrong.events = serde_json::from_value(serde_json::json!([
                { "event": event, "payout": { "measure": measure, "tiers": tiers } },
            ]))
            .expect("settings");
            let refused = test.write(START, async |writer| writer.create_terms(wrong).await);
            let expected = (reason, format!("/events/0/payout/{field}"));
            let found = reasons(refused.await);
            assert!(found.contains(&expected), "{found:?}");
        }
        let mut hybrid = terms(TermsOwner::Offer(parents.offer.id), None, None);
        hybrid.events = serde_json::from_value(serde_json::json!([
            { "event": "click", "payout": { "tiers": [{ "per_event_minor": 2 }] } },
            { "event": "impression", "payout": { "tiers": [{ "per_thousand_minor": 150 }] } },
            { "event": "sale", "payout": { "tiers": [{ "per_event_minor": 500, "sale_basis_points": 250 }] },
              "revenue": { "measure": "amount", "period": "total", "tiers": [{ "sale_basis_points": 900 }] } },
        ]))
        .expect("settings");
        let created = test.write(START, async |writer| writer.create_terms(hybrid).await);
        let created = created.await.expect("created").settings;
        assert!(created.event("sale").is_some() && created.event("lead").is_none());
        assert_eq!(created.payout_money(5).currency, Currency(*b"EUR"));
        assert_eq!(created.revenue_money(5).currency, Currency(*b"USD"));
    }
}
