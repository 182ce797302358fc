//! The queue of postbacks, on SQLite and on PostgreSQL.

use super::{StoreDatabase as _, TestDatabase, block, conversion};
use crate::store::{
    Attempt, AttemptOutcome, ConversionStore, EndpointHealth, LeasedPostback, PostbackKey,
    SubscriberSearch,
};
use domain::ConversionStatus::{Approved, Pending};
use domain::Micros;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(10);
/// After the conversions' own time.
const NOW: Micros = Micros(1_800_000_100_000_000);

fn at(seconds: u64) -> Micros {
    Micros(NOW.0 + seconds * 1_000_000)
}

fn found(key: PostbackKey, receiver: &str) -> (PostbackKey, SubscriberSearch) {
    let search = SubscriberSearch::Found {
        receiver: receiver.into(),
        click: "{}".into(),
    };
    (key, search)
}

/// Queues a first and a second revision of `t` and one of `u`, whose clicks are known: `u`'s is `other`'s.
async fn three(store: &ConversionStore) {
    let events = [
        conversion("t", Pending, 100),
        conversion("t", Approved, 100),
        conversion("u", Approved, 5),
        // Nothing new.
        conversion("u", Approved, 5),
    ];
    store.verdicts(&block(1, events)).await.expect("evaluated");
    let awaiting = store.awaiting(NOW, 10).await.expect("read");
    assert_eq!(awaiting.len(), 3);
    let u = &awaiting
        .iter()
        .find(|it| {
            !awaiting
                .iter()
                .any(|o| o.key.identity == it.key.identity && o.key != it.key)
        })
        .expect("one without a second revision")
        .key
        .identity;
    let searches: Vec<_> = awaiting
        .iter()
        .map(|it| {
            let receiver = if it.key.identity == *u {
                "other"
            } else {
                "spring"
            };
            found(it.key.clone(), receiver)
        })
        .collect();
    store.store_searches(NOW, &searches).await.expect("stored");
}

async fn lease_due(store: &ConversionStore, now: Micros) -> Vec<LeasedPostback> {
    let room = |_: &str, failures| if failures > 0 { 1 } else { 8 };
    store
        .lease_due(|| now, LEASE, 10, room)
        .await
        .expect("leased")
}

fn names(leased: &[LeasedPostback]) -> Vec<String> {
    let mut names: Vec<String> = leased
        .iter()
        .map(|it| {
            format!(
                "{} {} {}",
                it.receiver, it.sale.transaction_id, it.sale.status
            )
        })
        .collect();
    names.sort();
    names
}

fn attempt(
    leased: &LeasedPostback,
    outcome: AttemptOutcome,
    endpoint_health: EndpointHealth,
) -> Attempt {
    Attempt {
        key: leased.key.clone(),
        receiver: leased.receiver.clone(),
        outcome,
        status: 200,
        error: String::new(),
        attempts: leased.attempts,
        failures: leased.failures,
        endpoint_health,
    }
}

fn delivered(leased: &LeasedPostback) -> Attempt {
    attempt(leased, AttemptOutcome::Delivered, EndpointHealth::Healthy)
}

fn failed(leased: &LeasedPostback, due: Micros, held_until: Micros) -> Attempt {
    attempt(
        leased,
        AttemptOutcome::Retry(due),
        EndpointHealth::Failing { held_until },
    )
}

#[tokio::test]
async fn lease_is_exclusive_and_revisions_are_delivered_in_order() {
    for home in TestDatabase::both() {
        let store = home.notifying_store();
        three(&store).await;
        let first = lease_due(&store, at(1)).await;
        assert_eq!(names(&first), ["other u approved", "spring t pending"]);
        assert!(first.iter().all(|it| it.attempts == 1));
        // Another aggregator, and the same one after a crash.
        let other = home.notifying_store();
        assert!(lease_due(&other, at(2)).await.is_empty());
        let again = lease_due(&other, at(12)).await;
        assert_eq!(names(&again), names(&first));
        assert!(again.iter().all(|it| it.attempts == 2));
        // The outcome of the first attempt is too late: the second one has the lease.
        let late: Vec<_> = first.iter().map(|it| failed(it, at(90), at(90))).collect();
        store
            .store_attempts(at(13), &late)
            .await
            .expect("nothing to keep");
        let taken: Vec<_> = again.iter().map(delivered).collect();
        store.store_attempts(at(13), &taken).await.expect("stored");
        let second = lease_due(&store, at(14)).await;
        assert_eq!(names(&second), ["spring t approved"]);
    }
}

#[tokio::test]
async fn failing_receiver_waits_and_delays_no_other() {
    for home in TestDatabase::both() {
        let store = home.notifying_store();
        let events = (0..6).map(|number| {
            let transaction = format!("t{number}");
            conversion(Box::leak(transaction.into_boxed_str()), Approved, 1)
        });
        store.verdicts(&block(1, events)).await.expect("evaluated");
        let awaiting = store.awaiting(NOW, 10).await.expect("read");
        let searches = awaiting
            .into_iter()
            .enumerate()
            .map(|(number, it)| found(it.key, if number < 3 { "broken" } else { "well" }));
        let searches: Vec<_> = searches.collect();
        store.store_searches(NOW, &searches).await.expect("stored");
        let leased = lease_due(&store, at(1)).await;
        let attempts: Vec<_> = leased
            .iter()
            .map(|it| match it.receiver.as_str() {
                "well" => delivered(it),
                _ => failed(it, at(5), at(20)),
            })
            .collect();
        store
            .store_attempts(at(1), &attempts)
            .await
            .expect("stored");
        // They are due, and their receiver is held.
        assert!(lease_due(&store, at(10)).await.is_empty());
        let probe = lease_due(&store, at(20)).await;
        assert_eq!(probe.len(), 1, "it is tried with one alone");
        let well = [delivered(&probe[0])];
        store.store_attempts(at(21), &well).await.expect("stored");
        assert_eq!(lease_due(&store, at(21)).await.len(), 2);
    }
}

#[tokio::test]
async fn ended_postbacks_are_listed_then_deleted() {
    for home in TestDatabase::both() {
        let store = home.notifying_store();
        three(&store).await;
        let leased = lease_due(&store, at(1)).await;
        let attempts: Vec<_> = leased
            .iter()
            .map(|it| match it.receiver.as_str() {
                "other" => attempt(it, AttemptOutcome::Unwanted, EndpointHealth::Unknown),
                _ => attempt(it, AttemptOutcome::Refused, EndpointHealth::Healthy),
            })
            .collect();
        store
            .store_attempts(at(2), &attempts)
            .await
            .expect("stored");
        let shown = store.list_postbacks("", "", 10).await.expect("listed");
        let states: Vec<_> = shown
            .iter()
            .map(|it| (it.receiver.as_str(), it.status.as_str(), it.state.as_str()))
            .collect();
        assert_eq!(states.len(), 3);
        assert!(states.contains(&("spring", "pending", "refused")));
        assert!(states.contains(&("spring", "approved", "due")));
        assert!(states.contains(&("other", "approved", "unwanted")));
        let due = store
            .list_postbacks("spring", "due", 10)
            .await
            .expect("listed");
        assert_eq!(due.len(), 1);
        let other = store.list_postbacks("other", "", 10).await.expect("listed");
        assert_eq!(other.len(), 1);
        store.delete_ended(at(3)).await.expect("deleted");
        let left = store.list_postbacks("", "", 10).await.expect("listed");
        assert_eq!(left.len(), 1);
        let unfinished = store.unfinished().await.expect("counted");
        assert_eq!(
            unfinished,
            [("awaits_click".to_owned(), 0), ("due".to_owned(), 1)]
        );
    }
}

/// The clock of the queue counts an hour of a time without an aggregator, however long that was.
#[tokio::test]
async fn ended_postbacks_show_the_time_of_day() {
    for home in TestDatabase::both() {
        home.run("INSERT INTO outgoing_clock (id, steady) VALUES (1, 1700000000000000)")
            .await;
        let store = home.notifying_store();
        three(&store).await;
        let leased = lease_due(&store, at(1)).await;
        let attempts: Vec<_> = leased.iter().map(delivered).collect();
        store
            .store_attempts(at(2), &attempts)
            .await
            .expect("stored");
        store.give_up(at(3), at(3)).await.expect("done");
        let events = [conversion("v", Approved, 7)];
        store.verdicts(&block(9, events)).await.expect("evaluated");
        let awaiting = store.awaiting(at(3), 10).await.expect("read");
        let unknown = [(awaiting[0].key.clone(), SubscriberSearch::GivenUp)];
        store.store_searches(at(3), &unknown).await.expect("stored");

        // After a restart.
        let store = home.notifying_store();
        let shown = store.list_postbacks("", "", 10).await.expect("listed");
        let mut states: Vec<_> = shown.iter().map(|it| it.state.as_str()).collect();
        states.sort_unstable();
        assert_eq!(
            states,
            ["click_unknown", "delivered", "delivered", "given_up"]
        );
        for it in &shown {
            let ended: jiff::Timestamp = it.at.parse().expect("RFC 3339");
            let now = Micros::now().0 / 1_000_000;
            let ago = now.cast_signed() - ended.as_second();
            assert!((0..60).contains(&ago), "{it:?}");
        }
        // One that is sent again is due now.
        assert!(store.resend(&shown[0].postback).await.expect("found"));
        let due = store.list_postbacks("", "", 10).await.expect("listed");
        assert_eq!(due.len(), 4);
    }
}

#[tokio::test]
async fn missing_click_is_searched_again_then_given_up() {
    for home in TestDatabase::both() {
        let store = home.notifying_store();
        let events = [conversion("t", Pending, 100)];
        store.verdicts(&block(1, events)).await.expect("evaluated");
        let awaiting = store.awaiting(NOW, 10).await.expect("read");
        let key = awaiting[0].key.clone();
        let later = [(key.clone(), SubscriberSearch::Later(at(9)))];
        store.store_searches(NOW, &later).await.expect("stored");
        assert!(store.awaiting(at(8), 10).await.expect("read").is_empty());
        assert_eq!(store.awaiting(at(9), 10).await.expect("read").len(), 1);
        let given_up = [(key, SubscriberSearch::GivenUp)];
        store
            .store_searches(at(9), &given_up)
            .await
            .expect("stored");
        assert!(store.awaiting(at(99), 10).await.expect("read").is_empty());
        let shown = store
            .list_postbacks("", "click_unknown", 10)
            .await
            .expect("listed");
        assert_eq!(shown.len(), 1);
    }
}

#[tokio::test]
async fn no_postbacks_are_queued_without_subscriptions() {
    for home in TestDatabase::both() {
        let events = [conversion("t", Pending, 100)];
        let silent = home.store();
        silent
            .verdicts(&block(1, events.clone()))
            .await
            .expect("evaluated");
        let store = home.notifying_store();
        // The same block, evaluated before, queues nothing.
        store.verdicts(&block(1, events)).await.expect("evaluated");
        assert!(store.awaiting(NOW, 10).await.expect("read").is_empty());
    }
}

#[tokio::test]
async fn revision_behind_an_earlier_one_leaves_endpoint_not_due() {
    for home in TestDatabase::both() {
        let store = home.notifying_store();
        three(&store).await;
        let first = lease_due(&store, at(1)).await;
        let spring = first.iter().find(|it| it.receiver == "spring");
        let again = [failed(spring.expect("leased"), at(3_600), at(5))];
        store.store_attempts(at(2), &again).await.expect("stored");
        let due = "SELECT CAST(next_due AS TEXT) FROM outgoing_receivers WHERE receiver = 'spring'";
        assert_eq!(home.fetch_all(due).await, [at(3_600).0.to_string()]);
    }
}

#[tokio::test]
async fn response_to_earlier_attempt_keeps_endpoint_hold() {
    for home in TestDatabase::both() {
        let store = home.notifying_store();
        let events = ["a", "b", "c"].map(|transaction| conversion(transaction, Approved, 1));
        store.verdicts(&block(1, events)).await.expect("evaluated");
        let awaiting = store.awaiting(NOW, 10).await.expect("read");
        let searches: Vec<_> = awaiting
            .into_iter()
            .map(|it| found(it.key, "spring"))
            .collect();
        store.store_searches(NOW, &searches).await.expect("stored");
        let two = store.lease_due(|| at(1), LEASE, 2, |_, _| 2).await;
        let two = two.expect("leased");
        let slow = [failed(&two[0], at(60), at(60))];
        store.store_attempts(at(2), &slow).await.expect("stored");
        store
            .store_attempts(at(3), &[delivered(&two[1])])
            .await
            .expect("stored");
        assert!(lease_due(&store, at(59)).await.is_empty());
        assert_eq!(lease_due(&store, at(60)).await.len(), 1);
    }
}

#[tokio::test]
async fn overdue_postbacks_are_given_up_unless_in_flight() {
    for home in TestDatabase::both() {
        let store = home.notifying_store();
        three(&store).await;
        assert_eq!(lease_due(&store, at(1)).await.len(), 2);
        // Two are being sent, the third waits.
        let given_up = store.give_up(at(2), at(2)).await.expect("done");
        assert_eq!(given_up, 1);
        let shown = store
            .list_postbacks("", "given_up", 10)
            .await
            .expect("listed");
        assert_eq!(shown.len(), 1);
        assert_eq!(store.give_up(at(2), at(2)).await.expect("done"), 0);
    }
}
