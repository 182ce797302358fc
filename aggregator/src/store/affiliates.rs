//! Affiliates: the identity status of each follows from all messages of identity services about it, in any order of
//! arrival.

use super::{ConversionStoreError, identity};
use crate::report::Verdict;
use domain::{KycStanding, KycStatus, Micros};
use sql_store::{Statement, Transaction, typed_row};
use std::cmp::Reverse;
use tracking_events::KycUpdate;

typed_row! {
    /// A message of an identity service. Messages are sorted by the time of their checks. Of checks at the same time, the
    /// one that trusts the affiliate least is sorted last and prevails.
    #[derive(Debug)]
    struct KycMessage {
        identity: String,
        status: KycStatus,
        tier: u8,
        happened: Micros,
    }
}

/// Stores a message and updates its affiliate.
pub(super) async fn evaluate(
    tx: &mut Transaction,
    update: &KycUpdate<'_>,
) -> Result<Verdict, ConversionStoreError> {
    let message = identity(&[update.provider, update.delivery]);
    let affiliate = identity(&[update.affiliate]);
    if is_known(tx, &message).await? {
        return Ok(Verdict::Duplicate);
    }
    lock(tx, &affiliate, update.affiliate).await?;
    insert(tx, &message, &affiliate, update).await?;
    let history = history(tx, &affiliate).await?;
    let is_newest = history.last().is_some_and(|last| last.identity == message);
    update_affiliate(tx, &affiliate, standing(&history)).await?;
    Ok(if is_newest {
        Verdict::Applied
    } else {
        Verdict::Late
    })
}

/// Locks the affiliate's row, which is inserted if there is none. Otherwise two aggregators that evaluate messages about
/// one affiliate at the same time would each miss the other's message.
async fn lock(
    tx: &mut Transaction,
    affiliate: &str,
    name: &str,
) -> Result<(), ConversionStoreError> {
    let insert = Statement::insert(
        "affiliates",
        [
            ("identity", affiliate.into()),
            ("name", name.into()),
            ("tier", KycStanding::INITIAL.tier.into()),
            ("kyc_status", KycStanding::INITIAL.status.into()),
            ("kyc_happened", KycStanding::INITIAL.happened.into()),
            ("earning_limit", KycStanding::INITIAL.limit_cents().into()),
        ],
    );
    let lock = insert.push(" ON CONFLICT (identity) DO UPDATE SET name = excluded.name");
    tx.execute(lock).await?;
    Ok(())
}

async fn is_known(tx: &mut Transaction, message: &str) -> Result<bool, ConversionStoreError> {
    let select = Statement::new("SELECT 1 FROM kyc_deliveries WHERE identity = $1").bind(message);
    Ok(tx.exists(select).await?)
}

async fn insert(
    tx: &mut Transaction,
    message: &str,
    affiliate: &str,
    update: &KycUpdate<'_>,
) -> Result<(), ConversionStoreError> {
    // A check can't have happened after its report. Otherwise a service with a wrong clock would prevail for years.
    let happened = update.happened.min(update.time);
    tx.execute(Statement::insert(
        "kyc_deliveries",
        [
            ("identity", message.into()),
            ("affiliate", affiliate.into()),
            ("provider", update.provider.into()),
            ("delivery", update.delivery.into()),
            ("status", update.status.into()),
            ("tier", update.tier.into()),
            ("happened", happened.into()),
            ("received", update.time.into()),
        ],
    ))
    .await?;
    Ok(())
}

/// All messages about an affiliate, the prevailing one last.
async fn history(
    tx: &mut Transaction,
    affiliate: &str,
) -> Result<Vec<KycMessage>, ConversionStoreError> {
    let sql = "SELECT identity, status, tier, happened FROM kyc_deliveries WHERE affiliate = $1";
    let select = Statement::new(sql).bind(affiliate);
    let mut messages: Vec<KycMessage> = tx.fetch_all(select).await?;
    messages.sort_by(|one, other| one.order().cmp(&other.order()));
    Ok(messages)
}

impl KycMessage {
    fn order(&self) -> impl Ord + '_ {
        let (distrust, trust) = (self.status.distrust(), Reverse(self.tier));
        (self.happened, distrust, trust, &self.identity)
    }
}

fn standing(history: &[KycMessage]) -> KycStanding {
    let messages = history.iter();
    messages.fold(KycStanding::INITIAL, |before, message| {
        before.after(message.status, message.tier, message.happened)
    })
}

async fn update_affiliate(
    tx: &mut Transaction,
    affiliate: &str,
    standing: KycStanding,
) -> Result<(), ConversionStoreError> {
    let update = Statement::new(
        "UPDATE affiliates SET tier = $2, kyc_status = $3, kyc_happened = $4, earning_limit = $5 \
         WHERE identity = $1",
    );
    let update = update
        .bind(affiliate)
        .bind(standing.tier)
        .bind(standing.status)
        .bind(standing.happened)
        .bind(standing.limit_cents());
    tx.execute(update).await?;
    Ok(())
}
