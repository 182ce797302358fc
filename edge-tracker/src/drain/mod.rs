//! Ships every event of a data directory before the directory is given up. `control` reaches the running edge, whose
//! side of a drain is in `node::draining`; `offline` ships the journal of an edge that does not run; `command` is what
//! an operator starts.
//!
//! Invariant: a command succeeds only when the aggregator has acknowledged every event of the directory.

mod command;
pub(crate) mod control;
mod error;
mod offline;
mod report;

pub use command::{AdoptOptions, DrainOptions, adopt, drain};
pub use error::DrainError;

use crate::shipper::Remaining;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The request to drain a running edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainRequest {
    /// For how long the edge still accepts clicks after its readiness has failed, in milliseconds.
    drain_after_ms: u64,
}

impl DrainRequest {
    pub(crate) fn after(delay: Duration) -> Self {
        Self {
            drain_after_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(crate) const fn delay(self) -> Duration {
        Duration::from_millis(self.drain_after_ms)
    }
}

/// The stage of a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// No drain was requested.
    #[default]
    Serving,
    /// Not ready, but clicks are accepted: load balancers move away.
    Leaving,
    /// No connection is accepted; requests in flight are answered.
    Closing,
    /// No event is accepted; those in the journal are shipped.
    Shipping,
    /// The aggregator has acknowledged every event.
    Drained,
}

/// The progress of a drain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    /// Events that were not acknowledged, once no more are accepted.
    pub(crate) events: Option<u64>,
    /// The bytes of these events in the journal.
    pub(crate) bytes: Option<u64>,
    /// Why nothing is shipped.
    pub(crate) problem: Option<String>,
}

impl Progress {
    pub(crate) fn at(stage: Stage) -> Self {
        Self {
            stage,
            ..Self::default()
        }
    }
}

impl From<&Remaining> for Progress {
    fn from(remaining: &Remaining) -> Self {
        let is_drained = remaining.is_empty();
        Self {
            stage: if is_drained {
                Stage::Drained
            } else {
                Stage::Shipping
            },
            events: Some(remaining.count.events),
            bytes: Some(remaining.count.bytes),
            problem: remaining.problem.clone().filter(|_| !is_drained),
        }
    }
}
