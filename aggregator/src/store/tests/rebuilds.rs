//! A store that is rebuilt from ClickHouse goes on as the one before.

use super::history::{TestReport, reported};
use super::refunds::{in_order, other_refund, refund, sale};
use super::{StoreDatabase as _, TestDatabase, block, texts, verdict_texts};
use crate::history::{KnownConversion, Refunds};
use crate::report::{LocatedEvent, Revision, Verdict};
use crate::store::ConversionStore;
use crate::store::rebuild::{self, RebuildSummary};
use domain::{ConversionKind, ConversionStatus, Micros};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sql_store::{Location, Statement};
use std::collections::BTreeMap;
use tracking_events::Event;

use ConversionStatus::{Approved, Hold};

/// Of the property test; each has up to twelve reports.
const CASES: u32 = 96;

/// The newest row of each conversion, as ClickHouse has it.
#[derive(Default)]
struct Rows(BTreeMap<(&'static str, String), KnownConversion>);

impl Rows {
    /// Evaluates reports one after another, and keeps their rows.
    async fn evaluate(&mut self, store: &ConversionStore, reports: &[LocatedEvent<'_>]) {
        for report in reports {
            let verdicts = store.verdicts(std::slice::from_ref(report)).await;
            if let Verdict::Revised(revisions) = &verdicts.expect("evaluated")[0] {
                revisions.iter().for_each(|it| self.add(report, it));
            }
        }
    }

    fn add(&mut self, report: &LocatedEvent<'_>, revision: &Revision) {
        let Event::Conversion(conversion) = &report.event else {
            panic!("only conversions have revisions")
        };
        let custom_kind = match revision.kind {
            ConversionKind::Custom => revision.kind_name.clone(),
            _ => String::new(),
        };
        let key = (revision.kind.as_str(), custom_kind.clone());
        if revision.withdrawn {
            self.0.remove(&key);
            return;
        }
        let known = KnownConversion {
            advertiser: conversion.advertiser.to_owned(),
            click_id: conversion.click.to_string(),
            kind: revision.kind.as_str().to_owned(),
            custom_kind,
            transaction: conversion.transaction.to_owned(),
            epoch: 1,
            revision: revision.revision,
            status: revision.status.as_str().to_owned(),
            payout_minor: revision.payout.minor,
            currency: revision.payout.currency.code().to_owned(),
            refunds: revision.refunds.clone(),
            time: revision.state_time.0.cast_signed(),
        };
        self.0.insert(key, known);
    }

    async fn take_over(&self, store: &ConversionStore) {
        let mut tx = store.begin().await.expect("transaction");
        for known in self.0.values() {
            let now = Micros::now();
            let rebuilt = &mut RebuildSummary::default();
            let done = rebuild::conversion(&mut tx, known, now, false, rebuilt).await;
            done.expect("inserted");
        }
        tx.commit().await.expect("committed");
    }
}

async fn states(store: &ConversionStore, transaction: &str) -> Vec<String> {
    let mut tx = store.begin().await.expect("transaction");
    let sql = "SELECT kind || kind_name || ' ' || status || ' ' || CAST(payout_minor AS TEXT) || ' ' || currency \
               || ' refunded ' || CAST(refunded_minor AS TEXT) || ' last ' || last_refund \
               FROM conversions WHERE withdrawn = 0 AND transaction_id = $1 ORDER BY 1";
    texts(&mut tx, Statement::new(sql).bind(transaction)).await
}

#[tokio::test]
async fn rebuilt_store_knows_earlier_refunds() {
    let known = [sale(Approved, 550), refund(200)];
    let later = [
        // The last refund and the sale again, another refund, and that one again.
        refund(200),
        sale(Approved, 550),
        other_refund(200),
        other_refund(200),
        sale(Approved, 650),
    ];
    let knowing = [
        "repeat of 2",
        "repeat of 2",
        "3 sale approved 150",
        "repeat of 3",
        "4 sale approved 250",
    ];
    // Earlier versions stored no refunds in ClickHouse.
    let unknowing = [
        "3 sale approved 150",
        "4 sale approved 350",
        "5 sale approved 150",
        "repeat of 5",
        "6 sale approved 250",
    ];
    let events = in_order([known.to_vec(), later.to_vec()].concat());
    let (known, later) = events.split_at(known.len());
    let (known, later) = (block(1, known.to_vec()), block(10, later.to_vec()));
    for (is_known, expected) in [(true, knowing), (false, unknowing)] {
        for home in TestDatabase::both() {
            let (lost, rebuilt) = (TestDatabase::sqlite(), home.store());
            let mut rows = Rows::default();
            rows.evaluate(&lost.store(), &known).await;
            for row in rows.0.values_mut().filter(|_| !is_known) {
                row.refunds = Refunds::unknown();
            }
            rows.take_over(&rebuilt).await;
            assert_eq!(verdict_texts(&rebuilt, &later).await, expected);
        }
    }
}

/// A late refund may leave the amount unchanged, and count in the next revision.
#[tokio::test]
async fn refund_that_changes_no_amount_survives() {
    let events = in_order(vec![
        sale(Approved, 100),
        refund(50),
        other_refund(30),
        sale(Hold, 20),
        sale(Approved, 200),
    ]);
    let arrival = [0, 1, 3, 2].map(|at: usize| events[at].clone());
    let (lost, rebuilt) = (TestDatabase::sqlite(), TestDatabase::sqlite());
    let (lost, rebuilt) = (lost.store(), rebuilt.store());
    let mut rows = Rows::default();
    rows.evaluate(&lost, &block(1, arrival)).await;
    rows.take_over(&rebuilt).await;
    let last = block(10, [events[4].clone()]);
    for store in [lost, rebuilt] {
        assert_eq!(verdict_texts(&store, &last).await, ["5 sale approved 120"]);
    }
}

/// A store of an earlier version has all reports: the refunds follow from them without a new revision.
#[tokio::test]
async fn upgraded_store_knows_earlier_refunds() {
    let home = TestDatabase::sqlite();
    let events = in_order(vec![
        sale(Approved, 550),
        refund(200),
        refund(200),
        other_refund(100),
    ]);
    let (before, after) = events.split_at(2);
    verdict_texts(&home.store(), &block(1, before.to_vec())).await;
    home.run("UPDATE conversions SET refunded_minor = 0, last_refund = 'unknown'")
        .await;
    let verdicts = verdict_texts(&home.store(), &block(10, after.to_vec())).await;
    assert_eq!(verdicts, ["repeat of 2", "3 sale approved 250"]);
    let kept = "SELECT CAST(refunded_minor AS TEXT) || ' of ' || last_refund FROM conversions";
    assert_eq!(
        home.fetch_all(kept).await,
        ["300 of 100 EUR sale 9 refunded"]
    );
}

/// Reports that one store evaluated, in the order of their arrival, and later ones.
fn lost_between() -> impl Strategy<Value = (Vec<TestReport>, Vec<TestReport>)> {
    let before = prop::collection::vec(reported(), 1..9);
    let after = prop::collection::vec(reported(), 1..5);
    (before, after).prop_map(|(before, mut after)| {
        after.iter_mut().for_each(|it| it.seconds += 10);
        (before, after)
    })
}

#[test]
fn rebuilt_store_goes_on_exactly_as_the_lost_one() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let store = |name| ConversionStore::new(Location::File(directory.path().join(name)), false);
    let (lost, rebuilt) = (store("lost.sqlite"), store("rebuilt.sqlite"));
    let transactions = std::cell::Cell::new(0_u64);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(CASES));
    let held = runner.run(&lost_between(), |(before, after)| {
        transactions.update(|number| number + 1);
        let number = transactions.get();
        let transaction = number.to_string();
        // Sequences of one transaction differ from those of another one.
        let place = |reports: &[TestReport], first: u64| {
            let numbered = (number * 100 + first..).zip(reports);
            let located = numbered.map(|(seq, it)| it.located(&transaction, seq));
            located.collect::<Vec<_>>()
        };
        let (earlier, later) = (place(&before, 0), place(&after, 50));
        let mut rows = Rows::default();
        runtime.block_on(async {
            rows.evaluate(&lost, &earlier).await;
            rows.take_over(&rebuilt).await;
        });
        for report in &later {
            let report = std::slice::from_ref(report);
            let (expected, found) = runtime.block_on(async {
                lost.verdicts(report).await.expect("evaluated");
                rebuilt.verdicts(report).await.expect("evaluated");
                (
                    states(&lost, &transaction).await,
                    states(&rebuilt, &transaction).await,
                )
            });
            prop_assert_eq!(found, expected, "{:#?} then {:#?}", before, after);
        }
        Ok(())
    });
    held.unwrap_or_else(|error| panic!("{error}"));
}
