//! How much each node has reported that rests on a shared secret alone.

use super::ConversionStoreError;
use super::sql::{Tx, Value};
use crate::verification::{Proof, UnsignedLimits};
use domain::Micros;
use tracking_events::Conversion;

/// The name of the period in which reports are counted.
const MINUTE: &str = "minute";
const MINUTE_MICROS: u64 = 60_000_000;
const DAY_MICROS: u64 = 86_400_000_000;
/// An edge that was cut off reports days of sales at once: in one day at most those of so many days are taken.
const BACKLOG_DAYS: i64 = 7;
/// Periods are remembered this long: minutes by when a report was made, days also by when it arrived.
const MINUTES_KEPT: i64 = 10 * 24 * 60;
const DAYS_KEPT: i64 = 400;

/// A period in which reports of a node are counted.
struct Period<'a> {
    name: &'static str,
    number: i64,
    currency: &'a str,
    adds: i64,
    most: i64,
    kept: i64,
}

/// Counts a report, unless it is beyond the node's limits; says which limit it is beyond.
pub(super) async fn charge(
    tx: &mut Tx,
    node: u16,
    report: &Conversion<'_>,
    limits: &UnsignedLimits,
    now: Micros,
) -> Result<Option<&'static str>, ConversionStoreError> {
    let currency = report.payout.currency.code();
    let minor = Proof::charged_minor(report);
    let most = limits.minor_per_day(report.payout.currency);
    let number = |time: Micros, length| i64::try_from(time.0 / length).unwrap_or(i64::MAX);
    let day = |name, time, most| Period {
        name,
        number: number(time, DAY_MICROS),
        currency,
        adds: minor,
        most,
        kept: DAYS_KEPT,
    };
    let periods = [
        Period {
            name: MINUTE,
            number: number(report.time, MINUTE_MICROS),
            currency: "",
            adds: 1,
            most: i64::try_from(limits.reports_per_minute).unwrap_or(i64::MAX),
            kept: MINUTES_KEPT,
        },
        day("day", report.time, most),
        day("arrival day", now, most.saturating_mul(BACKLOG_DAYS)),
    ];
    for period in &periods {
        let total = total(tx, node, period).await?;
        if total.saturating_add(period.adds) > period.most {
            return Ok(Some(period.limit()));
        }
    }
    for period in &periods {
        add(tx, node, period).await?;
    }
    Ok(None)
}

impl Period<'_> {
    fn limit(&self) -> &'static str {
        match self.name {
            MINUTE => "more reports without a signature in a minute than unsigned_per_minute",
            _ => "a higher amount without a signature in a day than unsigned_amount_per_day",
        }
    }
}

async fn total(tx: &mut Tx, node: u16, period: &Period<'_>) -> Result<i64, ConversionStoreError> {
    let found = tx
        .fetch_all(
            "SELECT total FROM unsigned_reports \
             WHERE node = $1 AND period = $2 AND number = $3 AND currency = $4",
            &[
                Value::Number(node.into()),
                Value::Text(period.name),
                Value::Number(period.number),
                Value::Text(period.currency),
            ],
        )
        .await?;
    found.first().map_or(Ok(0), |row| row.number(0))
}

async fn add(tx: &mut Tx, node: u16, period: &Period<'_>) -> Result<(), ConversionStoreError> {
    tx.execute(
        "INSERT INTO unsigned_reports (node, period, number, currency, total) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (node, period, number, currency) \
         DO UPDATE SET total = unsigned_reports.total + excluded.total",
        &[
            Value::Number(node.into()),
            Value::Text(period.name),
            Value::Number(period.number),
            Value::Text(period.currency),
            Value::Number(period.adds),
        ],
    )
    .await?;
    tx.execute(
        "DELETE FROM unsigned_reports WHERE node = $1 AND period = $2 AND number < $3",
        &[
            Value::Number(node.into()),
            Value::Text(period.name),
            Value::Number(period.number.saturating_sub(period.kept)),
        ],
    )
    .await?;
    Ok(())
}
