//! Reports: events other than clicks and impressions, with the place where they were logged and their verdicts.
//! Evaluating them and building their rows belongs elsewhere.

use crate::unproven::Unproven;
use domain::{ConversionKind, ConversionStatus, Micros, Money};
use event_shipping::LaneKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use tracking_events::{Event, decode};

/// The number of the reason that a status can't follow the one before. Numbers of refusals by edges are lower.
pub(crate) const BAD_TRANSITION: u16 = 150;
/// The number of the reason that a sale was reported too often, each time differently.
pub(crate) const TOO_MANY_REPORTS: u16 = 158;

/// A report as it was logged. Its bytes are a valid event.
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

/// Distinguishes events that were logged at the same place, for example by a copy of the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventHash([u8; 16]);

/// The result of evaluating a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// It changed conversions. Contains the added revisions, the report's own conversion first.
    Revised(Vec<Revision>),
    /// It changed no conversion.
    Unchanged(Unchanged),
    /// Its status can't follow the one before; contains the explanation.
    BadTransition(String),
    /// Its sale was reported too often; contains the explanation.
    TooManyReports(String),
    /// It is the affiliate's newest state.
    Applied,
    /// A newer state of the affiliate was known.
    Late,
    /// The same message was known.
    #[serde(rename = "Again")]
    Duplicate,
    /// It could not be verified, and is not evaluated.
    Unproven(Unproven),
    /// It needs no evaluation.
    Noted,
}

/// The state of a conversion from one revision on, which may differ from the state in the report itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revision {
    pub(crate) kind: ConversionKind,
    /// The advertiser's name of a custom kind.
    pub(crate) kind_name: String,
    /// Counted from 1.
    pub(crate) revision: u32,
    pub(crate) status: ConversionStatus,
    pub(crate) payout: Money,
    #[serde(default = "Refunds::unknown")]
    pub(crate) refunds: Refunds,
    /// The time of the report that led to this state.
    pub(crate) state_time: Micros,
    /// Whether the conversion was withdrawn: its reports belong to another one now.
    pub(crate) withdrawn: bool,
    /// The conversion's transaction, if the report names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) found_transaction: Option<String>,
}

/// The refunds of a conversion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refunds {
    /// The sum of partial refunds, in the smallest unit of the currency.
    pub minor: i64,
    /// The content of the last refund, by which a repetition is recognised; empty if there was none.
    pub last: String,
}

/// A report that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unchanged {
    /// Whether a newer report of the conversion was known. Otherwise the report repeats the known state.
    pub(crate) is_late: bool,
    pub(crate) kind: ConversionKind,
    pub(crate) kind_name: String,
    /// The number of the conversion's newest revision.
    pub(crate) revision: u32,
    /// The status in the report; fields that it leaves out come from earlier reports.
    pub(crate) status: ConversionStatus,
    pub(crate) payout: Money,
    /// The conversion's transaction, if the report names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) found_transaction: Option<String>,
}

impl Report {
    /// Decodes the event, as when it was received.
    pub(crate) fn read(&self) -> Option<LocatedEvent<'_>> {
        let event = decode(self.format_version, &self.bytes).ok()?;
        Some(LocatedEvent {
            key: self.key,
            seq: self.seq,
            hash: EventHash::of(&self.bytes),
            event,
        })
    }

    /// Whether the store must evaluate it.
    pub(crate) fn needs_evaluation(&self) -> bool {
        self.read()
            .is_some_and(|located| located.needs_evaluation())
    }
}

impl Refunds {
    /// The refunds of a revision from an earlier version, which did not record them.
    pub(crate) fn unknown() -> Self {
        Self {
            minor: 0,
            last: "unknown".to_owned(),
        }
    }

    pub(crate) fn is_unknown(&self) -> bool {
        self.last == "unknown"
    }

    /// The refunds, or none if they are unknown.
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
    /// Whether the store must evaluate it.
    pub(crate) const fn needs_evaluation(&self) -> bool {
        matches!(self.event, Event::Conversion(_) | Event::KycUpdate(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_of_verdicts_are_frozen() {
        for (verdict, stored) in [
            (Verdict::Revised(Vec::new()), r#"{"Revised":[]}"#),
            (
                Verdict::BadTransition("x".into()),
                r#"{"BadTransition":"x"}"#,
            ),
            (
                Verdict::TooManyReports("x".into()),
                r#"{"TooManyReports":"x"}"#,
            ),
            (Verdict::Applied, r#""Applied""#),
            (Verdict::Late, r#""Late""#),
            (Verdict::Duplicate, r#""Again""#),
            (Verdict::Noted, r#""Noted""#),
        ] {
            assert_eq!(serde_json::to_string(&verdict).expect("JSON"), stored);
            let read: Verdict = serde_json::from_str(stored).expect("verdict");
            assert_eq!(read, verdict);
        }
    }
}
