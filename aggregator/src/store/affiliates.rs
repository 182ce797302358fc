//! Affiliates: what follows from all that identity services said of one, in whatever order it came.

use super::sql::{Tx, Value};
use super::{ConversionStoreError, identity};
use crate::report::Verdict;
use domain::{KycStanding, KycStatus, Micros};
use std::cmp::Reverse;
use tracking_events::KycUpdate;

/// A message, as far as it settles anything. They go by when they happened; of one moment, the word that
/// trusts less comes last and so prevails.
#[derive(Debug)]
struct Message {
    identity: String,
    status: KycStatus,
    tier: u8,
    happened: Micros,
}

/// Says what a message does to its affiliate, and does it.
pub(super) async fn judge(
    tx: &mut Tx,
    update: &KycUpdate<'_>,
) -> Result<Verdict, ConversionStoreError> {
    let message = identity(&[update.provider, update.delivery]);
    let affiliate = identity(&[update.affiliate]);
    if is_known(tx, &message).await? {
        return Ok(Verdict::Again);
    }
    lock(tx, &affiliate, update.affiliate).await?;
    keep(tx, &message, &affiliate, update).await?;
    let history = history(tx, &affiliate).await?;
    let newest = history.last().is_some_and(|last| last.identity == message);
    settle(tx, &affiliate, update.affiliate, &standing(&history)).await?;
    Ok(if newest {
        Verdict::Applied
    } else {
        Verdict::Late
    })
}

/// Locks the affiliate's row, which is made if there is none: two aggregators that hear of one affiliate at
/// once must not each settle on what it knows alone.
async fn lock(tx: &mut Tx, affiliate: &str, name: &str) -> Result<(), ConversionStoreError> {
    tx.execute(
        "INSERT INTO affiliates (identity, name, tier, kyc_status, kyc_happened, earning_limit) \
         VALUES ($1, $2, 0, $3, 0, $4) ON CONFLICT (identity) DO UPDATE SET name = excluded.name",
        &[
            Value::Text(affiliate),
            Value::Text(name),
            Value::Text(KycStatus::Pending.as_str()),
            KycStanding::INITIAL
                .limit_cents()
                .map_or(Value::Nothing, Value::Number),
        ],
    )
    .await?;
    Ok(())
}

async fn is_known(tx: &mut Tx, message: &str) -> Result<bool, ConversionStoreError> {
    let sql = "SELECT status FROM kyc_deliveries WHERE identity = $1";
    Ok(!tx.fetch_all(sql, &[Value::Text(message)]).await?.is_empty())
}

async fn keep(
    tx: &mut Tx,
    message: &str,
    affiliate: &str,
    update: &KycUpdate<'_>,
) -> Result<(), ConversionStoreError> {
    // Nothing happens after it was told: a service with a wrong clock would have the last word for years.
    let happened = update.happened.min(update.time);
    tx.execute(
        "INSERT INTO kyc_deliveries \
         (identity, affiliate, provider, delivery, status, tier, happened, received) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            Value::Text(message),
            Value::Text(affiliate),
            Value::Text(update.provider),
            Value::Text(update.delivery),
            Value::Text(update.status.as_str()),
            Value::Number(update.tier.into()),
            Value::Number(happened.0.cast_signed()),
            Value::Number(update.time.0.cast_signed()),
        ],
    )
    .await?;
    Ok(())
}

/// All messages about an affiliate, the one that prevails last.
async fn history(tx: &mut Tx, affiliate: &str) -> Result<Vec<Message>, ConversionStoreError> {
    let sql = "SELECT identity, status, tier, happened FROM kyc_deliveries WHERE affiliate = $1";
    let lines = tx.fetch_all(sql, &[Value::Text(affiliate)]).await?;
    let mut messages = Vec::with_capacity(lines.len());
    for line in lines {
        let word = line.text(1)?;
        let status = KycStatus::from_name(&word).ok_or(ConversionStoreError::Foreign(word))?;
        messages.push(Message {
            identity: line.text(0)?,
            status,
            tier: u8::try_from(line.number(2)?).unwrap_or(u8::MAX),
            happened: Micros(line.number(3)?.cast_unsigned()),
        });
    }
    messages.sort_by(|one, other| one.order().cmp(&other.order()));
    Ok(messages)
}

impl Message {
    fn order(&self) -> impl Ord + '_ {
        let trust = Reverse(self.tier);
        (self.happened, self.status.distrust(), trust, &self.identity)
    }
}

fn standing(history: &[Message]) -> KycStanding {
    history
        .iter()
        .fold(KycStanding::INITIAL, |before, message| {
            before.after(message.status, message.tier, message.happened)
        })
}

async fn settle(
    tx: &mut Tx,
    affiliate: &str,
    name: &str,
    standing: &KycStanding,
) -> Result<(), ConversionStoreError> {
    let limit = standing.limit_cents();
    let values = [
        Value::Text(affiliate),
        Value::Text(name),
        Value::Number(standing.tier.into()),
        Value::Text(standing.status.as_str()),
        Value::Number(standing.happened.0.cast_signed()),
        limit.map_or(Value::Nothing, Value::Number),
    ];
    tx.execute(
        "INSERT INTO affiliates (identity, name, tier, kyc_status, kyc_happened, earning_limit) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (identity) DO UPDATE SET tier = excluded.tier, kyc_status = excluded.kyc_status, \
         kyc_happened = excluded.kyc_happened, earning_limit = excluded.earning_limit",
        &values,
    )
    .await?;
    Ok(())
}
