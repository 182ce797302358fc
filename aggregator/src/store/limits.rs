//! Limits for the reports of each node that are proven by a shared secret alone.

use super::ConversionStoreError;
use crate::verification::{Proof, UnsignedLimits};
use domain::Micros;
use sql_store::{Statement, Transaction};
use tracking_events::Conversion;

/// The name of the period in which reports are counted.
const MINUTE: &str = "minute";
const MINUTE_MICROS: u64 = 60_000_000;
const DAY_MICROS: u64 = 86_400_000_000;
/// An edge that was cut off reports days of sales at once: one day accepts those of at most this many days.
const BACKLOG_DAYS: i64 = 7;
/// Periods are kept this long: minutes by when a report was made, days also by when it arrived.
const MINUTES_KEPT: i64 = 10 * 24 * 60;
const DAYS_KEPT: i64 = 400;

/// A period in which reports of a node are counted.
struct Period<'a> {
    name: &'static str,
    number: i64,
    currency: &'a str,
    adds: i64,
    limit: i64,
    kept: i64,
}

/// Counts a report, unless it exceeds a limit of its node; returns the exceeded limit.
pub(super) async fn charge(
    tx: &mut Transaction,
    node: u16,
    report: &Conversion<'_>,
    limits: &UnsignedLimits,
    now: Micros,
) -> Result<Option<&'static str>, ConversionStoreError> {
    let periods = periods(report, limits, now);
    for period in &periods {
        let total = total(tx, node, period).await?;
        if total.saturating_add(period.adds) > period.limit {
            return Ok(Some(period.limit_text()));
        }
    }
    for period in &periods {
        add(tx, node, period).await?;
    }
    Ok(None)
}

fn periods<'a>(
    report: &'a Conversion<'_>,
    limits: &UnsignedLimits,
    now: Micros,
) -> [Period<'a>; 3] {
    let minor_per_day = limits.minor_per_day(report.payout.currency);
    let number = |time: Micros, length| i64::try_from(time.0 / length).unwrap_or(i64::MAX);
    let day = |name, time, limit| Period {
        name,
        number: number(time, DAY_MICROS),
        currency: report.payout.currency.code(),
        adds: Proof::charged_minor(report),
        limit,
        kept: DAYS_KEPT,
    };
    [
        Period {
            name: MINUTE,
            number: number(report.time, MINUTE_MICROS),
            currency: "",
            adds: 1,
            limit: i64::try_from(limits.reports_per_minute).unwrap_or(i64::MAX),
            kept: MINUTES_KEPT,
        },
        day("day", report.time, minor_per_day),
        day(
            "arrival day",
            now,
            minor_per_day.saturating_mul(BACKLOG_DAYS),
        ),
    ]
}

impl Period<'_> {
    fn limit_text(&self) -> &'static str {
        match self.name {
            MINUTE => "more reports without a signature in a minute than unsigned_per_minute",
            _ => "a higher amount without a signature in a day than unsigned_amount_per_day",
        }
    }
}

async fn total(
    tx: &mut Transaction,
    node: u16,
    period: &Period<'_>,
) -> Result<i64, ConversionStoreError> {
    let select = Statement::new(
        "SELECT total FROM unsigned_reports WHERE node = $1 AND period = $2 AND number = $3 AND currency = $4",
    );
    let select = select.bind(node).bind(period.name).bind(period.number);
    let total: Option<i64> = tx.fetch_optional(select.bind(period.currency)).await?;
    Ok(total.unwrap_or(0))
}

async fn add(
    tx: &mut Transaction,
    node: u16,
    period: &Period<'_>,
) -> Result<(), ConversionStoreError> {
    let insert = Statement::insert(
        "unsigned_reports",
        [
            ("node", node.into()),
            ("period", period.name.into()),
            ("number", period.number.into()),
            ("currency", period.currency.into()),
            ("total", period.adds.into()),
        ],
    );
    let add = insert.push(
        " ON CONFLICT (node, period, number, currency) \
         DO UPDATE SET total = unsigned_reports.total + excluded.total",
    );
    tx.execute(add).await?;
    let delete = "DELETE FROM unsigned_reports WHERE node = $1 AND period = $2 AND number < $3";
    let delete = Statement::new(delete).bind(node).bind(period.name);
    let oldest = period.number.saturating_sub(period.kept);
    tx.execute(delete.bind(oldest)).await?;
    Ok(())
}
