//! What affiliates are to be told, queued in the transaction that judged it: which postbacks wait for their
//! click, which are due, and what became of each. How one is made and sent is not known here.

use super::sql::{Line, Tx, Value};
use super::{Ledger, LedgerError};
use std::cmp::Reverse;
use std::time::Duration;
use tracking_events::{ClickId, Micros};

/// Later than any time.
const NEVER: i64 = i64::MAX;

const STATES: [&str; 6] = [
    "awaits_click",
    "due",
    "delivered",
    "refused",
    "given_up",
    "click_unknown",
];

macro_rules! show {
    ($and:literal) => {
        concat!(
            "SELECT o.identity, o.revision, o.receiver, c.click_id, c.kind, c.transaction_id, r.status, \
             o.state, o.attempts, o.due, o.last_status, o.last_error FROM outgoing_postbacks o \
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
    /// It is known, and nobody wants to be told.
    Unwanted,
    /// Look again at this time.
    Later(Micros),
    /// It will not come any more.
    GivenUp,
}

/// A postback that is to be sent now, and that nobody else sends until its lease ends.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) key: Key,
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
    pub(crate) payout_minor: i64,
    pub(crate) currency: String,
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
    /// Attempts at the receiver that have failed in a row now.
    pub(crate) failures: u32,
}

/// How an attempt left its postback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Delivered,
    Refused,
    GivenUp,
    /// Nobody wants to be told of it any more.
    Unwanted,
    /// To be sent again at `due`; the receiver is left alone until `held_until`.
    Again {
        due: Micros,
        held_until: Micros,
    },
}

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
    /// Microseconds since 1970: when it is due, or when it ended.
    pub(crate) at: i64,
    pub(crate) last_status: i64,
    pub(crate) last_error: String,
}

impl Key {
    /// What receivers know the postback by: the same in each attempt.
    pub(crate) fn name(&self) -> String {
        let conversion: String = self.identity.chars().take(32).collect();
        format!("{conversion}-{}", self.revision)
    }

    fn values(&self) -> [Value<'_>; 2] {
        [
            Value::Text(&self.identity),
            Value::Number(self.revision.into()),
        ]
    }

    fn read(line: &Line, column: usize) -> Result<Self, LedgerError> {
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
) -> Result<(), LedgerError> {
    tx.execute(
        "INSERT INTO outgoing_postbacks (identity, revision, state, due, since, attempts, receiver, \
         click, last_status, last_error) VALUES ($1, $2, 'awaits_click', $3, $3, 0, '', '', 0, '')",
        &[
            Value::Text(identity),
            Value::Number(revision.into()),
            number(time),
        ],
    )
    .await?;
    Ok(())
}

impl Ledger {
    /// Postbacks whose click is to be looked for at `now`, at most so many.
    pub(crate) async fn awaiting(
        &self,
        now: Micros,
        most: usize,
    ) -> Result<Vec<Awaiting>, LedgerError> {
        let mut tx = self.begin().await?;
        let lines = tx
            .ask(
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
                click: ClickId::parse(click.as_bytes()).map_err(|_| LedgerError::Foreign(click))?,
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
    ) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        for (key, search) in searches {
            match search {
                Search::Found { receiver, click } => {
                    found(&mut tx, now, key, receiver, click).await?;
                }
                Search::Unwanted => remove(&mut tx, key).await?,
                Search::Later(due) => set_due(&mut tx, key, *due).await?,
                Search::GivenUp => set_state(&mut tx, now, key, "click_unknown", 0, "").await?,
            }
        }
        tx.commit().await
    }

    /// Takes postbacks that are due at `now` for whoever asks: no other is given them before `lease`.
    /// `room` says how many more a receiver, with so many failures in a row, may be sent. The revisions of
    /// a conversion come one after the other.
    pub(crate) async fn claim(
        &self,
        now: Micros,
        lease: Duration,
        most: usize,
        room: impl Fn(&str, u32) -> usize,
    ) -> Result<Vec<Claimed>, LedgerError> {
        let mut tx = self.begin().await?;
        let mut claimed = Vec::new();
        for (receiver, failures) in receivers_due(&mut tx, now, most).await? {
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
    ) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        for attempt in attempts {
            keep(&mut tx, now, attempt).await?;
        }
        for attempt in attempts {
            refresh(&mut tx, &attempt.receiver).await?;
        }
        tx.commit().await
    }

    /// How many postbacks are in each state that is not their end.
    pub(crate) async fn unfinished(&self) -> Result<Vec<(String, i64)>, LedgerError> {
        let mut tx = self.begin().await?;
        let mut counts = Vec::new();
        for state in ["awaits_click", "due"] {
            let sql = "SELECT COUNT(*) FROM outgoing_postbacks WHERE state = $1";
            let lines = tx.ask(sql, &[Value::Text(state)]).await?;
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
    ) -> Result<Vec<Shown>, LedgerError> {
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
            for line in tx.ask(sql, asked).await? {
                shown.push(Shown::read(&line)?);
            }
        }
        shown.sort_by_key(|it| Reverse(it.at));
        shown.truncate(most);
        Ok(shown)
    }

    /// Forgets what ended before a time.
    pub(crate) async fn forget(&self, before: Micros) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        tx.execute(
            "DELETE FROM outgoing_postbacks \
             WHERE state IN ('delivered', 'refused', 'given_up', 'click_unknown') AND due < $1",
            &[number(before)],
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
) -> Result<(), LedgerError> {
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
    refresh(tx, receiver).await
}

async fn remove(tx: &mut Tx, key: &Key) -> Result<(), LedgerError> {
    let sql = "DELETE FROM outgoing_postbacks WHERE identity = $1 AND revision = $2";
    tx.execute(sql, &key.values()).await?;
    Ok(())
}

async fn set_due(tx: &mut Tx, key: &Key, due: Micros) -> Result<(), LedgerError> {
    let [identity, revision] = key.values();
    tx.execute(
        "UPDATE outgoing_postbacks SET due = $3 WHERE identity = $1 AND revision = $2",
        &[identity, revision, number(due)],
    )
    .await?;
    Ok(())
}

/// Says how it stands, and when it is due or when it ended.
async fn set_state(
    tx: &mut Tx,
    at: Micros,
    key: &Key,
    state: &str,
    status: u16,
    error: &str,
) -> Result<(), LedgerError> {
    let [identity, revision] = key.values();
    tx.execute(
        "UPDATE outgoing_postbacks SET state = $3, due = $4, last_status = $5, last_error = $6 \
         WHERE identity = $1 AND revision = $2",
        &[
            identity,
            revision,
            Value::Text(state),
            number(at),
            Value::Number(status.into()),
            Value::Text(error),
        ],
    )
    .await?;
    Ok(())
}

/// Receivers with something to be sent, and how often they have failed in a row.
async fn receivers_due(
    tx: &mut Tx,
    now: Micros,
    most: usize,
) -> Result<Vec<(String, u32)>, LedgerError> {
    let lines = tx
        .ask(
            "SELECT receiver, failures FROM outgoing_receivers WHERE next_due <= $1 \
             ORDER BY next_due LIMIT $2",
            &[number(now), limit(most)],
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
) -> Result<Vec<(i64, Claimed)>, LedgerError> {
    let lines = tx
        .ask(
            "SELECT o.identity, o.revision, o.due, o.since, o.attempts, o.click, c.click_id, c.kind, \
             c.kind_name, c.transaction_id, r.status, r.payout_minor, r.currency, r.time \
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
        let claimed = Claimed {
            key: Key::read(line, 0)?,
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
                payout_minor: line.number(11)?,
                currency: line.text(12)?,
                time: time(line.number(13)?),
            },
        };
        Ok((line.number(2)?, claimed))
    });
    due.collect()
}

/// False when another aggregator was faster.
async fn lease_it(tx: &mut Tx, key: &Key, seen: i64, lease: Micros) -> Result<bool, LedgerError> {
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

async fn keep(tx: &mut Tx, now: Micros, attempt: &Attempt) -> Result<(), LedgerError> {
    let (state, at, held_until) = match attempt.end {
        End::Delivered => ("delivered", now, Micros(0)),
        End::Refused => ("refused", now, Micros(0)),
        End::GivenUp => ("given_up", now, Micros(0)),
        End::Again { due, held_until } => ("due", due, held_until),
        End::Unwanted => return remove(tx, &attempt.key).await,
    };
    set_state(tx, at, &attempt.key, state, attempt.status, &attempt.error).await?;
    tx.execute(
        "UPDATE outgoing_receivers SET failures = $2, held_until = $3 WHERE receiver = $1",
        &[
            Value::Text(&attempt.receiver),
            Value::Number(attempt.failures.into()),
            number(held_until),
        ],
    )
    .await?;
    Ok(())
}

/// Says anew when the receiver's next postback is due.
async fn refresh(tx: &mut Tx, receiver: &str) -> Result<(), LedgerError> {
    tx.execute(
        "UPDATE outgoing_receivers SET next_due = (SELECT CASE WHEN MIN(o.due) IS NULL THEN $2 \
         WHEN MIN(o.due) < outgoing_receivers.held_until THEN outgoing_receivers.held_until \
         ELSE MIN(o.due) END FROM outgoing_postbacks o WHERE o.state = 'due' AND o.receiver = $1) \
         WHERE receiver = $1",
        &[Value::Text(receiver), Value::Number(NEVER)],
    )
    .await?;
    Ok(())
}

impl Shown {
    fn read(line: &Line) -> Result<Self, LedgerError> {
        Ok(Self {
            postback: Key::read(line, 0)?.name(),
            receiver: line.text(2)?,
            click_id: line.text(3)?,
            event: line.text(4)?,
            transaction_id: line.text(5)?,
            status: line.text(6)?,
            state: line.text(7)?,
            attempts: line.number(8)?,
            at: line.number(9)?,
            last_status: line.number(10)?,
            last_error: line.text(11)?,
        })
    }
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
