//! The verdict on each event by its place and its bytes. The same event gets the same verdict after a crash; another
//! event at the same place gets its own.

use super::{ConversionStoreError, unexpected};
use crate::report::{BAD_TRANSITION, LocatedEvent, TOO_MANY_REPORTS, Verdict};
use sql_store::{Statement, Transaction, typed_row};

/// The result of looking up an event's verdict.
#[derive(Debug)]
pub(super) enum EarlierVerdict {
    None,
    /// The verdict on the same event.
    OfSameEvent(Verdict),
    /// Another event was evaluated at its place.
    OfOtherEvent,
}

typed_row! {
    struct AppliedEvent {
        hash: String,
        verdict: String,
    }
}

/// Looks for an earlier verdict on the event.
pub(super) async fn recall(
    tx: &mut Transaction,
    report: &LocatedEvent<'_>,
) -> Result<EarlierVerdict, ConversionStoreError> {
    let select = Statement::new(
        "SELECT hash, verdict FROM applied_events WHERE journal = $1 AND node = $2 AND lane = $3 AND seq = $4",
    );
    let select = select
        .bind(report.key.journal)
        .bind(report.key.node)
        .bind(report.key.lane)
        .bind(report.seq);
    let known: Vec<AppliedEvent> = tx.fetch_all(select).await?;
    if known.is_empty() {
        return Ok(EarlierVerdict::None);
    }
    let hash = report.hash.to_string();
    let Some(same) = known.into_iter().find(|it| it.hash == hash) else {
        return Ok(EarlierVerdict::OfOtherEvent);
    };
    let verdict = serde_json::from_str(&same.verdict);
    let verdict = verdict.map_err(|_| unexpected(&same.verdict))?;
    Ok(EarlierVerdict::OfSameEvent(verdict))
}

/// Stores a verdict, once and permanently.
pub(super) async fn remember(
    tx: &mut Transaction,
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
        Verdict::Duplicate => ("again", 0),
        Verdict::Unproven(it) => ("unproven", it.reason.number()),
        Verdict::Noted => return Ok(()),
    };
    let json = serde_json::to_string(verdict).expect("a verdict becomes JSON");
    tx.execute(Statement::insert(
        "applied_events",
        [
            ("journal", report.key.journal.into()),
            ("node", report.key.node.into()),
            ("lane", report.key.lane.into()),
            ("seq", report.seq.into()),
            ("hash", report.hash.to_string().into()),
            ("outcome", outcome.into()),
            ("reason", reason.into()),
            ("verdict", json.into()),
        ],
    ))
    .await?;
    Ok(())
}
