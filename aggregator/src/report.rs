//! Events that report something instead of counting a visit: where they were logged, and what became of
//! them. How that is found out, and which rows come of it, are not known here.

use crate::unproven::Unproven;
use event_shipping::LaneKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use tracking_events::{ConversionKind, ConversionStatus, Event, Micros, Money, decode};

/// The reason's number for a status that can't follow the one before. Edges refuse with numbers below.
pub(crate) const BAD_TRANSITION: u16 = 150;
/// The reason's number for a sale that was reported too often, each time differently.
pub(crate) const TOO_MANY_REPORTS: u16 = 158;

/// A report as it was logged; known to be an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) key: LaneKey,
    pub(crate) seq: u64,
    pub(crate) format_version: u16,
    pub(crate) bytes: Box<[u8]>,
}

/// A decoded report with its place.
#[derive(Debug, Clone)]
pub(crate) struct LocatedEvent<'a> {
    pub(crate) key: LaneKey,
    pub(crate) seq: u64,
    pub(crate) hash: EventHash,
    pub(crate) event: Event<'a>,
}

/// Tells an event from another one that was logged at the same place, by a copy of the edge for example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventHash([u8; 16]);

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// It changed how conversions stand: the revisions that it added, its own conversion's first.
    Revised(Vec<Revision>),
    /// It changed no conversion.
    Unchanged(Unchanged),
    /// Its status can't follow the one before; why, in words.
    BadTransition(String),
    /// Its sale was reported too often; how often, in words.
    TooManyReports(String),
    /// It is an affiliate's newest state.
    Applied,
    /// Something newer was known of the affiliate.
    Late,
    /// The message was known.
    Again,
    /// It could not be verified, and is not evaluated.
    Unproven(Unproven),
    /// It needs no judgement.
    Noted,
}

/// A conversion as it stands from a revision on, whatever the report itself said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revision {
    pub(crate) kind: ConversionKind,
    /// The advertiser's word for the kind.
    pub(crate) kind_name: String,
    /// From 1.
    pub(crate) revision: u32,
    pub(crate) status: ConversionStatus,
    pub(crate) payout: Money,
    #[serde(default = "Refunds::unknown")]
    pub(crate) refunds: Refunds,
    /// When the report was made that brought it into this state.
    pub(crate) state_time: Micros,
    /// There is no such conversion any more: its reports belong to another one.
    pub(crate) withdrawn: bool,
    /// The conversion's transaction, where the report names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) found_transaction: Option<String>,
}

/// What refunds have taken back of a conversion. None unless stated otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refunds {
    /// Taken back in parts, in the smallest unit of the currency.
    pub minor: i64,
    /// What the last refund stated, as far as the same refund states the same again; empty: there was none.
    pub last: String,
}

/// A report that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unchanged {
    /// A newer report of the conversion was known; otherwise it says what was known.
    pub(crate) is_late: bool,
    pub(crate) kind: ConversionKind,
    pub(crate) kind_name: String,
    /// The conversion's newest revision.
    pub(crate) revision: u32,
    /// What the report says, with what it left out filled in from those before it.
    pub(crate) status: ConversionStatus,
    pub(crate) payout: Money,
    /// The conversion's transaction, where the report names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) found_transaction: Option<String>,
}

impl Report {
    /// Decodes it, as was done when it was found.
    pub(crate) fn read(&self) -> Option<LocatedEvent<'_>> {
        let event = decode(self.format_version, &self.bytes).ok()?;
        Some(LocatedEvent {
            key: self.key,
            seq: self.seq,
            hash: EventHash::of(&self.bytes),
            event,
        })
    }

    /// Whether only the store can say what becomes of it.
    pub(crate) fn needs_judgement(&self) -> bool {
        self.read().is_some_and(|placed| placed.needs_judgement())
    }
}

impl Refunds {
    /// Those of a revision that an earlier build made.
    pub(crate) fn unknown() -> Self {
        Self {
            minor: 0,
            last: "unknown".to_owned(),
        }
    }

    pub(crate) fn is_unknown(&self) -> bool {
        self.last == "unknown"
    }

    /// Those that are unknown count as none.
    pub(crate) fn if_known(self) -> Self {
        if self.is_unknown() {
            Self::default()
        } else {
            self
        }
    }
}

impl EventHash {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 16];
        blake3::Hasher::new()
            .update(bytes)
            .finalize_xof()
            .fill(&mut hash);
        Self(hash)
    }
}

impl fmt::Display for EventHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl LocatedEvent<'_> {
    /// Whether only the store can say what becomes of it.
    pub(crate) const fn needs_judgement(&self) -> bool {
        matches!(self.event, Event::Conversion(_) | Event::KycUpdate(_))
    }
}
