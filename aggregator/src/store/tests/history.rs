//! Conversions follow from all reports of their sale, sorted by report time, in any order of arrival.

use super::{
    StoreDatabase as _, TestDatabase, block, conversion, located, of_kind, texts, verdict_text,
    verdict_texts,
};
use crate::report::{LocatedEvent, Revision, Verdict};
use crate::store::ConversionStore;
use domain::{ConversionKind, ConversionStatus, Currency, Micros, Money};
use event_shipping::LaneKey;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sql_store::{Location, Statement};
use std::collections::BTreeMap;
use tracking_events::{Conversion, Event, Stated};

use ConversionStatus::{Approved, Chargeback, Hold, Pending, Rejected};

const STATUS_ONLY: Stated = Stated::STATUS;
/// Of the property test; each has five orders of up to eight reports.
const CASES: u32 = 48;

/// The event as if it had been reported so many seconds later, or earlier.
fn after(seconds: i64, event: Event<'_>) -> Event<'_> {
    edited(event, |it| {
        it.time = Micros(it.time.0.saturating_add_signed(seconds * 1_000_000));
    })
}

/// The event as if it had stated these fields only.
fn stating(stated: Stated, event: Event<'_>) -> Event<'_> {
    edited(event, |it| it.stated = stated)
}

fn in_currency<'a>(currency: &[u8; 3], event: Event<'a>) -> Event<'a> {
    edited(event, |it| it.payout.currency = Currency(*currency))
}

fn edited<'a>(event: Event<'a>, edit: impl FnOnce(&mut Conversion<'a>)) -> Event<'a> {
    let Event::Conversion(mut conversion) = event else {
        panic!("only conversions are edited")
    };
    edit(&mut conversion);
    Event::Conversion(conversion)
}

const STATES: &str = "SELECT transaction_id || ' ' || kind || kind_name || ' ' || status || ' ' || \
                      CAST(payout_minor AS TEXT) || ' ' || currency FROM conversions \
                      WHERE withdrawn = 0 ORDER BY 1";

#[tokio::test]
async fn late_report_never_overturns_a_newer_one() {
    let home = TestDatabase::sqlite();
    let store = home.store();
    let newer = block(1, [after(60, conversion("t", Rejected, 10))]);
    assert_eq!(verdict_texts(&store, &newer).await, ["1 sale rejected 10"]);
    let older = [
        conversion("t", Approved, 10),
        after(10, conversion("t", Pending, 10)),
        after(20, conversion("t", Rejected, 10)),
    ];
    let older = block(10, older);
    assert_eq!(verdict_texts(&store, &older).await, ["late after 1"; 3]);
    assert_eq!(home.fetch_all(STATES).await, ["t sale rejected 10 EUR"]);
}

#[tokio::test]
async fn identical_reports_matter_when_others_part_them() {
    let home = TestDatabase::sqlite();
    let store = home.store();
    let report = |seconds, status| after(seconds, conversion("t", status, 10));
    let identical = [report(2, Hold), report(4, Hold), report(6, Hold)];
    let before = std::iter::once(report(1, Approved)).chain(identical);
    verdict_texts(&store, &block(1, before)).await;
    assert_eq!(home.fetch_all(STATES).await, ["t sale hold 10 EUR"]);
    let later = [report(3, Rejected), report(5, Chargeback)];
    verdict_texts(&store, &block(10, later)).await;
    assert_eq!(home.fetch_all(STATES).await, ["t sale chargeback 10 EUR"]);
}

#[tokio::test]
async fn late_amount_is_inherited_by_newer_status() {
    for home in TestDatabase::both() {
        let store = home.store();
        let update = stating(STATUS_ONLY, after(60, conversion("t", Approved, 0)));
        assert_eq!(
            verdict_texts(&store, &block(1, [update])).await,
            ["1 sale approved 0"]
        );
        let older = of_kind(conversion("t", Pending, 10), ConversionKind::Lead, "signup");
        // The update was about the lead: the sale that was assumed is withdrawn.
        assert_eq!(
            verdict_texts(&store, &block(2, [older])).await,
            ["1 lead approved 10, 2 sale rejected 0 withdrawn"]
        );
        assert_eq!(home.fetch_all(STATES).await, ["t lead approved 10 EUR"]);
        let sale = after(70, conversion("t", Pending, 3));
        assert_eq!(
            verdict_texts(&store, &block(3, [sale])).await,
            ["3 sale pending 3"]
        );
    }
}

#[tokio::test]
async fn status_update_keeps_unstated_fields() {
    let home = TestDatabase::sqlite();
    let step = |event| of_kind(event, ConversionKind::Custom, "step");
    let status = |seconds, status| {
        let update = after(seconds, conversion("t", status, 0));
        stating(STATUS_ONLY, in_currency(b"USD", update))
    };
    let amount = Stated(Stated::STATUS.0 | Stated::PAYOUT.0);
    let yen = in_currency(b"JPY", conversion("y", Pending, 12));
    let events = [
        step(conversion("t", Pending, 10)),
        status(1, Approved),
        status(2, Approved),
        status(3, Chargeback),
        // Nothing to update: the advertiser's default currency, and no amount.
        stating(STATUS_ONLY, conversion("u", Approved, 7)),
        // 15.00 of the advertiser's currency are 15 yen; 15.50 can't be.
        yen,
        stating(amount, after(1, conversion("y", Approved, 1_500))),
        stating(amount, after(2, conversion("y", Approved, 1_550))),
    ];
    let expected = [
        "1 step pending 10",
        "2 step approved 10",
        "repeat of 2",
        "3 step chargeback 10",
        "1 sale approved 0",
        "1 sale pending 12",
        "2 sale approved 15",
        "3 sale approved 1550",
    ];
    assert_eq!(
        verdict_texts(&home.store(), &block(1, events)).await,
        expected
    );
    let states = [
        "t customstep chargeback 10 EUR",
        "u sale approved 0 EUR",
        "y sale approved 1550 EUR",
    ];
    assert_eq!(home.fetch_all(STATES).await, states);
}

#[tokio::test]
async fn update_without_kind_needs_a_single_conversion() {
    let home = TestDatabase::sqlite();
    let rebill = |event| of_kind(event, ConversionKind::Rebill, "");
    let lead = |event| of_kind(event, ConversionKind::Lead, "");
    let events = [
        lead(conversion("t", Pending, 10)),
        rebill(conversion("t", Pending, 20)),
        // It could be about either.
        stating(STATUS_ONLY, conversion("t", Approved, 0)),
        // Now the sale is.
        stating(STATUS_ONLY, conversion("t", Hold, 0)),
    ];
    let expected = [
        "1 lead pending 10",
        "1 rebill pending 20",
        "1 sale approved 0",
        "2 sale hold 0",
    ];
    assert_eq!(
        verdict_texts(&home.store(), &block(1, events)).await,
        expected
    );
}

#[tokio::test]
async fn reports_from_the_future_have_the_last_word_for_minutes() {
    let home = TestDatabase::sqlite();
    let store = home.store();
    let now = Micros::now().0;
    let at = |micros, event| edited(event, |it: &mut Conversion<'_>| it.time = Micros(micros));
    let years = 3 * 365 * 24 * 3_600 * 1_000_000;
    let ahead = block(1, [at(now + years, conversion("t", Approved, 10))]);
    assert_eq!(verdict_texts(&store, &ahead).await, ["1 sale approved 10"]);
    let soon = block(2, [at(now + 600_000_000, conversion("t", Chargeback, 10))]);
    assert_eq!(verdict_texts(&store, &soon).await, ["2 sale chargeback 10"]);
}

#[tokio::test]
async fn conversions_without_reports_count_as_one_report() {
    let home = TestDatabase::sqlite();
    let store = home.store();
    let lead = |event| of_kind(event, ConversionKind::Lead, "");
    let first = block(1, [after(60, lead(conversion("t", Pending, 10)))]);
    assert_eq!(verdict_texts(&store, &first).await, ["1 lead pending 10"]);
    home.run("DELETE FROM conversion_reports").await;
    let events = [
        lead(conversion("t", Pending, 7)),
        stating(STATUS_ONLY, after(90, conversion("t", Approved, 0))),
    ];
    assert_eq!(
        verdict_texts(&store, &block(2, events)).await,
        ["late after 1", "2 lead approved 10"]
    );
}

#[tokio::test]
async fn conversions_ahead_of_their_reports_stay_as_they_are() {
    let home = TestDatabase::sqlite();
    let store = home.store();
    let first = [conversion("t", Approved, 10), conversion("u", Rejected, 5)];
    verdict_texts(&store, &block(1, first)).await;
    // As after a restore from a copy, when ClickHouse had newer revisions; pending could not follow approved.
    home.run(
        "UPDATE conversions SET revision = 7, status = 'pending', payout_minor = 30 WHERE transaction_id = 't'",
    )
    .await;
    home.run(
        "INSERT INTO conversion_revisions (identity, revision, status, payout_minor, currency, time) \
         SELECT identity, 7, 'pending', 30, 'EUR', 1750000060000000 FROM conversions WHERE transaction_id = 't'",
    )
    .await;
    let events = [
        after(30, conversion("t", Rejected, 10)),
        stating(STATUS_ONLY, after(90, conversion("t", Approved, 0))),
        after(90, conversion("u", Rejected, 5)),
    ];
    let expected = ["late after 7", "8 sale approved 30", "repeat of 1"];
    assert_eq!(verdict_texts(&store, &block(10, events)).await, expected);
}

#[tokio::test]
async fn unknown_stated_bits_force_no_transition() {
    let home = TestDatabase::sqlite();
    let events = [
        conversion("t", Chargeback, 10),
        stating(Stated(u8::MAX), after(1, conversion("t", Approved, 10))),
    ];
    let verdicts = verdict_texts(&home.store(), &block(1, events)).await;
    assert!(verdicts[1].starts_with("refused: "), "{verdicts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_aggregators_fold_all_reports() {
    let home = TestDatabase::postgres();
    let (one, other) = (home.store(), home.store());
    for round in 0..10_u64 {
        let transaction = round.to_string();
        let update = after(20, conversion(&transaction, Approved, 0));
        let first = block(
            10 * round + 1,
            [
                conversion(&transaction, Pending, 10),
                stating(STATUS_ONLY, update),
            ],
        );
        let hold = after(10, conversion(&transaction, Hold, 20));
        let second = block(10 * round + 5, [hold]);
        let (one, other) = tokio::join!(one.verdicts(&first), other.verdicts(&second));
        one.expect("evaluated");
        other.expect("evaluated");
    }
    let states: Vec<_> = (0..10)
        .map(|it| format!("{it} sale approved 20 EUR"))
        .collect();
    assert_eq!(home.fetch_all(STATES).await, states);
}

#[tokio::test]
async fn endless_reports_of_a_sale_are_bounded() {
    let home = TestDatabase::sqlite();
    let store = home.store();
    let same = (1..=150).map(|_| conversion("same", Approved, 1));
    let verdicts = verdict_texts(&store, &block(1, same)).await;
    assert_eq!(verdicts.last().expect("one"), "repeat of 1");
    let kept = "SELECT CAST(COUNT(*) AS TEXT) FROM conversion_reports";
    assert_eq!(home.fetch_all(kept).await, ["100"]);
    let others = (1..=201).map(|number| conversion("other", Approved, number));
    let verdicts = verdict_texts(&store, &block(100, others)).await;
    assert_eq!(verdicts[199], "200 sale approved 200");
    assert_eq!(verdicts[200], "too many");
    assert_eq!(home.fetch_all(kept).await, ["300"]);
}

/// A report of the property test; its place is its node's, in the order of time.
#[derive(Debug, Clone)]
pub(super) struct TestReport {
    node: u16,
    pub(super) seconds: i64,
    kind: ConversionKind,
    kind_name: &'static str,
    status: ConversionStatus,
    minor: i64,
    currency: &'static [u8; 3],
    stated: Stated,
}

pub(super) fn reported() -> impl Strategy<Value = TestReport> {
    let kind = prop_oneof![
        3 => Just((ConversionKind::Sale, "")),
        2 => Just((ConversionKind::Lead, "signup")),
        1 => Just((ConversionKind::Custom, "a")),
        1 => Just((ConversionKind::Custom, "b")),
    ];
    let status = proptest::sample::select(ConversionStatus::ALL);
    let stated = prop_oneof![Just(Stated::ALL), (0..16_u8).prop_map(Stated)];
    let currency = prop_oneof![Just(b"EUR"), Just(b"JPY")];
    // Few different times, so that the place must settle some.
    let values = (
        1..=3_u16,
        0..6_i64,
        kind,
        status,
        0..3_i64,
        currency,
        stated,
    );
    values.prop_map(
        |(node, seconds, (kind, kind_name), status, minor, currency, stated)| TestReport {
            node,
            seconds,
            kind,
            kind_name,
            status,
            minor: minor * 100,
            currency,
            stated,
        },
    )
}

/// Reports in the order of their places, and orders of arrival: sorted, shuffled, and with one node cut off.
fn arrivals() -> impl Strategy<Value = (Vec<TestReport>, Vec<Vec<usize>>)> {
    prop::collection::vec(reported(), 1..9).prop_flat_map(|reports| {
        let sorted: Vec<usize> = (0..reports.len()).collect();
        let (connected, cut_off): (Vec<usize>, Vec<usize>) =
            sorted.iter().partition(|index| reports[**index].node != 1);
        let shuffled = Just(sorted.clone()).prop_shuffle();
        let orders = (shuffled.clone(), shuffled).prop_map(move |(one, other)| {
            let reversed = sorted.iter().rev().copied().collect();
            let last = [connected.clone(), cut_off.clone()].concat();
            vec![sorted.clone(), reversed, last, one, other]
        });
        (Just(reports), orders)
    })
}

impl TestReport {
    pub(super) fn located<'a>(&self, transaction: &'a str, seq: u64) -> LocatedEvent<'a> {
        let event = of_kind(
            conversion(transaction, self.status, self.minor),
            self.kind,
            self.kind_name,
        );
        let event = in_currency(self.currency, after(self.seconds, event));
        let key = LaneKey {
            node: self.node,
            lane: 0,
            journal: self.node.into(),
        };
        located(key, seq, stating(self.stated, event))
    }
}

/// The states of a transaction's conversions in the store, and by the newest rows for ClickHouse.
async fn evaluate_in_order(
    store: &ConversionStore,
    number: u64,
    reports: &[TestReport],
    order: &[usize],
) -> (Vec<String>, Vec<String>) {
    let transaction = number.to_string();
    let mut rows: BTreeMap<(&str, String), Revision> = BTreeMap::new();
    for index in order {
        // Sequences of one transaction differ from those of another one.
        let seq = number * 100 + *index as u64;
        let report = reports[*index].located(&transaction, seq);
        let verdicts = store.verdicts(&[report]).await.expect("evaluated");
        let [verdict] = &verdicts[..] else {
            panic!("one verdict: {verdicts:?}")
        };
        if let Verdict::Revised(revisions) = verdict {
            for it in revisions {
                let name = if it.kind == ConversionKind::Custom {
                    it.kind_name.clone()
                } else {
                    String::new()
                };
                let before = rows.insert((it.kind.as_str(), name), it.clone());
                let number = before.map_or(0, |it| it.revision);
                assert_eq!(it.revision, number + 1, "{}", verdict_text(verdict));
            }
        }
    }
    let shown = rows.iter().filter(|(_, it)| !it.withdrawn);
    let shown = shown.map(|((kind, name), it)| {
        let Money { minor, .. } = it.payout;
        format!(
            "{kind}{name} {} {minor} {}",
            it.status.as_str(),
            it.payout.currency.code()
        )
    });
    (states(store, &transaction).await, shown.collect())
}

async fn states(store: &ConversionStore, transaction: &str) -> Vec<String> {
    let mut tx = store.begin().await.expect("transaction");
    let sql = "SELECT kind || kind_name || ' ' || status || ' ' || CAST(payout_minor AS TEXT) || ' ' || currency \
               FROM conversions WHERE withdrawn = 0 AND transaction_id = $1 ORDER BY kind, kind_name";
    texts(&mut tx, Statement::new(sql).bind(transaction)).await
}

#[test]
fn all_orders_of_arrival_give_the_same_conversions() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let store = ConversionStore::new(Location::File(directory.path().join("store.sqlite")), true);
    let transactions = std::cell::Cell::new(0_u64);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(CASES));
    let held = runner.run(&arrivals(), |(mut reports, orders)| {
        // As the store sorts them, so that the first order is the order of time.
        reports.sort_by_key(|it| (it.seconds, it.node));
        let mut first = None;
        for order in &orders {
            transactions.update(|number| number + 1);
            let judged = evaluate_in_order(&store, transactions.get(), &reports, order);
            let (store, shown) = runtime.block_on(judged);
            prop_assert_eq!(&store, &shown, "rows for ClickHouse differ from the store");
            let first = first.get_or_insert_with(|| store.clone());
            prop_assert_eq!(&store, first, "{:?} of {:#?}", order, reports);
        }
        Ok(())
    });
    held.unwrap_or_else(|error| panic!("{error}"));
}
