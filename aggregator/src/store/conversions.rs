//! Conversions: which reports are the same one, what changes it, and what may not.

use super::sql::{Tx, Value};
use super::{LedgerError, identity};
use crate::report::Verdict;
use tracking_events::{Conversion, ConversionKind, ConversionStatus};

/// How a conversion stands.
struct Standing {
    revision: u32,
    status: ConversionStatus,
    minor: i64,
    currency: String,
}

/// Says what a report does to its conversion, and does it. The first of what is returned finds the
/// conversion.
pub(super) async fn judge(
    tx: &mut Tx,
    report: &Conversion<'_>,
) -> Result<(String, Verdict), LedgerError> {
    let identity = identity_of(report);
    let verdict = apply(tx, &identity, report).await?;
    Ok((identity, verdict))
}

async fn apply(
    tx: &mut Tx,
    identity: &str,
    report: &Conversion<'_>,
) -> Result<Verdict, LedgerError> {
    let Some(standing) = standing(tx, identity).await? else {
        insert(tx, identity, report).await?;
        return Ok(Verdict::Revision(1));
    };
    if standing.says(report) {
        return Ok(Verdict::Repeat(standing.revision));
    }
    if !standing.status.may_become(report.status) {
        return Ok(Verdict::BadTransition(why(&standing, report)));
    }
    let revision = standing.revision.saturating_add(1);
    revise(tx, identity, revision, report).await?;
    Ok(Verdict::Revision(revision))
}

/// Without a number of its own a conversion is there once for its advertiser, click and kind.
fn identity_of(report: &Conversion<'_>) -> String {
    let click = report.click.to_string();
    identity(&[
        report.advertiser,
        &click,
        report.kind.as_str(),
        kind_name(report),
        report.transaction,
    ])
}

/// The advertiser's word tells conversions apart only where ours doesn't.
fn kind_name<'a>(report: &Conversion<'a>) -> &'a str {
    match report.kind {
        ConversionKind::Custom => report.kind_name,
        _ => "",
    }
}

impl Standing {
    fn says(&self, report: &Conversion<'_>) -> bool {
        self.status == report.status
            && self.minor == report.payout.minor
            && self.currency == report.payout.currency()
    }
}

fn why(standing: &Standing, report: &Conversion<'_>) -> String {
    format!(
        "{} can't become {} (click {}, {} {:?})",
        standing.status.as_str(),
        report.status.as_str(),
        report.click,
        report.kind.as_str(),
        report.transaction
    )
}

async fn standing(tx: &mut Tx, identity: &str) -> Result<Option<Standing>, LedgerError> {
    let lines = tx
        .ask(
            "SELECT revision, status, payout_minor, currency FROM conversions WHERE identity = $1",
            &[Value::Text(identity)],
        )
        .await?;
    let Some(line) = lines.first() else {
        return Ok(None);
    };
    let status = line.text(1)?;
    Ok(Some(Standing {
        revision: u32::try_from(line.number(0)?).unwrap_or(u32::MAX),
        status: ConversionStatus::from_word(&status).ok_or(LedgerError::Foreign(status))?,
        minor: line.number(2)?,
        currency: line.text(3)?,
    }))
}

async fn insert(tx: &mut Tx, identity: &str, report: &Conversion<'_>) -> Result<(), LedgerError> {
    let click = report.click.to_string();
    tx.execute(
        "INSERT INTO conversions (identity, advertiser, click_id, kind, kind_name, transaction_id, \
         revision, status, payout_minor, currency) VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $9)",
        &[
            Value::Text(identity),
            Value::Text(report.advertiser),
            Value::Text(&click),
            Value::Text(report.kind.as_str()),
            Value::Text(kind_name(report)),
            Value::Text(report.transaction),
            Value::Text(report.status.as_str()),
            Value::Number(report.payout.minor),
            Value::Text(report.payout.currency()),
        ],
    )
    .await?;
    keep(tx, identity, 1, report).await
}

async fn revise(
    tx: &mut Tx,
    identity: &str,
    revision: u32,
    report: &Conversion<'_>,
) -> Result<(), LedgerError> {
    tx.execute(
        "UPDATE conversions SET revision = $2, status = $3, payout_minor = $4, currency = $5 \
         WHERE identity = $1",
        &[
            Value::Text(identity),
            Value::Number(revision.into()),
            Value::Text(report.status.as_str()),
            Value::Number(report.payout.minor),
            Value::Text(report.payout.currency()),
        ],
    )
    .await?;
    keep(tx, identity, revision, report).await
}

/// Adds to the history.
async fn keep(
    tx: &mut Tx,
    identity: &str,
    revision: u32,
    report: &Conversion<'_>,
) -> Result<(), LedgerError> {
    tx.execute(
        "INSERT INTO conversion_revisions (identity, revision, status, payout_minor, currency, time) \
         VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            Value::Text(identity),
            Value::Number(revision.into()),
            Value::Text(report.status.as_str()),
            Value::Number(report.payout.minor),
            Value::Text(report.payout.currency()),
            Value::Number(report.time.0.cast_signed()),
        ],
    )
    .await?;
    Ok(())
}
