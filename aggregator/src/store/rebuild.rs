//! What a store takes over from ClickHouse: the latest revision of each conversion and the messages about
//! affiliates. What it knows already, in the same state or a later one, stays as it is.

use super::sql::{Tx, Value};
use super::{ConversionStoreError, affiliates, clicks, identity, outbox};
use crate::history::{KnownCheck, KnownConversion};
use crate::report::Verdict;
use domain::{KycStatus, Micros};
use tracking_events::KycUpdate;

/// Affiliates are told again of revisions younger than this, in microseconds: whether they were told is not
/// known. The postbacks have the ids they had, so receivers can tell.
const ANNOUNCED_AGAIN_MICROS: u64 = 3 * 24 * 3_600 * 1_000_000;

/// What was taken over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Conversions that the store did not know as they stand.
    pub conversions: u64,
    /// Messages of identity services that it did not know.
    pub checks: u64,
    /// Postbacks that are sent, perhaps again.
    pub postbacks: u64,
}

/// Takes over a conversion, and announces it where affiliates are told.
pub(super) async fn conversion(
    tx: &mut Tx,
    known: &KnownConversion,
    now: Micros,
    announces: bool,
    rebuilt: &mut Rebuilt,
) -> Result<(), ConversionStoreError> {
    let conversion = identity(&[
        &known.advertiser,
        &known.click_id,
        &known.kind,
        &known.custom_kind,
        &known.transaction,
    ]);
    if !advance(tx, &conversion, known).await? {
        return Ok(());
    }
    rebuilt.conversions += 1;
    clicks::lock(tx, &known.click_id, now).await?;
    keep_revision(tx, &conversion, known).await?;
    if announces && known.time.cast_unsigned() > now.0.saturating_sub(ANNOUNCED_AGAIN_MICROS) {
        outbox::enqueue_again(tx, &conversion, known.revision, known.epoch, now).await?;
        rebuilt.postbacks += 1;
    }
    Ok(())
}

/// Makes the revision the conversion's newest; false when the store has it, or a later one.
async fn advance(
    tx: &mut Tx,
    conversion: &str,
    known: &KnownConversion,
) -> Result<bool, ConversionStoreError> {
    let sale = identity(&[&known.advertiser, &known.click_id, &known.transaction]);
    let changed = tx
        .execute(
            "INSERT INTO conversions (identity, advertiser, click_id, kind, kind_name, transaction_id, sale, \
             revision, status, payout_minor, currency, refunded_minor, last_refund) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
             ON CONFLICT (identity) DO UPDATE SET revision = excluded.revision, status = excluded.status, \
             payout_minor = excluded.payout_minor, currency = excluded.currency, withdrawn = 0, \
             refunded_minor = excluded.refunded_minor, last_refund = excluded.last_refund \
             WHERE conversions.revision < excluded.revision",
            &[
                Value::Text(conversion),
                Value::Text(&known.advertiser),
                Value::Text(&known.click_id),
                Value::Text(&known.kind),
                Value::Text(&known.custom_kind),
                Value::Text(&known.transaction),
                Value::Text(&sale),
                Value::Number(known.revision.into()),
                Value::Text(&known.status),
                Value::Number(known.payout_minor),
                Value::Text(&known.currency),
                Value::Number(known.refunds.minor),
                Value::Text(&known.refunds.last),
            ],
        )
        .await?;
    Ok(changed > 0)
}

async fn keep_revision(
    tx: &mut Tx,
    conversion: &str,
    known: &KnownConversion,
) -> Result<(), ConversionStoreError> {
    tx.execute(
        "INSERT INTO conversion_revisions (identity, revision, status, payout_minor, currency, time) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (identity, revision) DO NOTHING",
        &[
            Value::Text(conversion),
            Value::Number(known.revision.into()),
            Value::Text(&known.status),
            Value::Number(known.payout_minor),
            Value::Text(&known.currency),
            Value::Number(known.time),
        ],
    )
    .await?;
    Ok(())
}

/// Takes over a message of an identity service.
pub(super) async fn check(
    tx: &mut Tx,
    known: &KnownCheck,
    rebuilt: &mut Rebuilt,
) -> Result<(), ConversionStoreError> {
    let status = KycStatus::from_name(&known.status);
    let update = KycUpdate {
        time: Micros(known.time.cast_unsigned()),
        happened: Micros(known.happened.cast_unsigned()),
        provider: &known.provider,
        delivery: &known.delivery,
        affiliate: &known.affiliate,
        status: status.ok_or_else(|| ConversionStoreError::Foreign(known.status.clone()))?,
        tier: known.tier,
        signed: None,
    };
    if affiliates::judge(tx, &update).await? != Verdict::Again {
        rebuilt.checks += 1;
    }
    Ok(())
}
