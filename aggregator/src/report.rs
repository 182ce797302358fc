//! Events that report something instead of counting a visit: where they were logged, and what became of
//! them. How that is found out, and which rows come of it, are not known here.

use crate::verification::Unproven;
use event_shipping::LaneKey;
use tracking_events::{ConversionKind, Event, decode};

/// The reason's number for a status that can't follow the one before. Edges refuse with numbers below.
pub(crate) const BAD_TRANSITION: u16 = 150;

/// A report as it was logged; known to be an event.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) key: LaneKey,
    pub(crate) seq: u64,
    pub(crate) format_version: u16,
    pub(crate) bytes: Box<[u8]>,
}

/// A decoded report with its place.
#[derive(Debug, Clone)]
pub(crate) struct Placed<'a> {
    pub(crate) key: LaneKey,
    pub(crate) seq: u64,
    pub(crate) event: Event<'a>,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is this revision of a conversion; the first is 1.
    Revision(u32),
    /// It takes back a conversion of another kind than it says, and is this revision of that.
    TakenBack {
        /// The revision.
        revision: u32,
        /// The conversion's kind.
        kind: ConversionKind,
        /// Its name, where the kind is the advertiser's own.
        kind_name: String,
    },
    /// It says what this revision said.
    Repeat(u32),
    /// Its status can't follow the one before; why, in words.
    BadTransition(String),
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

impl Report {
    /// Decodes it, as was done when it was found.
    pub(crate) fn read(&self) -> Option<Placed<'_>> {
        let event = decode(self.format_version, &self.bytes).ok()?;
        Some(Placed {
            key: self.key,
            seq: self.seq,
            event,
        })
    }
}

impl Verdict {
    /// The revision that it added, if it did.
    pub(crate) const fn news(&self) -> Option<u32> {
        match self {
            Self::Revision(revision) | Self::TakenBack { revision, .. } => Some(*revision),
            _ => None,
        }
    }
}

impl Placed<'_> {
    /// Whether only the store can say what becomes of it.
    pub(crate) const fn needs_judgement(&self) -> bool {
        matches!(self.event, Event::Conversion(_) | Event::KycUpdate(_))
    }
}
