//! A store that is rebuilt from ClickHouse goes on as the one before.

use super::history::{Reported, reported};
use super::refunds::{in_order, other_refund, refund, sale};
use super::{Home, block, judged, texts};
use crate::history::{KnownConversion, Refunds};
use crate::report::{LocatedEvent, Revision, Verdict};
use crate::store::ConversionStore;
use crate::store::rebuild::{self, Rebuilt};
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
    async fn judge(&mut self, store: &ConversionStore, reports: &[LocatedEvent<'_>]) {
        for report in reports {
            let verdicts = store.judge(std::slice::from_ref(report)).await;
            if let Verdict::Revised(revisions) = &verdicts.expect("judged")[0] {
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
        let mut tx = store.begin().await.expect("begun");
        for known in self.0.values() {
            let now = Micros::now();
            let rebuilt = &mut Rebuilt::default();
            let done = rebuild::conversion(&mut tx, known, now, false, rebuilt).await;
            done.expect("taken over");
        }
        tx.commit().await.expect("committed");
    }
}

async fn states(store: &ConversionStore, transaction: &str) -> Vec<String> {
    let mut tx = store.begin().await.expect("begun");
    let sql = "SELECT kind || kind_name || ' ' || status || ' ' || CAST(payout_minor AS TEXT) || ' ' || currency \
               || ' refunded ' || CAST(refunded_minor AS TEXT) || ' last ' || last_refund \
               FROM conversions WHERE withdrawn = 0 AND transaction_id = $1 ORDER BY 1";
    texts(&mut tx, Statement::new(sql).bind(transaction)).await
}

#[tokio::test]
async fn rebuilt_store_knows_what_was_refunded() {
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
    // An earlier build kept nothing of refunds in ClickHouse.
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
        for home in Home::both() {
            let (lost, rebuilt) = (Home::sqlite(), home.store());
            let mut rows = Rows::default();
            rows.judge(&lost.store(), &known).await;
            for row in rows.0.values_mut().filter(|_| !is_known) {
                row.refunds = Refunds::unknown();
            }
            rows.take_over(&rebuilt).await;
            assert_eq!(judged(&rebuilt, &later).await, expected);
        }
    }
}

/// A late refund may leave the amount as it stands, and count in the next one.
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
    let (lost, rebuilt) = (Home::sqlite(), Home::sqlite());
    let (lost, rebuilt) = (lost.store(), rebuilt.store());
    let mut rows = Rows::default();
    rows.judge(&lost, &block(1, arrival)).await;
    rows.take_over(&rebuilt).await;
    let last = block(10, [events[4].clone()]);
    for store in [lost, rebuilt] {
        assert_eq!(judged(&store, &last).await, ["5 sale approved 120"]);
    }
}

/// A store of an earlier build has all reports: it needs no new revision to know what was refunded.
#[tokio::test]
async fn upgraded_store_knows_what_was_refunded() {
    let home = Home::sqlite();
    let events = in_order(vec![
        sale(Approved, 550),
        refund(200),
        refund(200),
        other_refund(100),
    ]);
    let (before, after) = events.split_at(2);
    judged(&home.store(), &block(1, before.to_vec())).await;
    home.run("UPDATE conversions SET refunded_minor = 0, last_refund = 'unknown'")
        .await;
    let verdicts = judged(&home.store(), &block(10, after.to_vec())).await;
    assert_eq!(verdicts, ["repeat of 2", "3 sale approved 250"]);
    let kept = "SELECT CAST(refunded_minor AS TEXT) || ' of ' || last_refund FROM conversions";
    assert_eq!(
        home.fetch_all(kept).await,
        ["300 of 100 EUR sale 9 refunded"]
    );
}

/// Reports that one store evaluated, in the order of their arrival, and later ones.
fn lost_between() -> impl Strategy<Value = (Vec<Reported>, Vec<Reported>)> {
    let before = prop::collection::vec(reported(), 1..9);
    let after = prop::collection::vec(reported(), 1..5);
    (before, after).prop_map(|(before, mut after)| {
        after.iter_mut().for_each(|it| it.seconds += 10);
        (before, after)
    })
}

#[test]
fn rebuilt_store_goes_on_exactly_as_the_lost_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = |name| ConversionStore::new(Location::File(directory.path().join(name)), false);
    let (lost, rebuilt) = (store("lost.sqlite"), store("rebuilt.sqlite"));
    let transactions = std::cell::Cell::new(0_u64);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(CASES));
    let held = runner.run(&lost_between(), |(before, after)| {
        transactions.update(|number| number + 1);
        let number = transactions.get();
        let transaction = number.to_string();
        // Sequences of one transaction differ from those of another one.
        let place = |reports: &[Reported], first: u64| {
            let numbered = (number * 100 + first..).zip(reports);
            let placed = numbered.map(|(seq, it)| it.placed(&transaction, seq));
            placed.collect::<Vec<_>>()
        };
        let (earlier, later) = (place(&before, 0), place(&after, 50));
        let mut rows = Rows::default();
        runtime.block_on(async {
            rows.judge(&lost, &earlier).await;
            rows.take_over(&rebuilt).await;
        });
        for report in &later {
            let report = std::slice::from_ref(report);
            let (expected, found) = runtime.block_on(async {
                lost.judge(report).await.expect("judged");
                rebuilt.judge(report).await.expect("judged");
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
