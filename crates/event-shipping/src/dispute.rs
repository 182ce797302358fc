//! Disputes: an aggregator's lane state after which an edge must not continue under its journal id.
//! Either another process wrote under the id, or the aggregator's state is older than its own
//! acknowledgements.

use crate::LaneState;

/// Why a lane can't continue under its journal id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisputeKind {
    /// The aggregator received sequences that this journal never assigned under this id: the edge's data
    /// directory was restored from an older copy, or another host runs with a copy of it.
    OtherWriter,
    /// The aggregator received less than it has acknowledged: its data directory was restored from an
    /// older copy.
    AggregatorRestored,
    /// The aggregator received sequences that this journal may have assigned under this id and no longer
    /// holds: the edge's data directory was restored from an older copy, or a power loss destroyed them.
    EventsMissing,
}

/// The sequences that an edge's journal holds of one lane under one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldSequences {
    /// The highest sequence that can have been assigned.
    pub highest_assigned: u64,
    /// The last sequence that exists or was acknowledged.
    pub last: u64,
}

/// A lane whose state the edge and the aggregator disagree about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispute {
    /// The kind of disagreement.
    pub kind: DisputeKind,
    /// The lane's state at the aggregator.
    pub state: LaneState,
}

impl DisputeKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::OtherWriter,
        Self::AggregatorRestored,
        Self::EventsMissing,
    ];

    /// The value in logs and metric labels.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::OtherWriter => "other_writer",
            Self::AggregatorRestored => "aggregator_restored",
            Self::EventsMissing => "events_missing",
        }
    }

    /// The likely cause, and the operator's remedy.
    #[must_use]
    pub const fn likely_cause(self) -> &'static str {
        match self {
            Self::OtherWriter => {
                "this edge's data directory was restored from an older copy, or another host runs with a \
                 copy of it; no event is lost, but stop the other host"
            }
            Self::AggregatorRestored => {
                "the aggregator's data directory was restored from an older copy; events that it stored and \
                 did not acknowledge may be counted twice"
            }
            Self::EventsMissing => {
                "this edge's data directory was restored from an older copy, or a power loss destroyed \
                 shipped events; destroyed events that were not shipped are lost"
            }
        }
    }
}

/// Compares the aggregator's state of a lane with the sequences `held` by the edge's journal and the
/// last `acknowledged` sequence.
pub(crate) const fn classify(
    state: &LaneState,
    held: HeldSequences,
    acknowledged: u64,
) -> Option<DisputeKind> {
    if state.received > held.highest_assigned {
        Some(DisputeKind::OtherWriter)
    } else if state.received > held.last {
        Some(DisputeKind::EventsMissing)
    } else if state.received < acknowledged {
        Some(DisputeKind::AggregatorRestored)
    } else {
        None
    }
}
