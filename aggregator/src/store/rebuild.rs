//! Rebuilds a store from ClickHouse: the latest revision of each conversion and the messages about affiliates. Rows that
//! the store has in the same state or a later one do not change.

use super::{ConversionStoreError, affiliates, clicks, identity, outbox, unexpected};
use crate::history::{KnownCheck, KnownConversion};
use crate::report::Verdict;
use domain::{KycStatus, Micros};
use sql_store::{Statement, Transaction};
use tracking_events::KycUpdate;

/// Postbacks of revisions younger than this are sent, since it is not known whether they were sent before. They have the
/// same ids as before, so that receivers can ignore repetitions.
const RESEND_WINDOW_MICROS: u64 = 3 * 24 * 3_600 * 1_000_000;

/// Counts of rows that a rebuild added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RebuildSummary {
    /// Conversions that were missing or in an earlier state.
    pub conversions: u64,
    /// Messages of identity services that were missing.
    pub checks: u64,
    /// Postbacks that were queued; some may have been sent before.
    pub postbacks: u64,
}

/// Inserts a conversion, and queues its postback if affiliates are notified.
pub(super) async fn conversion(
    tx: &mut Transaction,
    known: &KnownConversion,
    now: Micros,
    notifies_affiliates: bool,
    rebuilt: &mut RebuildSummary,
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
    insert_revision(tx, &conversion, known).await?;
    if notifies_affiliates
        && known.time.cast_unsigned() > now.0.saturating_sub(RESEND_WINDOW_MICROS)
    {
        outbox::enqueue_again(tx, &conversion, known.revision, known.epoch, now).await?;
        rebuilt.postbacks += 1;
    }
    Ok(())
}

/// Makes the revision the conversion's newest. Returns false if the store has it, or a later one.
async fn advance(
    tx: &mut Transaction,
    conversion: &str,
    known: &KnownConversion,
) -> Result<bool, ConversionStoreError> {
    let sale = identity(&[&known.advertiser, &known.click_id, &known.transaction]);
    let insert = Statement::insert(
        "conversions",
        [
            ("identity", conversion.into()),
            ("advertiser", (&known.advertiser).into()),
            ("click_id", (&known.click_id).into()),
            ("kind", (&known.kind).into()),
            ("kind_name", (&known.custom_kind).into()),
            ("transaction_id", (&known.transaction).into()),
            ("sale", sale.into()),
            ("revision", known.revision.into()),
            ("status", (&known.status).into()),
            ("payout_minor", known.payout_minor.into()),
            ("currency", (&known.currency).into()),
            ("refunded_minor", known.refunds.minor.into()),
            ("last_refund", (&known.refunds.last).into()),
        ],
    );
    let upsert = insert.push(
        " ON CONFLICT (identity) DO UPDATE SET revision = excluded.revision, status = excluded.status, \
         payout_minor = excluded.payout_minor, currency = excluded.currency, withdrawn = 0, \
         refunded_minor = excluded.refunded_minor, last_refund = excluded.last_refund \
         WHERE conversions.revision < excluded.revision",
    );
    Ok(tx.execute(upsert).await? > 0)
}

async fn insert_revision(
    tx: &mut Transaction,
    conversion: &str,
    known: &KnownConversion,
) -> Result<(), ConversionStoreError> {
    let insert = Statement::insert(
        "conversion_revisions",
        [
            ("identity", conversion.into()),
            ("revision", known.revision.into()),
            ("status", (&known.status).into()),
            ("payout_minor", known.payout_minor.into()),
            ("currency", (&known.currency).into()),
            ("time", known.time.into()),
        ],
    );
    let insert = insert.push(" ON CONFLICT (identity, revision) DO NOTHING");
    tx.execute(insert).await?;
    Ok(())
}

/// Inserts a message of an identity service.
pub(super) async fn check(
    tx: &mut Transaction,
    known: &KnownCheck,
    rebuilt: &mut RebuildSummary,
) -> Result<(), ConversionStoreError> {
    let status = KycStatus::from_name(&known.status);
    let update = KycUpdate {
        time: Micros(known.time.cast_unsigned()),
        happened: Micros(known.happened.cast_unsigned()),
        provider: &known.provider,
        delivery: &known.delivery,
        affiliate: &known.affiliate,
        status: status.ok_or_else(|| unexpected(&known.status))?,
        tier: known.tier,
        signed: None,
    };
    if affiliates::evaluate(tx, &update).await? != Verdict::Duplicate {
        rebuilt.checks += 1;
    }
    Ok(())
}
