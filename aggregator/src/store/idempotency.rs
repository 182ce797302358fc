//! What became of each event, by its place and its bytes: the same event gets the same verdict after a crash, and
//! another event at the same place one of its own.

use super::ConversionStoreError;
use super::sql::{Tx, Value};
use crate::report::{BAD_TRANSITION, LocatedEvent, TOO_MANY_REPORTS, Verdict};

/// What is remembered of an event.
#[derive(Debug)]
pub(super) enum Remembered {
    Nothing,
    /// The verdict on the same event.
    Verdict(Verdict),
    /// Another event was evaluated at its place.
    OtherEvent,
}

/// Looks for an earlier verdict on the event.
pub(super) async fn recall(
    tx: &mut Tx,
    report: &LocatedEvent<'_>,
) -> Result<Remembered, ConversionStoreError> {
    let known = tx
        .fetch_all(
            "SELECT hash, verdict FROM applied_events \
             WHERE journal = $1 AND node = $2 AND lane = $3 AND seq = $4",
            &place(report),
        )
        .await?;
    let hash = report.hash.to_string();
    for line in &known {
        if line.text(0)? == hash {
            let verdict = line.text(1)?;
            let read = serde_json::from_str(&verdict);
            let read = read.map_err(|_| ConversionStoreError::Foreign(verdict))?;
            return Ok(Remembered::Verdict(read));
        }
    }
    Ok(if known.is_empty() {
        Remembered::Nothing
    } else {
        Remembered::OtherEvent
    })
}

/// Stores a verdict, once and permanently.
pub(super) async fn remember(
    tx: &mut Tx,
    report: &LocatedEvent<'_>,
    verdict: &Verdict,
) -> Result<(), ConversionStoreError> {
    let (outcome, reason) = match verdict {
        Verdict::Revised(_) => ("revision", 0),
        Verdict::Unchanged(it) if it.is_late => ("late", 0),
        Verdict::Unchanged(_) => ("repeat", 0),
        Verdict::BadTransition(_) => ("refused", BAD_TRANSITION),
        Verdict::TooManyReports(_) => ("refused", TOO_MANY_REPORTS),
        Verdict::Applied => ("applied", 0),
        Verdict::Late => ("late", 0),
        Verdict::Again => ("again", 0),
        Verdict::Unproven(it) => ("unproven", it.reason.number()),
        Verdict::Noted => return Ok(()),
    };
    let [journal, node, lane, seq] = place(report);
    let json = serde_json::to_string(verdict).expect("a verdict becomes JSON");
    tx.execute(
        "INSERT INTO applied_events (journal, node, lane, seq, hash, outcome, reason, verdict) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            journal,
            node,
            lane,
            seq,
            Value::Text(&report.hash.to_string()),
            Value::Text(outcome),
            Value::Number(reason.into()),
            Value::Text(&json),
        ],
    )
    .await?;
    Ok(())
}

/// Unsigned numbers of 64 bits keep their bits, not their sign.
const fn place(report: &LocatedEvent<'_>) -> [Value<'static>; 4] {
    [
        Value::Number(report.key.journal.cast_signed()),
        Value::Number(report.key.node as i64),
        Value::Number(report.key.lane as i64),
        Value::Number(report.seq.cast_signed()),
    ]
}
