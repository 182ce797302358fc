//! Signed requests that are valid once, and which report each came with first.

use super::LedgerError;
use super::sql::{Tx, Value};
use crate::report::Placed;
use tracking_events::Micros;

/// A request is remembered this long: a repetition that claims an earlier time is known, too.
const KEPT_MICROS: u64 = 400 * 86_400_000_000;

/// Takes note of a signed request. When another report came with it before, says which revision that was; 0 if
/// it was none.
pub(super) async fn earlier(
    tx: &mut Tx,
    identity: &str,
    report: &Placed<'_>,
    now: Micros,
) -> Result<Option<u32>, LedgerError> {
    let place = [
        Value::Number(report.key.journal.cast_signed()),
        Value::Number(report.key.node.into()),
        Value::Number(report.key.lane.into()),
        Value::Number(report.seq.cast_signed()),
    ];
    let [journal, node, lane, seq] = place;
    let expires = now.0.saturating_add(KEPT_MICROS).cast_signed();
    let added = tx
        .execute(
            "INSERT INTO signed_reports (identity, journal, node, lane, seq, expires) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (identity) DO NOTHING",
            &[
                Value::Text(identity),
                journal,
                node,
                lane,
                seq,
                Value::Number(expires),
            ],
        )
        .await?;
    if added == 1 {
        let sql = "DELETE FROM signed_reports WHERE expires < $1";
        tx.execute(sql, &[Value::Number(now.0.cast_signed())])
            .await?;
        return Ok(None);
    }
    let first = tx
        .ask(
            "SELECT a.revision FROM signed_reports s JOIN applied_events a ON a.journal = s.journal \
             AND a.node = s.node AND a.lane = s.lane AND a.seq = s.seq WHERE s.identity = $1",
            &[Value::Text(identity)],
        )
        .await?;
    let revision = first.first().map_or(Ok(0), |row| row.number(0))?;
    Ok(Some(u32::try_from(revision).unwrap_or(u32::MAX)))
}
