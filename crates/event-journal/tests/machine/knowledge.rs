//! What was promised, and whether what is found keeps to it. It knows no file and no frame.

use event_journal::Seal;
use std::collections::{BTreeMap, BTreeSet};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Crash,
    PowerCut,
}

/// Everything that was promised so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knowledge {
    lanes: BTreeMap<u8, LaneKnowledge>,
    identity: Option<u64>,
    next_number: u64,
    /// Whether the disk was told to fail in a way that excuses refusals (never losses).
    pub(crate) faulty: bool,
    ever_without_power: bool,
}

/// Events as they were read: sequence and bytes.
pub(super) type Found = Vec<(u64, Vec<u8>)>;

/// An event as it was handed over: number and length.
type Event = (u64, usize);

/// What was promised on one lane.
#[derive(Debug, Clone, Default)]
pub(crate) struct LaneKnowledge {
    accepted: BTreeMap<u64, Event>,
    /// The append that may have been interrupted: it may be there, or not.
    attempted: BTreeMap<u64, Event>,
    /// Said to be durable up to here.
    durable: u64,
    /// The highest sequence that an event was ever known by.
    highest: u64,
    /// Released up to here, perhaps.
    released: u64,
    seals: Vec<(Seal, Found)>,
    /// Whether somebody waited in vain: nobody may wait with success in this process any more.
    in_vain: bool,
    /// Since the lane was opened last.
    ended: Option<End>,
}

impl Knowledge {
    pub(crate) fn lane(&mut self, lane: u8) -> &mut LaneKnowledge {
        self.lanes.entry(lane).or_default()
    }

    pub(crate) fn next_payload(&mut self, len: usize) -> (u64, Vec<u8>) {
        self.next_number += 1;
        (self.next_number, payload(self.next_number, len))
    }

    pub(crate) fn ended(&mut self, end: End) {
        self.ever_without_power |= end == End::PowerCut;
        for lane in self.lanes.values_mut() {
            // What a power cut took stays taken until somebody looks.
            if lane.ended != Some(End::PowerCut) {
                lane.ended = Some(end);
            }
        }
    }

    pub(crate) fn check_identity(&mut self, id: u64) {
        // An id that nothing was accepted under may be lost.
        let used = self.lanes.values().any(|lane| lane.highest > 0);
        if let Some(before) = self.identity
            && used
        {
            assert_eq!(before, id, "the spool has another id");
        }
        self.identity = Some(id);
    }

    pub(crate) fn check_damage(&self, bytes: u64, set_aside: usize) {
        assert_eq!(set_aside, 0, "a segment was taken for a foreign one");
        if !self.ever_without_power {
            assert_eq!(bytes, 0, "no power cut, no damage");
        }
    }
}

impl LaneKnowledge {
    pub(crate) fn attempted(&mut self, seq: u64, number: u64, len: usize) {
        self.attempted.insert(seq, (number, len));
    }

    pub(crate) fn accepted(&mut self, seq: u64) {
        let event = self.attempted.remove(&seq).expect("it was attempted");
        let before = self.accepted.insert(seq, event);
        assert_eq!(before, None, "sequence {seq} was given out twice");
        self.highest = self.highest.max(seq);
    }

    /// The last event that is still promised.
    pub(crate) fn last_accepted(&self) -> Option<u64> {
        let promised = self.accepted.range(self.released + 1..);
        promised.map(|(seq, _)| *seq).next_back()
    }

    pub(crate) fn told(&mut self, seq: u64, durable: bool) {
        if durable {
            assert!(!self.in_vain, "durable after a sync that failed");
            self.durable = self.durable.max(seq);
        } else {
            self.in_vain = true;
        }
    }

    pub(crate) fn sealed(&mut self, seal: Seal, events: Found) {
        self.check_sealed_once(&seal);
        self.seals.retain(|(before, _)| before.last <= seal.after);
        self.seals.push((seal, events));
    }

    fn check_sealed_once(&self, seal: &Seal) {
        let last = self.accepted.range(seal.first..=seal.last).count();
        assert!(last > 0, "a seal of nothing that was accepted: {seal:?}");
    }

    /// Up to where may be released when all but `but` of the sealed events are.
    pub(crate) fn releasable(&self, but: u64) -> Option<u64> {
        let sealed = self.seals.last()?.0.last;
        let through = sealed.saturating_sub(but);
        (through > self.released).then_some(through)
    }

    pub(crate) fn released(&mut self, through: u64) {
        self.released = self.released.max(through);
    }

    pub(crate) fn check_next(&self, next: u64) {
        assert!(
            next > self.highest,
            "{next} was given out before: {} was",
            self.highest
        );
    }

    pub(crate) fn check_events(&self, found: &Found, released: u64) {
        assert!(released <= self.released, "{released} was never released");
        for (seq, bytes) in found {
            let event = self.accepted.get(seq).or_else(|| self.attempted.get(seq));
            let Some((number, len)) = event else {
                panic!("sequence {seq} was never given out, or was lost before");
            };
            assert!(
                *bytes == payload(*number, *len),
                "sequence {seq} is another event"
            );
        }
        let found: BTreeSet<u64> = found.iter().map(|(seq, _)| *seq).collect();
        let promised = |seq: &u64| self.ended != Some(End::PowerCut) || *seq <= self.durable;
        for seq in self.accepted.range(self.released + 1..).map(|(seq, _)| seq) {
            assert!(
                !promised(seq) || found.contains(seq),
                "sequence {seq} is lost (durable up to {}, released up to {})",
                self.durable,
                self.released
            );
        }
    }

    /// After a crash the seals are what they were, but for those of a store that failed.
    pub(crate) fn check_seals(&self, found: &[Seal], released: u64) {
        let mut after = 0;
        for seal in found {
            assert!(seal.after >= after && seal.first > seal.after && seal.last >= seal.first);
            assert!(seal.last > released, "a seal of what was released");
            after = seal.last;
        }
    }

    /// Seals that must be there to be read exactly.
    pub(crate) fn seals_to_read(&self, found: &[Seal], released: u64) -> Vec<Seal> {
        if self.ended == Some(End::PowerCut) {
            return Vec::new();
        }
        // Before what was released there may be events again whose deletion was not on disk yet.
        let whole = |seal: &&Seal| seal.after >= self.released && seal.last > released;
        let known = |seal: &&Seal| self.seals.iter().any(|(it, _)| it == *seal);
        found.iter().filter(whole).filter(known).copied().collect()
    }

    pub(crate) fn check_sealed(&self, seal: &Seal, events: &[(u64, Vec<u8>)]) {
        let sealed = self.seals.iter().find(|(it, _)| it == seal);
        let (_, before) = sealed.expect("asked for because it is known");
        assert!(
            before == events,
            "a batch sealed before has other events now"
        );
    }

    /// What was found is what there is: the rest was lost as it may be.
    pub(crate) fn opened(&mut self, found: Found, released: u64) {
        // What was released may come back when its deletion was not on disk yet.
        let gone: Vec<u64> = self
            .accepted
            .range(self.released + 1..)
            .map(|(seq, _)| *seq)
            .collect();
        let mut lost: BTreeMap<u64, Event> = BTreeMap::new();
        for seq in gone {
            lost.extend(self.accepted.remove(&seq).map(|event| (seq, event)));
        }
        for (seq, _) in found {
            let event = lost.get(&seq).or_else(|| self.attempted.get(&seq));
            if let Some(event) = event {
                self.accepted.insert(seq, *event);
            }
            // Who finds it may ship it.
            self.highest = self.highest.max(seq);
        }
        self.attempted.clear();
        if self.ended == Some(End::PowerCut) {
            // What was durable still is; seals are the aggregator's word after a power cut.
            self.seals.retain(|(seal, _)| seal.last <= released);
        }
        self.seals.retain(|(seal, _)| seal.last > released);
        self.in_vain = false;
        self.ended = None;
    }
}

/// Bytes that tell their number and length, so that no part of another event passes for them.
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
