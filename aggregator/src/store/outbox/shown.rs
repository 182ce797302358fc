//! The queue as people see it: how much waits, and the newest postbacks.

use super::super::sql::{Line, Value};
use super::super::{Ledger, LedgerError};
use super::{Key, limit};
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
             o.state, o.attempts, o.due, o.last_status, o.last_error, o.epoch FROM outgoing_postbacks o \
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
    /// Microseconds since 1970: when it is due, or when it ended.
    pub(crate) at: i64,
    pub(crate) last_status: i64,
    pub(crate) last_error: String,
}

impl Ledger {
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
}

impl Shown {
    fn read(line: &Line) -> Result<Self, LedgerError> {
        Ok(Self {
            postback: Key::read(line, 0)?.name(line.number(12)?.cast_unsigned()),
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
