//! Conversions: the state of each follows from all reports of its sale, sorted by report time.
//!
//! A sale is one advertiser's transaction after one click; it may have conversions of several kinds. Each report that
//! changes their states, also a late one, adds revisions. Revision numbers only grow.

mod history;
mod reports;

use super::{ConversionStoreError, clicks, identity};
use crate::report::{LocatedEvent, Refunds, Revision, Unchanged, Verdict};
use domain::{ConversionKind, ConversionStatus, Micros, Money};
use history::{EffectKind, FoldedConversion, FoldedSale, SaleReport, State, fold, redundant_near};
use sql_store::{Field, Row, SqlError, Statement, Transaction, typed_row};
use std::collections::BTreeMap;
use tracking_events::{Conversion, Stated};

/// The maximum number of stored reports of one sale. All of them are read again for each new one.
const MAX_REPORTS: usize = 200;

/// The verdict on a report, and the revisions that it added, each with its conversion.
#[derive(Debug)]
pub(super) struct ReportOutcome {
    pub(super) verdict: Verdict,
    pub(super) revisions: Vec<(String, u32)>,
}

impl ReportOutcome {
    const fn unchanged(verdict: Verdict) -> Self {
        Self {
            verdict,
            revisions: Vec::new(),
        }
    }
}

/// The sale of a report.
struct Sale<'a> {
    advertiser: &'a str,
    click: String,
    transaction: &'a str,
    /// The transaction that was found for a report without one.
    found_transaction: Option<String>,
    hash: String,
}

typed_row! {
    /// A sale of a click.
    struct KnownSale {
        transaction_id: String,
        sale: String,
    }
}

typed_row! {
    /// A conversion before the report.
    struct StoredConversion {
        identity: String,
        kind: ConversionKind,
        kind_name: String,
        revision: u32,
        state: State,
        refunds: Refunds,
        withdrawn: bool,
        /// The time of the report that led to its state.
        state_time: Micros,
    }
}

impl Field for Refunds {
    fn read(row: &Row, _: &str) -> Result<Self, SqlError> {
        Ok(Self {
            minor: Field::read(row, "refunded_minor")?,
            last: Field::read(row, "last_refund")?,
        })
    }
}

/// Conversions of a sale by their identity.
type StoredConversions = BTreeMap<String, StoredConversion>;

impl StoredConversion {
    /// Whether its state is that of the folded reports. Earlier versions stored no refunds.
    fn matches(&self, folded: &FoldedConversion) -> bool {
        let has_same_refunds = self.refunds.is_unknown() || self.refunds == folded.refunds;
        !self.withdrawn && self.state == folded.state && has_same_refunds
    }
}

/// A new revision of a conversion.
struct NewRevision {
    identity: String,
    revision: Revision,
}

/// Adds a report to its sale and updates the sale's conversions.
pub(super) async fn evaluate(
    tx: &mut Transaction,
    located: &LocatedEvent<'_>,
    report: &Conversion<'_>,
    signature: Option<String>,
    now: Micros,
) -> Result<ReportOutcome, ConversionStoreError> {
    let mut sale = Sale::of(report);
    clicks::lock(tx, &sale.click, now).await?;
    if report.transaction.is_empty() && report.status.takes_back() {
        sale.find_transaction(tx, report).await?;
    }
    let stored = stored_conversions(tx, &sale).await?;
    let mut history = reports::load(tx, &sale.hash).await?;
    adopt(tx, &sale, &stored, &mut history).await?;
    let added = SaleReport::of(located, report, signature, now);
    if let Some(index) = history.iter().position(|it| it.has_signature_of(&added)) {
        if history[index].order < added.order {
            let folded = fold(&history);
            let repeat = unchanged(&sale, &folded, index, &stored, false);
            return Ok(ReportOutcome::unchanged(Verdict::Unchanged(repeat)));
        }
        // The copy arrived before its original and is replaced by it.
        reports::delete(tx, &history.remove(index)).await?;
    }
    if history.len() >= MAX_REPORTS {
        return Ok(ReportOutcome::unchanged(too_many(&sale)));
    }
    let index = history.partition_point(|it| it.order < added.order);
    history.insert(index, added);
    let folded = fold(&history);
    store_report(tx, &sale, &history, index).await?;
    let verdict_if_unchanged = unchanged_verdict(&sale, &folded, index, &stored);
    let own = folded.effects[index].conversion;
    let mut revisions = new_revisions(&sale, &folded, stored);
    let own = sale.identity(&folded.conversions[own]);
    revisions.sort_by_key(|it| it.identity != own);
    for it in &revisions {
        store_revision(tx, &sale, it).await?;
    }
    let numbers = revisions
        .iter()
        .map(|it| (it.identity.clone(), it.revision.revision));
    let numbers: Vec<_> = numbers.collect();
    Ok(ReportOutcome {
        verdict: if revisions.is_empty() {
            verdict_if_unchanged
        } else {
            Verdict::Revised(revisions.into_iter().map(|it| it.revision).collect())
        },
        revisions: numbers,
    })
}

impl<'a> Sale<'a> {
    fn of(report: &Conversion<'a>) -> Self {
        let click = report.click.to_string();
        Self {
            advertiser: report.advertiser,
            hash: identity(&[report.advertiser, &click, report.transaction]),
            click,
            transaction: report.transaction,
            found_transaction: None,
        }
    }

    /// Finds the transaction of a reversal that names none: the click's only sale, or its only one of the stated kind.
    /// If there are several, none is chosen.
    async fn find_transaction(
        &mut self,
        tx: &mut Transaction,
        report: &Conversion<'_>,
    ) -> Result<(), ConversionStoreError> {
        let select = Statement::new(
            "SELECT DISTINCT transaction_id, sale FROM conversions \
             WHERE click_id = $1 AND advertiser = $2 AND withdrawn = 0",
        );
        let mut select = select.bind(&self.click).bind(self.advertiser);
        if report.stated.contains(Stated::KIND) {
            let name = history::custom_name(report.kind, report.kind_name);
            select = select.push(" AND kind = ").push_bind(report.kind);
            select = select.push(" AND kind_name = ").push_bind(name);
        }
        let mut known: Vec<KnownSale> = tx.fetch_all(select).await?;
        if known.len() == 1 {
            let only = known.remove(0);
            self.hash = only.sale;
            self.found_transaction = Some(only.transaction_id);
        }
        Ok(())
    }

    fn transaction(&self) -> &str {
        self.found_transaction
            .as_deref()
            .unwrap_or(self.transaction)
    }

    /// The key of a conversion. Without a transaction there is one conversion for each advertiser, click and kind.
    fn identity(&self, conversion: &FoldedConversion) -> String {
        identity(&[
            self.advertiser,
            &self.click,
            conversion.kind.as_str(),
            conversion.custom_name(),
            self.transaction(),
        ])
    }
}

/// Completes the history, so that it leads to the stored conversions. Reports are missing in a store that was rebuilt
/// from ClickHouse, or restored from a copy and then updated. The state that they led to is added as one report.
async fn adopt(
    tx: &mut Transaction,
    sale: &Sale<'_>,
    stored: &StoredConversions,
    history: &mut Vec<SaleReport>,
) -> Result<(), ConversionStoreError> {
    let folded = fold(&*history);
    let newest = history.last().map_or(Micros(0), |it| it.order.time);
    for (identity, it) in stored.iter().filter(|(_, it)| !it.withdrawn) {
        let leads_to_it =
            |folded: &FoldedConversion| it.matches(folded) && sale.identity(folded) == *identity;
        if !folded.conversions.iter().any(leads_to_it) {
            let kind = (it.kind, it.kind_name.as_str());
            let time = it.state_time.max(newest);
            let refunds = it.refunds.clone().if_known();
            let report = SaleReport::adopted(identity, time, kind, it.state, refunds);
            reports::insert(tx, &sale.hash, &report).await?;
            history.push(report);
        }
    }
    history.sort_by(|one, other| one.order.cmp(&other.order));
    Ok(())
}

/// Stores the report at `index`. If the sale has many reports, of identical ones in a row only the first and the last
/// are kept: see [`redundant_near`].
async fn store_report(
    tx: &mut Transaction,
    sale: &Sale<'_>,
    history: &[SaleReport],
    index: usize,
) -> Result<(), ConversionStoreError> {
    let has_many = history.len() > MAX_REPORTS / 2;
    match redundant_near(history, index).filter(|_| has_many) {
        Some(redundant) if redundant == index => return Ok(()),
        Some(redundant) => reports::delete(tx, &history[redundant]).await?,
        None => {}
    }
    reports::insert(tx, &sale.hash, &history[index]).await
}

/// The revisions of conversions whose state changed.
fn new_revisions(
    sale: &Sale<'_>,
    folded: &FoldedSale,
    mut stored: StoredConversions,
) -> Vec<NewRevision> {
    let mut revisions = Vec::new();
    for conversion in &folded.conversions {
        let identity = sale.identity(conversion);
        let before = stored.remove(&identity);
        if !before.as_ref().is_some_and(|it| it.matches(conversion)) {
            let revision = Revision {
                kind: conversion.kind,
                kind_name: conversion.kind_name.clone(),
                revision: before.map_or(1, |it| it.revision.saturating_add(1)),
                status: conversion.state.status,
                payout: conversion.state.payout,
                refunds: conversion.refunds.clone(),
                state_time: conversion.state_time,
                withdrawn: false,
                found_transaction: sale.found_transaction.clone(),
            };
            revisions.push(NewRevision { identity, revision });
        }
    }
    let withdrawn = stored.into_iter().filter(|(_, it)| !it.withdrawn);
    revisions.extend(withdrawn.map(|(identity, it)| NewRevision {
        identity,
        revision: Revision {
            kind: it.kind,
            kind_name: it.kind_name,
            revision: it.revision.saturating_add(1),
            status: ConversionStatus::Rejected,
            payout: Money {
                minor: 0,
                ..it.state.payout
            },
            refunds: Refunds::default(),
            state_time: it.state_time,
            withdrawn: true,
            found_transaction: sale.found_transaction.clone(),
        },
    }));
    revisions
}

/// The verdict on the report at `index` if it changed no conversion.
fn unchanged_verdict(
    sale: &Sale<'_>,
    folded: &FoldedSale,
    index: usize,
    stored: &StoredConversions,
) -> Verdict {
    let effect = &folded.effects[index];
    let conversion = &folded.conversions[effect.conversion];
    let is_late = !folded.is_newest(index);
    if let (EffectKind::Refused { before }, false) = (effect.kind, is_late) {
        return Verdict::BadTransition(format!(
            "{} can't become {} (click {}, {} {:?})",
            before.as_str(),
            effect.reported.status.as_str(),
            sale.click,
            conversion.kind.as_str(),
            sale.transaction()
        ));
    }
    Verdict::Unchanged(unchanged(sale, folded, index, stored, is_late))
}

/// The state in the report at `index`, with the newest revision of its conversion.
fn unchanged(
    sale: &Sale<'_>,
    folded: &FoldedSale,
    index: usize,
    stored: &StoredConversions,
    is_late: bool,
) -> Unchanged {
    let effect = &folded.effects[index];
    let conversion = &folded.conversions[effect.conversion];
    let revision = stored.get(&sale.identity(conversion));
    Unchanged {
        is_late,
        kind: conversion.kind,
        kind_name: conversion.kind_name.clone(),
        revision: revision.map_or(0, |it| it.revision),
        status: effect.reported.status,
        payout: effect.reported.payout,
        found_transaction: sale.found_transaction.clone(),
    }
}

fn too_many(sale: &Sale<'_>) -> Verdict {
    Verdict::TooManyReports(format!(
        "a sale may be reported {MAX_REPORTS} times, each time differently (click {}, {:?})",
        sale.click,
        sale.transaction()
    ))
}

async fn stored_conversions(
    tx: &mut Transaction,
    sale: &Sale<'_>,
) -> Result<StoredConversions, ConversionStoreError> {
    let select = Statement::new(
        "SELECT c.identity, c.kind, c.kind_name, c.revision, c.status, c.payout_minor, c.currency, c.withdrawn, \
         COALESCE(r.time, 0) AS state_time, c.refunded_minor, c.last_refund \
         FROM conversions c LEFT JOIN conversion_revisions r \
         ON r.identity = c.identity AND r.revision = c.revision WHERE c.sale = $1",
    );
    let conversions: Vec<StoredConversion> = tx.fetch_all(select.bind(&sale.hash)).await?;
    let conversions = conversions.into_iter();
    Ok(conversions.map(|it| (it.identity.clone(), it)).collect())
}

/// Stores a revision as the conversion's newest and in its history.
async fn store_revision(
    tx: &mut Transaction,
    sale: &Sale<'_>,
    new: &NewRevision,
) -> Result<(), ConversionStoreError> {
    let NewRevision { identity, revision } = new;
    let insert = Statement::insert(
        "conversions",
        [
            ("identity", identity.into()),
            ("advertiser", sale.advertiser.into()),
            ("click_id", (&sale.click).into()),
            ("kind", revision.kind.into()),
            (
                "kind_name",
                history::custom_name(revision.kind, &revision.kind_name).into(),
            ),
            ("transaction_id", sale.transaction().into()),
            ("sale", (&sale.hash).into()),
            ("revision", revision.revision.into()),
            ("status", revision.status.into()),
            ("payout_minor", revision.payout.minor.into()),
            ("currency", revision.payout.currency.into()),
            ("withdrawn", revision.withdrawn.into()),
            ("refunded_minor", revision.refunds.minor.into()),
            ("last_refund", (&revision.refunds.last).into()),
        ],
    );
    let upsert = insert.push(
        " ON CONFLICT (identity) DO UPDATE SET revision = excluded.revision, status = excluded.status, \
         payout_minor = excluded.payout_minor, currency = excluded.currency, withdrawn = excluded.withdrawn, \
         refunded_minor = excluded.refunded_minor, last_refund = excluded.last_refund",
    );
    tx.execute(upsert).await?;
    tx.execute(Statement::insert(
        "conversion_revisions",
        [
            ("identity", identity.into()),
            ("revision", revision.revision.into()),
            ("status", revision.status.into()),
            ("payout_minor", revision.payout.minor.into()),
            ("currency", revision.payout.currency.into()),
            ("time", revision.state_time.into()),
        ],
    ))
    .await?;
    Ok(())
}
