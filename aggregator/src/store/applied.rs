//! What became of each event, by its place. Who asks again, after a crash, hears the same.

use super::LedgerError;
use super::sql::{Tx, Value};
use crate::report::{BAD_TRANSITION, Placed, Verdict};
use crate::verification::{Unproven, UnprovenReason};
use tracking_events::ConversionKind;

/// The verdict that was given before, if one was.
pub(super) async fn recall(
    tx: &mut Tx,
    report: &Placed<'_>,
) -> Result<Option<Verdict>, LedgerError> {
    let known = tx
        .ask(
            "SELECT outcome, revision, detail, reason FROM applied_events \
             WHERE journal = $1 AND node = $2 AND lane = $3 AND seq = $4",
            &place(report),
        )
        .await?;
    let Some(line) = known.first() else {
        return Ok(None);
    };
    let revision = u32::try_from(line.number(1)?).unwrap_or(u32::MAX);
    let outcome = line.text(0)?;
    Ok(Some(match outcome.as_str() {
        "revision" => Verdict::Revision(revision),
        "taken_back" => {
            let detail = line.text(2)?;
            let (kind, name) = detail.split_once(' ').unwrap_or((&detail, ""));
            Verdict::TakenBack {
                revision,
                kind: ConversionKind::from_word(kind)
                    .ok_or_else(|| LedgerError::Foreign(detail.clone()))?,
                kind_name: name.to_owned(),
            }
        }
        "repeat" => Verdict::Repeat(revision),
        "bad_transition" => Verdict::BadTransition(line.text(2)?),
        "applied" => Verdict::Applied,
        "late" => Verdict::Late,
        "again" => Verdict::Again,
        "unproven" => {
            let number = line.number(3)?;
            let reason = u16::try_from(number).ok().and_then(UnprovenReason::of);
            Verdict::Unproven(Unproven {
                reason: reason.ok_or_else(|| LedgerError::Foreign(number.to_string()))?,
                detail: line.text(2)?,
            })
        }
        _ => return Err(LedgerError::Foreign(outcome)),
    }))
}

/// Writes a verdict down, once and for all.
pub(super) async fn remember(
    tx: &mut Tx,
    report: &Placed<'_>,
    verdict: &Verdict,
) -> Result<(), LedgerError> {
    let taken_back;
    let (outcome, revision, reason, detail) = match verdict {
        Verdict::Revision(revision) => ("revision", *revision, 0, ""),
        Verdict::TakenBack {
            revision,
            kind,
            kind_name,
        } => {
            taken_back = format!("{} {kind_name}", kind.as_str());
            ("taken_back", *revision, 0, taken_back.as_str())
        }
        Verdict::Repeat(revision) => ("repeat", *revision, 0, ""),
        Verdict::BadTransition(why) => ("bad_transition", 0, BAD_TRANSITION, why.as_str()),
        Verdict::Applied => ("applied", 0, 0, ""),
        Verdict::Late => ("late", 0, 0, ""),
        Verdict::Again => ("again", 0, 0, ""),
        Verdict::Unproven(unproven) => {
            let detail = unproven.detail.as_str();
            ("unproven", 0, unproven.reason.number(), detail)
        }
        Verdict::Noted => return Ok(()),
    };
    let [journal, node, lane, seq] = place(report);
    tx.execute(
        "INSERT INTO applied_events (journal, node, lane, seq, outcome, revision, reason, detail) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            journal,
            node,
            lane,
            seq,
            Value::Text(outcome),
            Value::Number(revision.into()),
            Value::Number(reason.into()),
            Value::Text(detail),
        ],
    )
    .await?;
    Ok(())
}

/// Unsigned numbers of 64 bits keep their bits, not their sign.
const fn place(report: &Placed<'_>) -> [Value<'static>; 4] {
    [
        Value::Number(report.key.journal.cast_signed()),
        Value::Number(report.key.node as i64),
        Value::Number(report.key.lane as i64),
        Value::Number(report.seq.cast_signed()),
    ]
}
