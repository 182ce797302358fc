//! Decodes batches to events. Undecodable events are quarantined with a reason and skipped.

use crate::blocks::Entry;
use crate::report::Report;
use domain::Micros;
use event_shipping::{LaneKey, open};
use tracking_events::{DecodeError, Event, Flags, Visit, decode};

/// The range of times that can be stored, from 2020 to 2100: outside, ClickHouse's 32-bit seconds would wrap and its
/// time to live delete the row. The time of a click or impression outside is corrected. A report, whose value depends
/// on its time, is quarantined; edges with an impossible clock accept no reports.
const STORABLE_TIMES: std::ops::Range<u64> = 1_577_836_800_000_000..4_102_444_800_000_000;
/// A batch whose sealing time is within this of its reception was sealed by a correct clock.
const MAX_SEALING_DIFFERENCE_MICROS: u64 = 3_600_000_000;
/// An older event without a time was sealed after another step of the edge's clock, so its age is unknown as well.
const MAX_CORRECTED_AGE_MICROS: u64 = 30 * 86_400_000_000;

/// A decoded event with its place.
pub(super) struct DecodedRow<'a> {
    pub(super) visit: Visit<'a>,
    pub(super) key: LaneKey,
    pub(super) seq: u64,
}

/// Decoded events by table.
#[derive(Default)]
pub(super) struct DecodedRows<'a> {
    pub(super) clicks: Vec<DecodedRow<'a>>,
    pub(super) impressions: Vec<DecodedRow<'a>>,
    /// Reports; their evaluation decides on their tables.
    pub(super) reports: Vec<Report>,
    pub(super) rejected: Vec<Rejected>,
}

/// Bytes that are not an event, although they arrived as they were sent.
pub(crate) struct Rejected {
    pub(crate) key: LaneKey,
    pub(crate) format_version: u16,
    /// The sequence of the event, or of the first event lost with it.
    pub(crate) seq: u64,
    pub(crate) reason: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// Decompresses a batch into `raw`. A batch that can't be decompressed is rejected completely.
pub(super) fn unseal(entry: &Entry, raw: &mut Vec<u8>) -> Result<(), Rejected> {
    open(&entry.header, &entry.payload, raw).map_err(|error| {
        let Entry { key, header, .. } = entry;
        tracing::error!(%key, first = header.first, last = header.last, %error, "failed to open batch");
        reject(entry, header.first, "batch", &entry.payload)
    })
}

impl<'a> DecodedRows<'a> {
    /// Adds the events of a batch that are not in an earlier block.
    pub(super) fn add(&mut self, entry: &Entry, raw: &'a [u8]) {
        let mut before = entry.header.first.saturating_sub(1);
        let mut read = 0;
        for frame in event_journal::frames(raw) {
            let Ok(frame) = frame else {
                return self.lost(entry, before, &raw[read..]);
            };
            read = offset_after(raw, frame.payload).max(read);
            if frame.seq <= before || frame.seq > entry.header.last {
                self.rejected
                    .push(reject(entry, frame.seq, "sequence", frame.payload));
                continue;
            }
            before = frame.seq;
            if frame.seq > entry.skip_through {
                self.event(entry, frame.seq, frame.payload);
            }
        }
        if before < entry.header.last {
            self.lost(entry, before, &[]);
        }
    }

    fn event(&mut self, entry: &Entry, seq: u64, payload: &'a [u8]) {
        let row = |visit| DecodedRow {
            visit: corrected(visit, entry),
            key: entry.key,
            seq,
        };
        match decode(entry.header.format_version, payload) {
            Ok(event) if !storable(&event) => {
                self.rejected.push(reject(entry, seq, "time", payload));
            }
            Ok(Event::Click(visit)) => self.clicks.push(row(visit)),
            Ok(Event::Impression(visit)) => self.impressions.push(row(visit)),
            Ok(Event::Conversion(_) | Event::KycUpdate(_) | Event::Rejection(_)) => {
                self.reports.push(report(entry, seq, payload));
            }
            Err(error) => self
                .rejected
                .push(reject(entry, seq, reason(&error), payload)),
        }
    }

    /// Rejects the rest of a batch whose frames end before its last event.
    fn lost(&mut self, entry: &Entry, before: u64, rest: &[u8]) {
        let first = before.max(entry.skip_through) + 1;
        tracing::error!(key = %entry.key, first, last = entry.header.last, "failed to decode the frames of a batch");
        self.rejected.push(reject(entry, first, "frame", rest));
    }
}

/// A visit with a possible time. If its edge had no time, it is the time of reception less the event's age, which is
/// known if the edge's wrong clock also sealed the batch.
fn corrected<'a>(mut visit: Visit<'a>, entry: &Entry) -> Visit<'a> {
    if visit.flags.any(Flags::TIME_UNKNOWN) || !STORABLE_TIMES.contains(&visit.time.0) {
        let (received, sealed) = (entry.received_at, entry.header.sealed_at);
        let age = sealed.saturating_sub(visit.time.0);
        let is_sealed_rightly = received.abs_diff(sealed) <= MAX_SEALING_DIFFERENCE_MICROS;
        let age_is_known = !is_sealed_rightly && age <= MAX_CORRECTED_AGE_MICROS;
        let time = received.saturating_sub(if age_is_known { age } else { 0 });
        visit.time = Micros(time.clamp(STORABLE_TIMES.start, STORABLE_TIMES.end - 1));
        visit.flags.insert(Flags::CLOCK_WRONG);
        visit.flags.insert(Flags::TIME_UNKNOWN);
    }
    visit
}

fn storable(event: &Event<'_>) -> bool {
    let fits = |time: Micros| STORABLE_TIMES.contains(&time.0);
    match event {
        Event::Click(_) | Event::Impression(_) => true,
        Event::Conversion(it) => fits(it.time) && fits(it.click.parts().time),
        Event::KycUpdate(it) => fits(it.time) && fits(it.happened),
        Event::Rejection(it) => fits(it.time),
    }
}

/// Copies a report: reports are few, and outlive the memory of their batch.
fn report(entry: &Entry, seq: u64, payload: &[u8]) -> Report {
    Report {
        key: entry.key,
        seq,
        format_version: entry.header.format_version,
        bytes: payload.into(),
    }
}

const fn reason(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::UnknownVersion(_) => "version",
        DecodeError::Malformed { .. } => "malformed",
        DecodeError::TrailingBytes(_) => "trailing_bytes",
    }
}

fn reject(entry: &Entry, seq: u64, reason: &'static str, bytes: &[u8]) -> Rejected {
    let format_version = entry.header.format_version;
    Rejected {
        key: entry.key,
        format_version,
        seq,
        reason,
        bytes: bytes.to_owned(),
    }
}

/// The offset in `raw` of the bytes after `part`.
fn offset_after(raw: &[u8], part: &[u8]) -> usize {
    (part.as_ptr_range().end as usize)
        .saturating_sub(raw.as_ptr() as usize)
        .min(raw.len())
}

#[cfg(test)]
mod tests;
