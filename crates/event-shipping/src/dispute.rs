//! When the aggregator's answer shows that an edge must not go on under its journal id: another process
//! wrote under it, or the aggregator's memory is older than its own acknowledgements.

use crate::LaneState;

/// Why a lane can't go on under its journal id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisputeKind {
    /// The aggregator received sequences that this journal never gave out under this id: the edge's data
    /// directory was restored from an older copy, or runs on another host, too.
    OtherWriter,
    /// The aggregator received less than it has acknowledged: its data directory was restored from an
    /// older copy.
    AggregatorRestored,
    /// The aggregator received sequences that this journal may have given out under this id and does not
    /// hold: the edge's data directory was restored from an older copy, or a power cut took them.
    EventsMissing,
}

/// What an edge's journal holds of one lane under one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// No sequence above this can have been given out.
    pub given_out: u64,
    /// The last sequence that is there or was acknowledged.
    pub last: u64,
}

/// A lane that the edge and the aggregator disagree about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispute {
    /// Why.
    pub kind: DisputeKind,
    /// The lane as the aggregator sees it.
    pub state: LaneState,
}

impl DisputeKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::OtherWriter,
        Self::AggregatorRestored,
        Self::EventsMissing,
    ];

    /// The word used in logs and as a metric's label.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::OtherWriter => "other_writer",
            Self::AggregatorRestored => "aggregator_restored",
            Self::EventsMissing => "events_missing",
        }
    }

    /// What most likely happened, and what an operator should do.
    #[must_use]
    pub const fn likely_cause(self) -> &'static str {
        match self {
            Self::OtherWriter => {
                "this edge's data directory was restored from an older copy, or another host runs with a \
                 copy of it; no event is lost, but stop the other one"
            }
            Self::AggregatorRestored => {
                "the aggregator's data directory was restored from an older copy; events that it had and \
                 did not acknowledge may be counted twice"
            }
            Self::EventsMissing => {
                "this edge's data directory was restored from an older copy, or a power cut took events that \
                 had been shipped; those that had not been shipped are lost with them"
            }
        }
    }
}

/// Compares the aggregator's state of a lane with what its edge knows: what the journal has `held`, and up to
/// where an aggregator has `acknowledged` it.
pub(crate) const fn of(state: &LaneState, held: Held, acknowledged: u64) -> Option<DisputeKind> {
    if state.received > held.given_out {
        Some(DisputeKind::OtherWriter)
    } else if state.received > held.last {
        Some(DisputeKind::EventsMissing)
    } else if state.received < acknowledged {
        Some(DisputeKind::AggregatorRestored)
    } else {
        None
    }
}
