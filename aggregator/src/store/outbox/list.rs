//! The queue as people see it: how much waits, and the newest postbacks.

use super::super::sql::{Row, Value};
use super::super::{ConversionStore, ConversionStoreError, rfc3339};
use super::{Key, limit, number, refresh_all};
use domain::Micros;
use std::cmp::Reverse;

const STATES: [&str; 7] = [
    "awaits_click",
    "due",
    "delivered",
    "refused",
    "given_up",
    "click_unknown",
    "unwanted",
];

macro_rules! show {
    ($and:literal) => {
        concat!(
            "SELECT o.identity, o.revision, o.receiver, c.click_id, c.kind, c.transaction_id, r.status, \
             o.state, o.attempts, o.due, o.last_status, o.last_error, o.epoch, o.ended FROM outgoing_postbacks o \
             JOIN conversions c ON c.identity = o.identity \
             JOIN conversion_revisions r ON r.identity = o.identity AND r.revision = o.revision \
             WHERE o.state = $1",
            $and,
            " ORDER BY o.due DESC LIMIT $2"
        )
    };
}
const SHOW_ALL: &str = show!("");
const SHOW_RECEIVER: &str = show!(" AND o.receiver = $3");

/// A postback as people are shown it.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Shown {
    pub(crate) postback: String,
    pub(crate) receiver: String,
    pub(crate) click_id: String,
    pub(crate) event: String,
    pub(crate) transaction_id: String,
    pub(crate) status: String,
    pub(crate) state: String,
    pub(crate) attempts: i64,
    /// When it is due, as far as the aggregator works until then, or when it ended.
    pub(crate) at: String,
    pub(crate) last_status: i64,
    pub(crate) last_error: String,
}

impl ConversionStore {
    /// How many postbacks are in each state that is not their end.
    pub(crate) async fn unfinished(&self) -> Result<Vec<(String, i64)>, ConversionStoreError> {
        let mut tx = self.begin().await?;
        let mut counts = Vec::new();
        for state in ["awaits_click", "due"] {
            let sql = "SELECT COUNT(*) FROM outgoing_postbacks WHERE state = $1";
            let lines = tx.fetch_all(sql, &[Value::Text(state)]).await?;
            let count = lines.first().map_or(Ok(0), |line| line.number(0))?;
            counts.push((state.to_owned(), count));
        }
        Ok(counts)
    }

    /// The newest postbacks, to all receivers and in all states where these are empty.
    pub(crate) async fn shown(
        &self,
        receiver: &str,
        state: &str,
        most: usize,
    ) -> Result<Vec<Shown>, ConversionStoreError> {
        let wall = Micros::now();
        let steady = self.steady_clock(wall).await?.now();
        let ahead = wall.0.cast_signed() - steady.0.cast_signed();
        let mut tx = self.begin().await?;
        let mut shown = Vec::new();
        // State by state, so that an index finds the newest of each.
        for each in STATES
            .into_iter()
            .filter(|it| state.is_empty() || *it == state)
        {
            let sql = if receiver.is_empty() {
                SHOW_ALL
            } else {
                SHOW_RECEIVER
            };
            let values = [Value::Text(each), limit(most), Value::Text(receiver)];
            let asked = if receiver.is_empty() {
                &values[..2]
            } else {
                &values[..]
            };
            for line in tx.fetch_all(sql, asked).await? {
                shown.push((line.number(9)?, Shown::read(&line, ahead)?));
            }
        }
        shown.sort_by_key(|(due, _)| Reverse(*due));
        shown.truncate(most);
        Ok(shown.into_iter().map(|(_, shown)| shown).collect())
    }
}

impl ConversionStore {
    /// Has a postback sent now, in whichever state it is, under the id that it has. False when there is none of
    /// this name.
    pub(crate) async fn resend(&self, postback: &str) -> Result<bool, ConversionStoreError> {
        let Some((conversion, epoch, revision)) = parts(postback) else {
            return Ok(false);
        };
        let now = self.steady_clock(Micros::now()).await?.now();
        let mut tx = self.begin().await?;
        let end = format!("{conversion}g");
        let found = tx
            .fetch_all(
                "SELECT identity, receiver FROM outgoing_postbacks \
                 WHERE identity >= $1 AND identity < $2 AND epoch = $3 AND revision = $4",
                &[Value::Text(conversion), Value::Text(&end), epoch, revision],
            )
            .await?;
        let Some(line) = found.first() else {
            return Ok(false);
        };
        let (identity, receiver) = (line.text(0)?, line.text(1)?);
        let now = number(now);
        tx.execute(
            "UPDATE outgoing_postbacks SET due = $3, since = $3, ended = 0, \
             state = CASE WHEN receiver = '' THEN 'awaits_click' ELSE 'due' END \
             WHERE identity = $1 AND revision = $2",
            &[Value::Text(&identity), revision, now],
        )
        .await?;
        tx.execute(
            "UPDATE outgoing_receivers SET held_until = 0 WHERE receiver = $1",
            &[Value::Text(&receiver)],
        )
        .await?;
        refresh_all(&mut tx, [receiver.as_str()].into_iter()).await?;
        tx.commit().await?;
        self.announced.notify_one();
        Ok(true)
    }
}

/// Conversion, epoch and revision in a postback's name.
fn parts(postback: &str) -> Option<(&str, Value<'static>, Value<'static>)> {
    let mut parts = postback.split('-');
    let (conversion, epoch, revision) = (parts.next()?, parts.next()?, parts.next()?);
    let is_hash = conversion.len() == 32 && conversion.bytes().all(|it| it.is_ascii_hexdigit());
    let epoch = u64::from_str_radix(epoch, 16).ok()?;
    let revision: u32 = revision.parse().ok()?;
    let number = Value::Number(epoch.cast_signed());
    (is_hash && parts.next().is_none()).then_some((
        conversion,
        number,
        Value::Number(revision.into()),
    ))
}

impl Shown {
    /// Reads a row; the time of day is so many microseconds ahead of the queue's now. How far it was when an earlier
    /// build ended a postback is not known.
    fn read(line: &Row, ahead: i64) -> Result<Self, ConversionStoreError> {
        let at = match line.number(13)? {
            0 => line.number(9)?.saturating_add(ahead),
            ended => ended,
        };
        Ok(Self {
            postback: Key::read(line, 0)?.name(line.number(12)?.cast_unsigned()),
            receiver: line.text(2)?,
            click_id: line.text(3)?,
            event: line.text(4)?,
            transaction_id: line.text(5)?,
            status: line.text(6)?,
            state: line.text(7)?,
            attempts: line.number(8)?,
            at: rfc3339(at),
            last_status: line.number(10)?,
            last_error: line.text(11)?,
        })
    }
}
