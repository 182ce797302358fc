//! Conversions: how each stands follows from all reports of its sale, sorted by when they were reported.
//!
//! A sale is what one advertiser reports of one click under one transaction number; it may have conversions of several
//! kinds. Each report that changes how they stand, also a late one, adds revisions; numbers of revisions only grow.

mod history;
mod reports;

use super::sql::{Row, Tx, Value};
use super::{ConversionStoreError, clicks, identity};
use crate::report::{LocatedEvent, Refunds, Revision, Unchanged, Verdict};
use domain::{ConversionKind, ConversionStatus, Currency, Micros, Money};
use history::{Fate, FoldedConversion, FoldedSale, SaleReport, State, fold, redundant_near};
use std::collections::BTreeMap;
use tracking_events::{Conversion, Stated};

/// Reports of one sale, identical ones in a row apart. Each is read again for the next one.
const MAX_REPORTS: usize = 200;

/// The verdict on a report, and which revisions of which conversions it added.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) verdict: Verdict,
    pub(super) revised: Vec<(String, u32)>,
}

impl Evaluated {
    const fn unchanged(verdict: Verdict) -> Self {
        Self {
            verdict,
            revised: Vec::new(),
        }
    }
}

/// The sale that a report is about.
struct Sale<'a> {
    advertiser: &'a str,
    click: String,
    transaction: &'a str,
    /// The transaction, where the report names none.
    found_transaction: Option<String>,
    hash: String,
}

/// A conversion as it stood before the report.
struct StandingConversion {
    kind: ConversionKind,
    kind_name: String,
    revision: u32,
    state: State,
    refunds: Refunds,
    withdrawn: bool,
    /// When the report was made that brought it into its state.
    state_time: Micros,
}

/// Conversions of a sale by their identity.
type Standing = BTreeMap<String, StandingConversion>;

impl StandingConversion {
    /// Whether it stands as the reports say. Of refunds earlier builds kept nothing here.
    fn is(&self, folded: &FoldedConversion) -> bool {
        let has_same_refunds = self.refunds.is_unknown() || self.refunds == folded.refunds;
        !self.withdrawn && self.state == folded.state && has_same_refunds
    }
}

/// A new revision of a conversion.
struct Revised {
    identity: String,
    revision: Revision,
}

/// Adds a report to its sale, and brings the sale's conversions up to date.
pub(super) async fn judge(
    tx: &mut Tx,
    placed: &LocatedEvent<'_>,
    report: &Conversion<'_>,
    signature: Option<String>,
    now: Micros,
) -> Result<Evaluated, ConversionStoreError> {
    let mut sale = Sale::of(report);
    clicks::lock(tx, &sale.click, now).await?;
    if report.transaction.is_empty() && report.status.takes_back() {
        sale.find(tx, report).await?;
    }
    let standing = standing(tx, &sale).await?;
    let mut history = reports::load(tx, &sale.hash).await?;
    adopt(tx, &sale, &standing, &mut history).await?;
    let added = SaleReport::of(placed, report, signature, now);
    if let Some(index) = history.iter().position(|it| it.has_signature_of(&added)) {
        if history[index].order < added.order {
            let folded = fold(&history);
            let repeat = said(&sale, &folded, index, &standing, false);
            return Ok(Evaluated::unchanged(Verdict::Unchanged(repeat)));
        }
        // The copy arrived first: it counts no longer.
        reports::forget(tx, &history.remove(index)).await?;
    }
    if history.len() >= MAX_REPORTS {
        return Ok(Evaluated::unchanged(too_many(&sale)));
    }
    let index = history.partition_point(|it| it.order < added.order);
    history.insert(index, added);
    let folded = fold(&history);
    keep(tx, &sale, &history, index).await?;
    let verdict_if_unchanged = unchanged(&sale, &folded, index, &standing);
    let own = folded.effects[index].conversion;
    let mut revised = changes(&sale, &folded, standing);
    let own = sale.identity(&folded.conversions[own]);
    revised.sort_by_key(|it| it.identity != own);
    for it in &revised {
        revise(tx, &sale, it).await?;
    }
    let numbers = revised
        .iter()
        .map(|it| (it.identity.clone(), it.revision.revision));
    let numbers: Vec<_> = numbers.collect();
    Ok(Evaluated {
        verdict: if revised.is_empty() {
            verdict_if_unchanged
        } else {
            Verdict::Revised(revised.into_iter().map(|it| it.revision).collect())
        },
        revised: numbers,
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

    /// Turns to the only sale of the click where the report that takes one back names no transaction: the only one of
    /// its kind, if it names that. Of several it can't be known which is meant.
    async fn find(
        &mut self,
        tx: &mut Tx,
        report: &Conversion<'_>,
    ) -> Result<(), ConversionStoreError> {
        let kind = match report.stated.contains(Stated::KIND) {
            true => report.kind.as_str(),
            false => "",
        };
        let known = tx
            .fetch_all(
                "SELECT DISTINCT transaction_id, sale FROM conversions \
                 WHERE click_id = $1 AND advertiser = $2 AND withdrawn = 0 \
                 AND ($3 = '' OR (kind = $3 AND kind_name = $4))",
                &[
                    Value::Text(&self.click),
                    Value::Text(self.advertiser),
                    Value::Text(kind),
                    Value::Text(history::custom_name(report.kind, report.kind_name)),
                ],
            )
            .await?;
        if let [only] = &known[..] {
            self.hash = only.text(1)?;
            self.found_transaction = Some(only.text(0)?);
        }
        Ok(())
    }

    fn transaction(&self) -> &str {
        self.found_transaction
            .as_deref()
            .unwrap_or(self.transaction)
    }

    /// Without a number of its own a conversion is there once for its advertiser, click and kind.
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

/// Makes the history lead to the conversions that stand. In a store that was rebuilt from ClickHouse, or restored from a
/// copy and then brought up to date, reports are missing: what they led to counts as one more report.
async fn adopt(
    tx: &mut Tx,
    sale: &Sale<'_>,
    standing: &Standing,
    history: &mut Vec<SaleReport>,
) -> Result<(), ConversionStoreError> {
    let folded = fold(&*history);
    let newest = history.last().map_or(Micros(0), |it| it.order.time);
    for (identity, it) in standing.iter().filter(|(_, it)| !it.withdrawn) {
        let leads_to_it =
            |folded: &FoldedConversion| it.is(folded) && sale.identity(folded) == *identity;
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

/// Stores the report at `index`. In a crowded sale identical reports in a row give way but for the first and the last:
/// that one in between matters only if other reports arrive both before and after it.
async fn keep(
    tx: &mut Tx,
    sale: &Sale<'_>,
    history: &[SaleReport],
    index: usize,
) -> Result<(), ConversionStoreError> {
    let is_crowded = history.len() > MAX_REPORTS / 2;
    match redundant_near(history, index).filter(|_| is_crowded) {
        Some(redundant) if redundant == index => return Ok(()),
        Some(redundant) => reports::forget(tx, &history[redundant]).await?,
        None => {}
    }
    reports::insert(tx, &sale.hash, &history[index]).await
}

/// The conversions that stand otherwise than they did.
fn changes(sale: &Sale<'_>, folded: &FoldedSale, mut standing: Standing) -> Vec<Revised> {
    let mut revised = Vec::new();
    for conversion in &folded.conversions {
        let identity = sale.identity(conversion);
        let before = standing.remove(&identity);
        if !before.as_ref().is_some_and(|it| it.is(conversion)) {
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
            revised.push(Revised { identity, revision });
        }
    }
    let gone = standing.into_iter().filter(|(_, it)| !it.withdrawn);
    revised.extend(gone.map(|(identity, it)| Revised {
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
    revised
}

/// The verdict on the report at `index` if all conversions stand as they did.
fn unchanged(sale: &Sale<'_>, folded: &FoldedSale, index: usize, standing: &Standing) -> Verdict {
    let effect = &folded.effects[index];
    let conversion = &folded.conversions[effect.conversion];
    let is_late = !folded.is_newest(index);
    if let (Fate::Refused { before }, false) = (effect.fate, is_late) {
        return Verdict::BadTransition(format!(
            "{} can't become {} (click {}, {} {:?})",
            before.as_str(),
            effect.said.status.as_str(),
            sale.click,
            conversion.kind.as_str(),
            sale.transaction()
        ));
    }
    Verdict::Unchanged(said(sale, folded, index, standing, is_late))
}

/// What the report at `index` says of its conversion.
fn said(
    sale: &Sale<'_>,
    folded: &FoldedSale,
    index: usize,
    standing: &Standing,
    is_late: bool,
) -> Unchanged {
    let effect = &folded.effects[index];
    let conversion = &folded.conversions[effect.conversion];
    let revision = standing.get(&sale.identity(conversion));
    Unchanged {
        is_late,
        kind: conversion.kind,
        kind_name: conversion.kind_name.clone(),
        revision: revision.map_or(0, |it| it.revision),
        status: effect.said.status,
        payout: effect.said.payout,
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

async fn standing(tx: &mut Tx, sale: &Sale<'_>) -> Result<Standing, ConversionStoreError> {
    let lines = tx
        .fetch_all(
            "SELECT c.identity, c.kind, c.kind_name, c.revision, c.status, c.payout_minor, c.currency, c.withdrawn, \
             COALESCE(r.time, 0), c.refunded_minor, c.last_refund FROM conversions c LEFT JOIN conversion_revisions r \
             ON r.identity = c.identity AND r.revision = c.revision WHERE c.sale = $1",
            &[Value::Text(&sale.hash)],
        )
        .await?;
    let conversions = lines.iter();
    conversions
        .map(|line| Ok((line.text(0)?, StandingConversion::read(line)?)))
        .collect()
}

impl StandingConversion {
    fn read(line: &Row) -> Result<Self, ConversionStoreError> {
        let (kind, status) = (line.text(1)?, line.text(4)?);
        Ok(Self {
            kind: ConversionKind::from_name(&kind).ok_or(ConversionStoreError::Foreign(kind))?,
            kind_name: line.text(2)?,
            revision: u32::try_from(line.number(3)?).unwrap_or(u32::MAX),
            state: State {
                status: ConversionStatus::from_name(&status)
                    .ok_or(ConversionStoreError::Foreign(status))?,
                payout: money(line.number(5)?, &line.text(6)?),
            },
            refunds: Refunds {
                minor: line.number(9)?,
                last: line.text(10)?,
            },
            withdrawn: line.number(7)? != 0,
            state_time: Micros(line.number(8)?.cast_unsigned()),
        })
    }
}

/// Stores a revision as the conversion's newest and in the history.
async fn revise(
    tx: &mut Tx,
    sale: &Sale<'_>,
    revised: &Revised,
) -> Result<(), ConversionStoreError> {
    let Revised { identity, revision } = revised;
    let kind_name = match revision.kind {
        ConversionKind::Custom => revision.kind_name.as_str(),
        _ => "",
    };
    tx.execute(
        "INSERT INTO conversions (identity, advertiser, click_id, kind, kind_name, transaction_id, sale, revision, \
         status, payout_minor, currency, withdrawn, refunded_minor, last_refund) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
         ON CONFLICT (identity) DO UPDATE SET revision = excluded.revision, status = excluded.status, \
         payout_minor = excluded.payout_minor, currency = excluded.currency, withdrawn = excluded.withdrawn, \
         refunded_minor = excluded.refunded_minor, last_refund = excluded.last_refund",
        &[
            Value::Text(identity),
            Value::Text(sale.advertiser),
            Value::Text(&sale.click),
            Value::Text(revision.kind.as_str()),
            Value::Text(kind_name),
            Value::Text(sale.transaction()),
            Value::Text(&sale.hash),
            Value::Number(revision.revision.into()),
            Value::Text(revision.status.as_str()),
            Value::Number(revision.payout.minor),
            Value::Text(revision.payout.currency.code()),
            Value::Number(revision.withdrawn.into()),
            Value::Number(revision.refunds.minor),
            Value::Text(&revision.refunds.last),
        ],
    )
    .await?;
    tx.execute(
        "INSERT INTO conversion_revisions (identity, revision, status, payout_minor, currency, time) \
         VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            Value::Text(identity),
            Value::Number(revision.revision.into()),
            Value::Text(revision.status.as_str()),
            Value::Number(revision.payout.minor),
            Value::Text(revision.payout.currency.code()),
            Value::Number(revision.state_time.0.cast_signed()),
        ],
    )
    .await?;
    Ok(())
}

/// An amount as the tables keep it: a currency that is none has no letters.
fn money(minor: i64, currency: &str) -> Money {
    let currency = Currency::from_stored(currency);
    Money { minor, currency }
}
