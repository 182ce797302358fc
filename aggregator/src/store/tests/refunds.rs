//! Refunds: each takes back its own amount, and the rest of the sale stays.

use super::{StoreDatabase as _, TestDatabase, block, conversion, of_kind, verdict_texts};
use crate::store::ConversionStoreError;
use domain::{ConversionKind, ConversionStatus, Currency, Micros};
use tracking_events::{Conversion, Event, Stated};

use ConversionStatus::{Approved, Chargeback, Hold, Pending, Rejected};

const STATES: &str = "SELECT transaction_id || ' ' || status || ' ' || CAST(payout_minor AS TEXT) \
                      FROM conversions WHERE withdrawn = 0 ORDER BY 1";

fn edited<'a>(event: Event<'a>, edit: impl FnOnce(&mut Conversion<'a>)) -> Event<'a> {
    let Event::Conversion(mut conversion) = event else {
        panic!("only conversions are edited")
    };
    edit(&mut conversion);
    Event::Conversion(conversion)
}

/// A report of a status alone, without a transaction or with one.
fn update(transaction: &str, status: ConversionStatus) -> Event<'_> {
    edited(conversion(transaction, status, 0), |it| {
        it.stated = Stated::STATUS
    })
}

pub(super) fn sale(status: ConversionStatus, minor: i64) -> Event<'static> {
    conversion("t", status, minor)
}

pub(super) fn refund(minor: i64) -> Event<'static> {
    edited(sale(Chargeback, minor), |it| {
        it.stated = Stated(Stated::STATUS.0 | Stated::PAYOUT.0);
    })
}

/// In another word than [`refund`].
pub(super) fn other_refund(minor: i64) -> Event<'static> {
    edited(refund(minor), |it| it.kind_name = "refunded")
}

/// The events one second after another.
pub(super) fn in_order(events: Vec<Event<'static>>) -> Vec<Event<'static>> {
    let seconds = 1_750_000_000_u64..;
    let timed = events.into_iter().zip(seconds);
    timed
        .map(|(event, at)| edited(event, |it| it.time = Micros(at * 1_000_000)))
        .collect()
}

#[tokio::test]
async fn refund_reduces_the_sale_by_its_own_amount() {
    let dollars = |event| {
        edited(event, |it| {
            it.payout.currency = Currency(*b"USD");
            it.stated = Stated::ALL;
        })
    };
    for (name, events, verdicts) in [
        (
            "whole, without an amount",
            vec![sale(Approved, 550), update("t", Chargeback)],
            vec!["1 sale approved 550", "2 sale chargeback 550"],
        ),
        (
            "whole, with an amount of 0",
            vec![sale(Approved, 550), refund(0)],
            vec!["1 sale approved 550", "2 sale chargeback 550"],
        ),
        (
            "part of it",
            vec![sale(Approved, 550), refund(200)],
            vec!["1 sale approved 550", "2 sale approved 350"],
        ),
        (
            "more than there is",
            vec![sale(Approved, 550), refund(600)],
            vec!["1 sale approved 550", "2 sale chargeback 550"],
        ),
        (
            "in parts until nothing is left",
            vec![sale(Approved, 550), refund(200), refund(300), refund(50)],
            vec![
                "1 sale approved 550",
                "2 sale approved 350",
                "3 sale approved 50",
                "4 sale chargeback 50",
            ],
        ),
        (
            "the same refund reported again",
            vec![
                sale(Approved, 550),
                refund(200),
                refund(200),
                sale(Approved, 550),
                refund(200),
            ],
            vec![
                "1 sale approved 550",
                "2 sale approved 350",
                "repeat of 2",
                "repeat of 2",
                "repeat of 2",
            ],
        ),
        (
            "corrected afterwards",
            vec![
                sale(Approved, 550),
                refund(200),
                sale(Approved, 600),
                sale(Hold, 100),
            ],
            vec![
                "1 sale approved 550",
                "2 sale approved 350",
                "3 sale approved 400",
                "4 sale hold 0",
            ],
        ),
        (
            "before the approval",
            vec![sale(Pending, 550), refund(200), update("t", Approved)],
            vec![
                "1 sale pending 550",
                "2 sale pending 350",
                "3 sale approved 350",
            ],
        ),
        (
            "in another currency, which can't be compared",
            vec![sale(Approved, 550), dollars(refund(200))],
            vec!["1 sale approved 550", "2 sale chargeback 550"],
        ),
        (
            "of what was refunded as a whole",
            vec![sale(Approved, 550), update("t", Chargeback), refund(200)],
            vec![
                "1 sale approved 550",
                "2 sale chargeback 550",
                "repeat of 2",
            ],
        ),
    ] {
        let home = TestDatabase::sqlite();
        let events = in_order(events);
        let judged = verdict_texts(&home.store(), &block(1, events)).await;
        assert_eq!(judged, verdicts, "{name}");
    }
}

#[tokio::test]
async fn refund_of_a_rejected_sale_is_refused() {
    let home = TestDatabase::sqlite();
    let events = in_order(vec![sale(Rejected, 550), refund(200)]);
    let judged = verdict_texts(&home.store(), &block(1, events)).await;
    assert!(
        judged[1].starts_with("refused: rejected can't become chargeback"),
        "{judged:?}"
    );
}

#[tokio::test]
async fn refunds_in_any_order_of_arrival_count_by_their_time() {
    let events = in_order(vec![
        sale(Pending, 550),
        refund(200),
        sale(Approved, 550),
        refund(100),
    ]);
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
        let home = TestDatabase::sqlite();
        let store = home.store();
        for at in order {
            verdict_texts(&store, &block(at as u64 + 1, [events[at].clone()])).await;
        }
        assert_eq!(
            home.fetch_all(STATES).await,
            ["t approved 250"],
            "{order:?}"
        );
    }
}

#[tokio::test]
async fn reversal_without_transaction_finds_the_click_s_only_sale()
-> Result<(), ConversionStoreError> {
    for home in TestDatabase::both() {
        let store = home.store();
        let rebill = |event| of_kind(event, ConversionKind::Rebill, "");
        let verdicts = verdict_texts(&store, &block(1, [sale(Approved, 550)])).await;
        assert_eq!(verdicts, ["1 sale approved 550"]);
        // It names another kind than the sale's.
        let other = edited(rebill(update("", Rejected)), |it| {
            it.stated.insert(Stated::KIND);
        });
        assert_eq!(
            verdict_texts(&store, &block(2, [other])).await,
            ["1 rebill rejected 0"]
        );
        home.run("DELETE FROM conversion_reports WHERE kind = 'rebill'")
            .await;
        home.run("DELETE FROM conversions WHERE kind = 'rebill'")
            .await;
        let reversal = block(3, [update("", Chargeback), update("", Chargeback)]);
        let verdicts = store.verdicts(&reversal).await?;
        assert_eq!(
            verdict_texts(&store, &reversal).await,
            ["2 sale chargeback 550", "repeat of 2"]
        );
        let found = format!("{verdicts:?}");
        assert_eq!(
            found.matches("found_transaction: Some(\"t\")").count(),
            2,
            "{found}"
        );
        assert_eq!(home.fetch_all(STATES).await, ["t chargeback 550"]);
        // Of two sales either may be meant.
        let second = [conversion("u", Approved, 10), update("", Chargeback)];
        let verdicts = verdict_texts(&store, &block(10, second)).await;
        assert_eq!(verdicts, ["1 sale approved 10", "1 sale chargeback 0"]);
    }
    Ok(())
}
