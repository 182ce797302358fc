//! The queue for operators: the numbers of waiting postbacks, the newest postbacks, and sending one again.

use super::{PostbackKey, receivers};
use crate::store::{ConversionStore, ConversionStoreError, rfc3339};
use domain::Micros;
use sql_store::{Statement, Transaction, typed_row};
use std::cmp::Reverse;

/// Every state of a postback, as the admin page names them.
pub(crate) const POSTBACK_STATES: [&str; 7] = [
    "awaits_click",
    "due",
    "delivered",
    "refused",
    "given_up",
    "click_unknown",
    "unwanted",
];

/// A postback in the list.
#[derive(Debug, serde::Serialize)]
pub(crate) struct ListedPostback {
    pub(crate) postback: String,
    pub(crate) receiver: String,
    pub(crate) click_id: String,
    pub(crate) event: String,
    pub(crate) transaction_id: String,
    pub(crate) status: String,
    pub(crate) state: String,
    pub(crate) attempts: i64,
    /// When it is due, if the aggregator runs until then, or when it ended.
    pub(crate) at: String,
    pub(crate) last_status: i64,
    pub(crate) last_error: String,
}

typed_row! {
    struct PostbackRow {
        key: PostbackKey,
        receiver: String,
        click_id: String,
        kind: String,
        transaction_id: String,
        status: String,
        state: String,
        attempts: i64,
        due: i64,
        last_status: i64,
        last_error: String,
        epoch: u64,
        ended: i64,
    }
}

/// A postback's id, taken apart.
struct PostbackId<'a> {
    /// The beginning of the conversion's identity.
    conversion: &'a str,
    epoch: u64,
    revision: u32,
}

typed_row! {
    struct IdentifiedPostback {
        key: PostbackKey,
        receiver: String,
    }
}

impl ConversionStore {
    /// The number of postbacks in each state that is not final.
    pub(crate) async fn unfinished(&self) -> Result<Vec<(String, i64)>, ConversionStoreError> {
        let mut tx = self.begin().await?;
        let mut counts = Vec::new();
        for state in ["awaits_click", "due"] {
            let select =
                Statement::new("SELECT COUNT(*) AS count FROM outgoing_postbacks WHERE state = $1");
            let count: Option<i64> = tx.fetch_optional(select.bind(state)).await?;
            counts.push((state.to_owned(), count.unwrap_or(0)));
        }
        Ok(counts)
    }

    /// The newest postbacks, at most `limit`; to all receivers and in all states if these are empty.
    pub(crate) async fn list_postbacks(
        &self,
        receiver: &str,
        state: &str,
        limit: usize,
    ) -> Result<Vec<ListedPostback>, ConversionStoreError> {
        let wall = Micros::now();
        let steady = self.steady_clock(wall).await?.now();
        let ahead = wall.0.cast_signed() - steady.0.cast_signed();
        let mut tx = self.begin().await?;
        let mut rows = Vec::new();
        // State by state, so that an index finds the newest of each.
        for each in POSTBACK_STATES {
            if state.is_empty() || each == state {
                rows.append(&mut newest(&mut tx, each, receiver, limit).await?);
            }
        }
        rows.sort_by_key(|row| Reverse(row.due));
        rows.truncate(limit);
        Ok(rows.into_iter().map(|row| row.listed(ahead)).collect())
    }

    /// Makes a postback in any state due now, under its id. Returns false if no postback has this id.
    pub(crate) async fn resend(&self, postback: &str) -> Result<bool, ConversionStoreError> {
        let Some(id) = PostbackId::parse(postback) else {
            return Ok(false);
        };
        let now = self.steady_clock(Micros::now()).await?.now();
        let mut attempts = self.attempts().await?;
        let is_known = loop {
            let mut tx = attempts.begin().await?;
            let queued = queue_again(&mut tx, &id, now).await;
            if let Some(queued) = attempts.finish(tx, queued).await {
                break queued?;
            }
        };
        if is_known {
            self.queue_changed.notify_one();
        }
        Ok(is_known)
    }
}

async fn newest(
    tx: &mut Transaction,
    state: &str,
    receiver: &str,
    limit: usize,
) -> Result<Vec<PostbackRow>, ConversionStoreError> {
    let select = Statement::new(
        "SELECT o.identity, o.revision, o.receiver, c.click_id, c.kind, c.transaction_id, r.status, \
         o.state, o.attempts, o.due, o.last_status, o.last_error, o.epoch, o.ended FROM outgoing_postbacks o \
         JOIN conversions c ON c.identity = o.identity \
         JOIN conversion_revisions r ON r.identity = o.identity AND r.revision = o.revision \
         WHERE o.state = $1",
    );
    let mut select = select.bind(state);
    if !receiver.is_empty() {
        select = select.push(" AND o.receiver = ").push_bind(receiver);
    }
    let select = select.push(" ORDER BY o.due DESC LIMIT ").push_bind(limit);
    Ok(tx.fetch_all(select).await?)
}

async fn queue_again(
    tx: &mut Transaction,
    id: &PostbackId<'_>,
    now: Micros,
) -> Result<bool, ConversionStoreError> {
    let select = Statement::new(
        "SELECT identity, revision, receiver FROM outgoing_postbacks \
         WHERE identity >= $1 AND identity < $2 AND epoch = $3 AND revision = $4",
    );
    // The first letter that no hash has.
    let end = format!("{}g", id.conversion);
    let select = select.bind(id.conversion).bind(end);
    let select = select.bind(id.epoch).bind(id.revision);
    let found: Option<IdentifiedPostback> = tx.fetch_optional(select).await?;
    let Some(IdentifiedPostback { key, receiver }) = found else {
        return Ok(false);
    };
    let update = key.bind_to(
        "UPDATE outgoing_postbacks SET due = $3, since = $3, ended = 0, \
         state = CASE WHEN receiver = '' THEN 'awaits_click' ELSE 'due' END \
         WHERE identity = $1 AND revision = $2",
    );
    tx.execute(update.bind(now)).await?;
    receivers::release(tx, &receiver).await?;
    receivers::refresh(tx, &receiver).await?;
    Ok(true)
}

impl<'a> PostbackId<'a> {
    fn parse(postback: &'a str) -> Option<Self> {
        let mut parts = postback.split('-');
        let (conversion, epoch, revision) = (parts.next()?, parts.next()?, parts.next()?);
        let is_hash = conversion.len() == 32 && conversion.bytes().all(|it| it.is_ascii_hexdigit());
        let id = Self {
            conversion,
            epoch: u64::from_str_radix(epoch, 16).ok()?,
            revision: revision.parse().ok()?,
        };
        (is_hash && parts.next().is_none()).then_some(id)
    }
}

impl PostbackRow {
    /// The time of day is `ahead` microseconds ahead of the queue's time. By how much it was when an earlier build ended
    /// a postback is not known.
    fn listed(self, ahead: i64) -> ListedPostback {
        let at = match self.ended {
            0 => self.due.saturating_add(ahead),
            ended => ended,
        };
        ListedPostback {
            postback: self.key.name(self.epoch),
            receiver: self.receiver,
            click_id: self.click_id,
            event: self.kind,
            transaction_id: self.transaction_id,
            status: self.status,
            state: self.state,
            attempts: self.attempts,
            at: rfc3339(at),
            last_status: self.last_status,
            last_error: self.last_error,
        }
    }
}
