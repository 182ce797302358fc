//! The reports of each sale in SQL, sorted by when they were reported.

use super::history::{ReportOrder, SaleReport, Statement};
use super::money;
use crate::report::Refunds;
use crate::store::ConversionStoreError;
use crate::store::sql::{Row, Tx, Value};
use domain::{ConversionKind, ConversionStatus, Micros};
use tracking_events::Stated;

/// All reports of a sale that are kept, sorted.
pub(super) async fn load(tx: &mut Tx, sale: &str) -> Result<Vec<SaleReport>, ConversionStoreError> {
    let lines = tx
        .fetch_all(
            "SELECT event, time, node, journal, lane, seq, kind, kind_name, status, payout_minor, currency, stated, \
             signature, refunded_minor, last_refund FROM conversion_reports WHERE sale = $1",
            &[Value::Text(sale)],
        )
        .await?;
    let reports: Result<Vec<_>, _> = lines.iter().map(read).collect();
    let mut reports = reports?;
    reports.sort_by(|one, other| one.order.cmp(&other.order));
    Ok(reports)
}

fn read(line: &Row) -> Result<SaleReport, ConversionStoreError> {
    let (kind, status, signature) = (line.text(6)?, line.text(8)?, line.text(12)?);
    Ok(SaleReport {
        order: ReportOrder {
            event: line.text(0)?,
            time: Micros(line.number(1)?.cast_unsigned()),
            node: u16::try_from(line.number(2)?).unwrap_or(u16::MAX),
            journal: line.number(3)?.cast_unsigned(),
            lane: u8::try_from(line.number(4)?).unwrap_or(u8::MAX),
            seq: line.number(5)?.cast_unsigned(),
        },
        statement: Statement {
            kind: ConversionKind::from_name(&kind).ok_or(ConversionStoreError::Foreign(kind))?,
            kind_name: line.text(7)?,
            status: ConversionStatus::from_name(&status)
                .ok_or(ConversionStoreError::Foreign(status))?,
            payout: money(line.number(9)?, &line.text(10)?),
            stated: Stated(u8::try_from(line.number(11)?).unwrap_or(u8::MAX)),
        },
        signature: (!signature.is_empty()).then_some(signature),
        refunds: Refunds {
            minor: line.number(13)?,
            last: line.text(14)?,
        },
    })
}

pub(super) async fn insert(
    tx: &mut Tx,
    sale: &str,
    report: &SaleReport,
) -> Result<(), ConversionStoreError> {
    let SaleReport {
        order,
        statement,
        signature,
        refunds,
    } = report;
    tx.execute(
        "INSERT INTO conversion_reports (event, sale, time, node, journal, lane, seq, kind, kind_name, status, \
         payout_minor, currency, stated, signature, refunded_minor, last_refund) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        &[
            Value::Text(&order.event),
            Value::Text(sale),
            Value::Number(order.time.0.cast_signed()),
            Value::Number(order.node.into()),
            Value::Number(order.journal.cast_signed()),
            Value::Number(order.lane.into()),
            Value::Number(order.seq.cast_signed()),
            Value::Text(statement.kind.as_str()),
            Value::Text(&statement.kind_name),
            Value::Text(statement.status.as_str()),
            Value::Number(statement.payout.minor),
            Value::Text(statement.payout.currency.code()),
            Value::Number(statement.stated.0.into()),
            Value::Text(signature.as_deref().unwrap_or_default()),
            Value::Number(refunds.minor),
            Value::Text(&refunds.last),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn forget(tx: &mut Tx, report: &SaleReport) -> Result<(), ConversionStoreError> {
    let sql = "DELETE FROM conversion_reports WHERE event = $1";
    tx.execute(sql, &[Value::Text(&report.order.event)]).await?;
    Ok(())
}
