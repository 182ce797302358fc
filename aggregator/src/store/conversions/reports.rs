//! The stored reports of each sale, sorted by report time.

use super::history::{ReportOrder, ReportStatement, SaleReport, State};
use crate::report::Refunds;
use crate::store::ConversionStoreError;
use domain::ConversionKind;
use sql_store::{Statement, Transaction, typed_row};
use tracking_events::Stated;

typed_row! {
    struct ReportRow {
        order: ReportOrder,
        kind: ConversionKind,
        kind_name: String,
        state: State,
        stated: u8,
        signature: String,
        refunds: Refunds,
    }
}

/// All stored reports of a sale, sorted.
pub(super) async fn load(
    tx: &mut Transaction,
    sale: &str,
) -> Result<Vec<SaleReport>, ConversionStoreError> {
    let select = Statement::new(
        "SELECT event, time, node, journal, lane, seq, kind, kind_name, status, payout_minor, currency, stated, \
         signature, refunded_minor, last_refund FROM conversion_reports WHERE sale = $1",
    );
    let rows: Vec<ReportRow> = tx.fetch_all(select.bind(sale)).await?;
    let mut reports: Vec<_> = rows.into_iter().map(SaleReport::from).collect();
    reports.sort_by(|one, other| one.order.cmp(&other.order));
    Ok(reports)
}

impl From<ReportRow> for SaleReport {
    fn from(row: ReportRow) -> Self {
        let State { status, payout } = row.state;
        Self {
            order: row.order,
            statement: ReportStatement {
                kind: row.kind,
                kind_name: row.kind_name,
                status,
                payout,
                stated: Stated(row.stated),
            },
            signature: (!row.signature.is_empty()).then_some(row.signature),
            refunds: row.refunds,
        }
    }
}

pub(super) async fn insert(
    tx: &mut Transaction,
    sale: &str,
    report: &SaleReport,
) -> Result<(), ConversionStoreError> {
    let SaleReport {
        order,
        statement,
        signature,
        refunds,
    } = report;
    tx.execute(Statement::insert(
        "conversion_reports",
        [
            ("event", (&order.event).into()),
            ("sale", sale.into()),
            ("time", order.time.into()),
            ("node", order.node.into()),
            ("journal", order.journal.into()),
            ("lane", order.lane.into()),
            ("seq", order.seq.into()),
            ("kind", statement.kind.into()),
            ("kind_name", (&statement.kind_name).into()),
            ("status", statement.status.into()),
            ("payout_minor", statement.payout.minor.into()),
            ("currency", statement.payout.currency.into()),
            ("stated", statement.stated.0.into()),
            ("signature", signature.as_deref().unwrap_or_default().into()),
            ("refunded_minor", refunds.minor.into()),
            ("last_refund", (&refunds.last).into()),
        ],
    ))
    .await?;
    Ok(())
}

pub(super) async fn delete(
    tx: &mut Transaction,
    report: &SaleReport,
) -> Result<(), ConversionStoreError> {
    let delete = Statement::new("DELETE FROM conversion_reports WHERE event = $1");
    tx.execute(delete.bind(&report.order.event)).await?;
    Ok(())
}
