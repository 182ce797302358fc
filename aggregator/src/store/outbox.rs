//! What affiliates are to be told, queued in the transaction that judged it: which postbacks wait for their
//! click, which are due, and what became of each. How one is made and sent is not known here.

mod list;

use super::sql::{Row, Tx, Value};
use super::{ConversionStore, ConversionStoreError};
use domain::{Currency, Micros, Money};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;
use tracking_events::ClickId;

/// Later than any time.
const NEVER: i64 = i64::MAX;
/// Receivers looked at in one turn: far more than can be sent to at once, so that those without room leave
/// the turn to others.
const RECEIVERS: usize = 4_096;
/// Rows changed by one chore at most.
const CHORE: usize = 1_000;

/// A revision of a conversion, as the queue knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The conversion's.
    pub(crate) identity: String,
    pub(crate) revision: u32,
}

/// A postback whose click is looked for.
#[derive(Debug)]
pub(crate) struct Awaiting {
    pub(crate) key: Key,
    pub(crate) click: ClickId,
    /// Since when.
    pub(crate) since: Micros,
}

/// What the search for a click led to.
#[derive(Debug)]
pub(crate) enum Search {
    /// The click is known.
    Found {
        receiver: String,
        /// What may be told of it (JSON).
        click: String,
    },
    /// The click is known and has no subscriber.
    Unwanted,
    /// Look again at this time.
    Later(Micros),
    /// It will not come any more.
    GivenUp,
}

/// A postback that is due. It is leased: no other dispatcher sends it until the lease ends.
#[derive(Debug)]
pub(crate) struct LeasedPostback {
    pub(crate) key: Key,
    /// The epoch that its revision was made in.
    pub(crate) epoch: u64,
    pub(crate) receiver: String,
    pub(crate) click: String,
    /// Since when it is to be sent.
    pub(crate) since: Micros,
    /// This one included.
    pub(crate) attempts: u32,
    /// Attempts at the receiver that failed since one did not.
    pub(crate) failures: u32,
    pub(crate) sale: Sale,
}

/// A conversion as it stood at a revision, in the words of the tables.
#[derive(Debug, Clone)]
pub(crate) struct Sale {
    pub(crate) click_id: String,
    pub(crate) kind: String,
    pub(crate) kind_name: String,
    pub(crate) transaction: String,
    pub(crate) status: String,
    pub(crate) payout: Money,
    pub(crate) time: Micros,
}

/// What became of an attempt.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) key: Key,
    pub(crate) receiver: String,
    pub(crate) end: End,
    /// The status code answered; 0 without one.
    pub(crate) status: u16,
    /// What went wrong, or nothing.
    pub(crate) error: String,
    /// Which attempt at the postback it was.
    pub(crate) attempts: u32,
    /// Attempts at the receiver that had failed in a row when it began.
    pub(crate) failures: u32,
    pub(crate) endpoint_health: EndpointHealth,
}

/// How an attempt left its postback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Delivered,
    Refused,
    GivenUp,
    /// It has no subscriber.
    Unwanted,
    /// To be sent again at this time.
    Again(Micros),
}

/// What an attempt says of its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndpointHealth {
    /// It answers.
    Healthy,
    /// It does not, or wants to be left alone, until then.
    Failing { held_until: Micros },
    /// It was not asked.
    Unknown,
}

impl Key {
    /// What receivers know the postback by: the same in each attempt, and never used for another revision, also
    /// when a store was lost and the numbers of revisions began again.
    pub(crate) fn name(&self, epoch: u64) -> String {
        let conversion: String = self.identity.chars().take(32).collect();
        format!("{conversion}-{epoch:x}-{}", self.revision)
    }

    fn values(&self) -> [Value<'_>; 2] {
        [
            Value::Text(&self.identity),
            Value::Number(self.revision.into()),
        ]
    }

    fn read(line: &Row, column: usize) -> Result<Self, ConversionStoreError> {
        Ok(Self {
            identity: line.text(column)?,
            revision: u32::try_from(line.number(column + 1)?).unwrap_or(u32::MAX),
        })
    }
}

/// Queues what was judged just now.
pub(super) async fn enqueue(
    tx: &mut Tx,
    identity: &str,
    revision: u32,
    time: Micros,
) -> Result<(), ConversionStoreError> {
    tx.execute(
        "INSERT INTO outgoing_postbacks (identity, revision, state, due, since, attempts, receiver, \
         click, last_status, last_error, epoch) VALUES ($1, $2, 'awaits_click', $3, $3, 0, '', '', 0, '', \
         COALESCE((SELECT epoch FROM store_epoch), 0))",
        &[
            Value::Text(identity),
            Value::Number(revision.into()),
            number(time),
        ],
    )
    .await?;
    Ok(())
}

/// Queues a revision that a store of an earlier epoch made, under the id that it had.
pub(super) async fn enqueue_again(
    tx: &mut Tx,
    identity: &str,
    revision: u32,
    epoch: u64,
    time: Micros,
) -> Result<(), ConversionStoreError> {
    tx.execute(
        "INSERT INTO outgoing_postbacks (identity, revision, state, due, since, attempts, receiver, \
         click, last_status, last_error, epoch) VALUES ($1, $2, 'awaits_click', $3, $3, 0, '', '', 0, '', $4) \
         ON CONFLICT (identity, revision) DO NOTHING",
        &[
            Value::Text(identity),
            Value::Number(revision.into()),
            number(time),
            Value::Number(epoch.cast_signed()),
        ],
    )
    .await?;
    Ok(())
}

impl ConversionStore {
    /// Postbacks whose click is to be looked for at `now`, at most so many.
    pub(crate) async fn awaiting(
        &self,
        now: Micros,
        most: usize,
    ) -> Result<Vec<Awaiting>, ConversionStoreError> {
        let mut tx = self.begin().await?;
        let lines = tx
            .fetch_all(
                "SELECT o.identity, o.revision, c.click_id, o.since FROM outgoing_postbacks o \
                 JOIN conversions c ON c.identity = o.identity \
                 WHERE o.state = 'awaits_click' AND o.due <= $1 ORDER BY o.due LIMIT $2",
                &[number(now), limit(most)],
            )
            .await?;
        let awaiting = lines.iter().map(|line| {
            let click = line.text(2)?;
            Ok(Awaiting {
                key: Key::read(line, 0)?,
                click: ClickId::parse(click.as_bytes())
                    .map_err(|_| ConversionStoreError::Foreign(click))?,
                since: time(line.number(3)?),
            })
        });
        awaiting.collect()
    }

    /// Keeps what searches for clicks led to.
    pub(crate) async fn searched(
        &self,
        now: Micros,
        searches: &[(Key, Search)],
    ) -> Result<(), ConversionStoreError> {
        let mut tx = self.begin().await?;
        let mut receivers = BTreeSet::new();
        for (key, search) in searches {
            match search {
                Search::Found { receiver, click } => {
                    found(&mut tx, now, key, receiver, click).await?;
                    receivers.insert(receiver.as_str());
                }
                Search::Unwanted => searched(&mut tx, key, "unwanted", now).await?,
                Search::Later(due) => searched(&mut tx, key, "awaits_click", *due).await?,
                Search::GivenUp => searched(&mut tx, key, "click_unknown", now).await?,
            }
        }
        refresh_all(&mut tx, receivers.into_iter()).await?;
        tx.commit().await
    }

    /// Leases due postbacks, at most so many: no other dispatcher receives them before `lease`
    /// is over. `room` says how many more a receiver, with so many failures in a row, may be sent. The
    /// revisions of a conversion come one after the other.
    pub(crate) async fn claim(
        &self,
        now: impl Fn() -> Micros,
        lease: Duration,
        most: usize,
        room: impl Fn(&str, u32) -> usize,
    ) -> Result<Vec<LeasedPostback>, ConversionStoreError> {
        let mut tx = self.begin().await?;
        // Only now: it may have taken a while to get a connection.
        let now = now();
        let mut claimed = Vec::new();
        let mut receivers = receivers_due(&mut tx, now).await?;
        // Those with the most room first: who is slow does not take what others leave.
        receivers.sort_by_key(|(receiver, failures)| Reverse(room(receiver, *failures)));
        for (receiver, failures) in receivers {
            let room = room(&receiver, failures).min(most - claimed.len());
            if room > 0 {
                let due = due(&mut tx, now, &receiver, failures, room).await?;
                for (seen, postback) in due {
                    if lease_it(&mut tx, &postback.key, seen, later(now, lease)).await? {
                        claimed.push(postback);
                    }
                }
                refresh(&mut tx, &receiver).await?;
            }
        }
        tx.commit().await?;
        Ok(claimed)
    }

    /// Keeps what became of attempts.
    pub(crate) async fn attempted(
        &self,
        now: Micros,
        attempts: &[Attempt],
    ) -> Result<(), ConversionStoreError> {
        let mut tx = self.begin().await?;
        let mut kept = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            if keep(&mut tx, now, attempt).await? {
                kept.push(attempt);
            }
        }
        // In one order everywhere, so that two aggregators don't wait for each other.
        kept.sort_by_key(|attempt| &attempt.receiver);
        for attempt in &kept {
            judge_receiver(&mut tx, attempt).await?;
        }
        let receivers: BTreeSet<&str> = kept.iter().map(|it| it.receiver.as_str()).collect();
        refresh_all(&mut tx, receivers.into_iter()).await?;
        tx.commit().await
    }

    /// Gives up what has been due since before a time and is not being sent at `now`: a receiver that does
    /// not answer is tried too seldom for each of its postbacks to have a last attempt.
    pub(crate) async fn give_up(
        &self,
        now: Micros,
        before: Micros,
    ) -> Result<u64, ConversionStoreError> {
        let mut tx = self.begin().await?;
        let given_up = tx
            .execute(
                "UPDATE outgoing_postbacks SET state = 'given_up', ended = $4 WHERE (identity, revision) IN \
                 (SELECT identity, revision FROM outgoing_postbacks \
                 WHERE state = 'due' AND due <= $1 AND since < $2 LIMIT $3)",
                &[
                    number(now),
                    number(before),
                    limit(CHORE),
                    number(Micros::now()),
                ],
            )
            .await?;
        tx.commit().await?;
        Ok(given_up)
    }

    /// Forgets some of what ended before a time.
    pub(crate) async fn forget(&self, before: Micros) -> Result<(), ConversionStoreError> {
        let mut tx = self.begin().await?;
        tx.execute(
            "DELETE FROM outgoing_postbacks WHERE (identity, revision) IN \
             (SELECT identity, revision FROM outgoing_postbacks WHERE state IN \
             ('delivered', 'refused', 'given_up', 'click_unknown', 'unwanted') AND due < $1 LIMIT $2)",
            &[number(before), limit(CHORE)],
        )
        .await?;
        tx.commit().await
    }
}

async fn found(
    tx: &mut Tx,
    now: Micros,
    key: &Key,
    receiver: &str,
    click: &str,
) -> Result<(), ConversionStoreError> {
    let [identity, revision] = key.values();
    tx.execute(
        "UPDATE outgoing_postbacks SET state = 'due', due = $3, since = $3, receiver = $4, click = $5 \
         WHERE identity = $1 AND revision = $2 AND state = 'awaits_click'",
        &[
            identity,
            revision,
            number(now),
            Value::Text(receiver),
            Value::Text(click),
        ],
    )
    .await?;
    tx.execute(
        "INSERT INTO outgoing_receivers (receiver, next_due, held_until, failures) \
         VALUES ($1, $2, 0, 0) ON CONFLICT (receiver) DO NOTHING",
        &[Value::Text(receiver), Value::Number(NEVER)],
    )
    .await?;
    Ok(())
}

/// Says what became of a search; nothing where another aggregator was faster.
async fn searched(
    tx: &mut Tx,
    key: &Key,
    state: &str,
    at: Micros,
) -> Result<(), ConversionStoreError> {
    let [identity, revision] = key.values();
    tx.execute(
        "UPDATE outgoing_postbacks SET state = $3, due = $4, ended = $5 \
         WHERE identity = $1 AND revision = $2 AND state = 'awaits_click'",
        &[
            identity,
            revision,
            Value::Text(state),
            number(at),
            ended(state != "awaits_click"),
        ],
    )
    .await?;
    Ok(())
}

/// Receivers with something to be sent, and how often they have failed in a row.
async fn receivers_due(
    tx: &mut Tx,
    now: Micros,
) -> Result<Vec<(String, u32)>, ConversionStoreError> {
    let lines = tx
        .fetch_all(
            "SELECT receiver, failures FROM outgoing_receivers WHERE next_due <= $1 \
             ORDER BY next_due LIMIT $2",
            &[number(now), limit(RECEIVERS)],
        )
        .await?;
    let receivers = lines.iter().map(|line| {
        let failures = u32::try_from(line.number(1)?).unwrap_or(u32::MAX);
        Ok((line.text(0)?, failures))
    });
    receivers.collect()
}

/// Postbacks to a receiver that are to be sent, each with when it was due. One of a conversion waits for those of
/// earlier revisions.
async fn due(
    tx: &mut Tx,
    now: Micros,
    receiver: &str,
    failures: u32,
    most: usize,
) -> Result<Vec<(i64, LeasedPostback)>, ConversionStoreError> {
    let lines = tx
        .fetch_all(
            "SELECT o.identity, o.revision, o.due, o.since, o.attempts, o.click, c.click_id, c.kind, \
             c.kind_name, c.transaction_id, r.status, r.payout_minor, r.currency, r.time, o.epoch \
             FROM outgoing_postbacks o \
             JOIN conversions c ON c.identity = o.identity \
             JOIN conversion_revisions r ON r.identity = o.identity AND r.revision = o.revision \
             WHERE o.state = 'due' AND o.receiver = $1 AND o.due <= $2 AND NOT EXISTS \
             (SELECT 1 FROM outgoing_postbacks e WHERE e.identity = o.identity \
             AND e.revision < o.revision AND e.state IN ('awaits_click', 'due')) \
             ORDER BY o.due LIMIT $3",
            &[Value::Text(receiver), number(now), limit(most)],
        )
        .await?;
    let due = lines.iter().map(|line| {
        let claimed = LeasedPostback {
            key: Key::read(line, 0)?,
            epoch: line.number(14)?.cast_unsigned(),
            receiver: receiver.to_owned(),
            click: line.text(5)?,
            since: time(line.number(3)?),
            attempts: u32::try_from(line.number(4)?)
                .unwrap_or(u32::MAX)
                .saturating_add(1),
            failures,
            sale: Sale {
                click_id: line.text(6)?,
                kind: line.text(7)?,
                kind_name: line.text(8)?,
                transaction: line.text(9)?,
                status: line.text(10)?,
                payout: Money {
                    minor: line.number(11)?,
                    currency: Currency::from_stored(&line.text(12)?),
                },
                time: time(line.number(13)?),
            },
        };
        Ok((line.number(2)?, claimed))
    });
    due.collect()
}

/// False when another aggregator was faster.
async fn lease_it(
    tx: &mut Tx,
    key: &Key,
    seen: i64,
    lease: Micros,
) -> Result<bool, ConversionStoreError> {
    let [identity, revision] = key.values();
    let taken = tx
        .execute(
            "UPDATE outgoing_postbacks SET due = $4, attempts = attempts + 1 \
             WHERE identity = $1 AND revision = $2 AND state = 'due' AND due = $3",
            &[identity, revision, Value::Number(seen), number(lease)],
        )
        .await?;
    Ok(taken == 1)
}

/// Keeps an attempt; false when its lease had ended and another one has begun since.
async fn keep(tx: &mut Tx, now: Micros, attempt: &Attempt) -> Result<bool, ConversionStoreError> {
    let (state, at) = match attempt.end {
        End::Delivered => ("delivered", now),
        End::Refused => ("refused", now),
        End::GivenUp => ("given_up", now),
        End::Unwanted => ("unwanted", now),
        End::Again(due) => ("due", due),
    };
    let [identity, revision] = attempt.key.values();
    let kept = tx
        .execute(
            "UPDATE outgoing_postbacks SET state = $3, due = $4, last_status = $5, last_error = $6, ended = $8 \
             WHERE identity = $1 AND revision = $2 AND state = 'due' AND attempts = $7",
            &[
                identity,
                revision,
                Value::Text(state),
                number(at),
                Value::Number(attempt.status.into()),
                Value::Text(&attempt.error),
                Value::Number(attempt.attempts.into()),
                ended(state != "due"),
            ],
        )
        .await?;
    Ok(kept == 1)
}

/// What an attempt says of its receiver. One that began before the receiver was held says nothing new.
async fn judge_receiver(tx: &mut Tx, attempt: &Attempt) -> Result<(), ConversionStoreError> {
    let receiver = Value::Text(&attempt.receiver);
    match attempt.endpoint_health {
        EndpointHealth::Unknown => {}
        EndpointHealth::Healthy => {
            tx.execute(
                "UPDATE outgoing_receivers SET failures = 0, held_until = 0 \
                 WHERE receiver = $1 AND failures <= $2",
                &[receiver, Value::Number(attempt.failures.into())],
            )
            .await?;
        }
        EndpointHealth::Failing { held_until } => {
            tx.execute(
                "UPDATE outgoing_receivers SET failures = $2, held_until = $3 \
                 WHERE receiver = $1 AND failures <= $2 AND held_until < $3",
                &[
                    receiver,
                    Value::Number(attempt.failures.saturating_add(1).into()),
                    number(held_until),
                ],
            )
            .await?;
        }
    }
    Ok(())
}

async fn refresh_all<'r>(
    tx: &mut Tx,
    receivers: impl Iterator<Item = &'r str>,
) -> Result<(), ConversionStoreError> {
    for receiver in receivers {
        refresh(tx, receiver).await?;
    }
    Ok(())
}

/// Recomputes the endpoint's next due time; a postback that waits for an earlier revision is not due.
async fn refresh(tx: &mut Tx, receiver: &str) -> Result<(), ConversionStoreError> {
    // Its row is locked first: what others have just committed is seen only by a statement that begins
    // after that.
    let lock = "UPDATE outgoing_receivers SET next_due = next_due WHERE receiver = $1";
    tx.execute(lock, &[Value::Text(receiver)]).await?;
    tx.execute(
        "UPDATE outgoing_receivers SET next_due = (SELECT CASE WHEN MIN(o.due) IS NULL THEN $2 \
         WHEN MIN(o.due) < outgoing_receivers.held_until THEN outgoing_receivers.held_until \
         ELSE MIN(o.due) END FROM outgoing_postbacks o WHERE o.state = 'due' AND o.receiver = $1 \
         AND NOT EXISTS (SELECT 1 FROM outgoing_postbacks e WHERE e.identity = o.identity \
         AND e.revision < o.revision AND e.state IN ('awaits_click', 'due'))) \
         WHERE receiver = $1",
        &[Value::Text(receiver), Value::Number(NEVER)],
    )
    .await?;
    Ok(())
}

/// The time of day for what has ended now.
fn ended(has_ended: bool) -> Value<'static> {
    number(if has_ended { Micros::now() } else { Micros(0) })
}

const fn number(time: Micros) -> Value<'static> {
    Value::Number(time.0.cast_signed())
}

const fn time(number: i64) -> Micros {
    Micros(number.cast_unsigned())
}

fn limit(most: usize) -> Value<'static> {
    Value::Number(i64::try_from(most).unwrap_or(i64::MAX))
}

fn later(now: Micros, by: Duration) -> Micros {
    Micros(
        now.0
            .saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)),
    )
}
