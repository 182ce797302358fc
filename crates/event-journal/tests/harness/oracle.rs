//! The guarantees given so far, and checks of a journal's content against them.
//! Invariant: no knowledge of files and frames.

use event_journal::BatchBoundary;
use std::collections::{BTreeMap, BTreeSet};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Crash,
    PowerLoss,
}

/// The guarantees of a journal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Oracle {
    lanes: BTreeMap<u8, LaneOracle>,
    identity: Option<u64>,
    next_number: u64,
    /// Whether faults were injected that excuse rejections (never losses).
    pub(crate) faulty: bool,
    power_was_lost: bool,
}

/// Events as read: sequence and payload.
pub(super) type ReadEvents = Vec<(u64, Vec<u8>)>;

/// An event as appended: number and payload length.
type Event = (u64, usize);

/// The guarantees of one lane.
#[derive(Debug, Clone, Default)]
pub(crate) struct LaneOracle {
    accepted: BTreeMap<u64, Event>,
    /// A possibly interrupted append: its event may exist or not.
    attempted: BTreeMap<u64, Event>,
    /// The highest sequence reported as durable.
    durable: u64,
    /// The highest sequence that an event ever had.
    highest: u64,
    /// The highest sequence whose release was started.
    released: u64,
    boundaries: Vec<(BatchBoundary, ReadEvents)>,
    /// Whether a callback got an error: no later callback may succeed in this process.
    sync_failed: bool,
    /// How the last process ended, if no check ran since.
    ended: Option<End>,
}

impl Oracle {
    pub(crate) fn lane(&mut self, lane: u8) -> &mut LaneOracle {
        self.lanes.entry(lane).or_default()
    }

    pub(crate) fn next_payload(&mut self, len: usize) -> (u64, Vec<u8>) {
        self.next_number += 1;
        (self.next_number, payload(self.next_number, len))
    }

    pub(crate) fn record_end(&mut self, end: End) {
        self.power_was_lost |= end == End::PowerLoss;
        for lane in self.lanes.values_mut() {
            // Losses of a power loss remain possible until the next check.
            if lane.ended != Some(End::PowerLoss) {
                lane.ended = Some(end);
            }
        }
    }

    pub(crate) fn check_identity(&mut self, id: u64) {
        // The id of a spool without accepted events may be lost.
        let used = self.lanes.values().any(|lane| lane.highest > 0);
        if let Some(before) = self.identity
            && used
        {
            assert_eq!(before, id, "the spool has another id");
        }
        self.identity = Some(id);
    }

    pub(crate) fn check_damage(&self, bytes: u64, set_aside: usize) {
        assert_eq!(set_aside, 0, "a segment was renamed as foreign");
        if !self.power_was_lost {
            assert_eq!(bytes, 0, "damage without a power loss");
        }
    }
}

impl LaneOracle {
    pub(crate) fn record_attempt(&mut self, seq: u64, number: u64, len: usize) {
        self.attempted.insert(seq, (number, len));
    }

    pub(crate) fn record_accepted(&mut self, seq: u64) {
        let event = self
            .attempted
            .remove(&seq)
            .expect("the append was recorded");
        let before = self.accepted.insert(seq, event);
        assert_eq!(before, None, "sequence {seq} was assigned twice");
        self.highest = self.highest.max(seq);
    }

    /// The last accepted event that is not released.
    pub(crate) fn last_accepted(&self) -> Option<u64> {
        let guaranteed = self.accepted.range(self.released + 1..);
        guaranteed.map(|(seq, _)| *seq).next_back()
    }

    pub(crate) fn record_sync_result(&mut self, seq: u64, durable: bool) {
        if durable {
            assert!(
                !self.sync_failed,
                "an event became durable after a failed sync"
            );
            self.durable = self.durable.max(seq);
        } else {
            self.sync_failed = true;
        }
    }

    pub(crate) fn record_sealed(&mut self, boundary: BatchBoundary, events: ReadEvents) {
        self.check_sealed_once(&boundary);
        self.boundaries
            .retain(|(before, _)| before.last <= boundary.after);
        self.boundaries.push((boundary, events));
    }

    fn check_sealed_once(&self, boundary: &BatchBoundary) {
        let last = self.accepted.range(boundary.first..=boundary.last).count();
        assert!(
            last > 0,
            "a sealed batch without accepted events: {boundary:?}"
        );
    }

    /// The last sequence to release if `except` sealed events are to remain.
    pub(crate) fn releasable(&self, except: u64) -> Option<u64> {
        let sealed = self.boundaries.last()?.0.last;
        let through = sealed.saturating_sub(except);
        (through > self.released).then_some(through)
    }

    pub(crate) fn record_released(&mut self, through: u64) {
        self.released = self.released.max(through);
    }

    pub(crate) fn check_next(&self, next: u64) {
        assert!(
            next > self.highest,
            "the next sequence {next} was assigned before; the highest was {}",
            self.highest
        );
    }

    pub(crate) fn check_events(&self, found: &ReadEvents, released: u64) {
        assert!(released <= self.released, "{released} was never released");
        for (seq, bytes) in found {
            let event = self.accepted.get(seq).or_else(|| self.attempted.get(seq));
            let Some((number, len)) = event else {
                panic!("sequence {seq} was never assigned, or was lost earlier");
            };
            assert!(
                *bytes == payload(*number, *len),
                "sequence {seq} holds another event"
            );
        }
        let found: BTreeSet<u64> = found.iter().map(|(seq, _)| *seq).collect();
        let guaranteed = |seq: &u64| self.ended != Some(End::PowerLoss) || *seq <= self.durable;
        for seq in self.accepted.range(self.released + 1..).map(|(seq, _)| seq) {
            assert!(
                !guaranteed(seq) || found.contains(seq),
                "sequence {seq} is lost (durable up to {}, released up to {})",
                self.durable,
                self.released
            );
        }
    }

    /// Checks that boundaries are ordered and not released.
    pub(crate) fn check_boundaries(&self, found: &[BatchBoundary], released: u64) {
        let mut after = 0;
        for boundary in found {
            assert!(
                boundary.after >= after
                    && boundary.first > boundary.after
                    && boundary.last >= boundary.first
            );
            assert!(boundary.last > released, "a boundary of released events");
            after = boundary.last;
        }
    }

    /// The boundaries whose batches must be readable exactly.
    pub(crate) fn boundaries_to_read(
        &self,
        found: &[BatchBoundary],
        released: u64,
    ) -> Vec<BatchBoundary> {
        if self.ended == Some(End::PowerLoss) {
            return Vec::new();
        }
        // Released events may exist again when their deletion was not durable.
        let complete =
            |boundary: &&BatchBoundary| boundary.after >= self.released && boundary.last > released;
        let known =
            |boundary: &&BatchBoundary| self.boundaries.iter().any(|(it, _)| it == *boundary);
        found
            .iter()
            .filter(complete)
            .filter(known)
            .copied()
            .collect()
    }

    pub(crate) fn check_sealed(&self, boundary: &BatchBoundary, events: &[(u64, Vec<u8>)]) {
        let sealed = self.boundaries.iter().find(|(it, _)| it == boundary);
        let (_, before) = sealed.expect("only known boundaries are checked");
        assert!(
            before == events,
            "a sealed batch has other events after a restart"
        );
    }

    /// Accepts the events found: the others were lost, as the checks before allowed.
    pub(crate) fn record_opened(&mut self, found: ReadEvents, released: u64) {
        // Released events may exist again when their deletion was not durable.
        let unreleased: Vec<u64> = self
            .accepted
            .range(self.released + 1..)
            .map(|(seq, _)| *seq)
            .collect();
        let mut lost: BTreeMap<u64, Event> = BTreeMap::new();
        for seq in unreleased {
            lost.extend(self.accepted.remove(&seq).map(|event| (seq, event)));
        }
        for (seq, _) in found {
            let event = lost.get(&seq).or_else(|| self.attempted.get(&seq));
            if let Some(event) = event {
                self.accepted.insert(seq, *event);
            }
            // A shipper may ship every event found.
            self.highest = self.highest.max(seq);
        }
        self.attempted.clear();
        if self.ended == Some(End::PowerLoss) {
            // Durable events remain durable. After a power loss the aggregator decides the boundaries.
            self.boundaries
                .retain(|(boundary, _)| boundary.last <= released);
        }
        self.boundaries
            .retain(|(boundary, _)| boundary.last > released);
        self.sync_failed = false;
        self.ended = None;
    }
}

/// A payload from which number and length follow, so that no part of another event can equal it.
pub(super) fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![(number as u8) | 1; len.max(8)];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.truncate(len);
    bytes
}

pub(super) fn is_payload(bytes: &[u8]) -> bool {
    let number = bytes
        .first_chunk::<8>()
        .map(|number| u64::from_le_bytes(*number));
    number.is_some_and(|number| bytes == payload(number, bytes.len()))
}
