//! The events to be shipped: the lanes' journals, sealed into batches and released when they are in ClickHouse. A lane
//! that the aggregator disputes continues under another journal id.

#[cfg(test)]
mod tests;

use super::Reason;
use super::lane::{ReadStep, ShippedLane};
use super::progress::ShippingProgress;
use super::spans::BatchSpans;
use crate::metrics::{LANE_STAGES, Metrics};
use crate::settings::AggregatorSettings;
use domain::{Micros, NodeId};
use event_journal::{EventCount, IdSplit, JournalIds, LaneReader, LaneStart, ReadError};
use event_shipping::{
    Ack, Batch, Dispute, DisputeKind, HeldSequences, Hello, IN_FLIGHT_LIMITS, ProtocolViolation,
    Release, Sealer, Sender, Welcome,
};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{Disk, Storage};

/// All lanes of this node's journal.
#[derive(Debug)]
pub struct Spool<S: Storage = Disk> {
    ids: JournalIds<S>,
    /// Journals of earlier processes that another process continues, as far as detected.
    shared: BTreeSet<u64>,
    lanes: Vec<ShippedLane<S>>,
    sender: Sender,
    sealer: Sealer,
    progress: Arc<ShippingProgress>,
    metrics: Metrics,
    batch_bytes: usize,
    batch_age: Duration,
    frames: Vec<u8>,
    spans: BatchSpans,
}

impl<S: Storage> Spool<S> {
    /// Starts each reader of a journal after its last acknowledged sequence.
    ///
    /// # Errors
    /// When a compressor can't be allocated.
    pub fn new(
        mut ids: JournalIds<S>,
        mut readers: Vec<LaneReader<S>>,
        progress: Arc<ShippingProgress>,
        settings: &AggregatorSettings,
        metrics: Metrics,
    ) -> io::Result<Self> {
        for reader in &mut readers {
            reader.acknowledge(ids.acknowledged(reader.lane()));
        }
        let starts: Vec<LaneStart> = readers.iter().map(LaneReader::start).collect();
        if let Err(error) = ids.assign_new_ids(&starts) {
            tracing::error!(%error, "failed to save a new journal id; continuing with the previous process's");
        }
        let lanes = readers.into_iter().map(|reader| {
            let ids = ids.ranges(reader.lane());
            ShippedLane::new(reader, &ids)
        });
        let mut spool = Self {
            lanes: lanes.collect(),
            ids,
            shared: BTreeSet::new(),
            sender: Sender::new(IN_FLIGHT_LIMITS),
            sealer: Sealer::new()?,
            progress,
            metrics,
            batch_bytes: usize::try_from(settings.batch_bytes.get().0).unwrap_or(usize::MAX),
            batch_age: settings.batch_age.get().0,
            frames: Vec::new(),
            spans: BatchSpans::default(),
        };
        spool.begin_sending();
        spool.start_series();
        Ok(spool)
    }

    /// An alert compares the stages of a lane, also before its first acknowledgement.
    fn start_series(&self) {
        for lane in &self.lanes {
            for stage in LANE_STAGES {
                self.mark(lane.number(), stage, lane.acknowledged());
            }
        }
    }

    fn begin_sending(&mut self) {
        self.sender = Sender::new(IN_FLIGHT_LIMITS);
        for lane in &self.lanes {
            for sent in lane.sent_lanes() {
                self.sender.add_lane(sent);
            }
            self.progress.sealed_through(lane.number(), lane.position());
        }
    }

    pub(super) fn hello(&self, node: NodeId) -> Hello {
        self.sender
            .hello(node.0, concat!("edge-tracker ", env!("CARGO_PKG_VERSION")))
    }

    /// Handles the welcome. Lanes that can't continue under their journal ids get new ones, and the edge must
    /// reconnect.
    pub(super) fn welcome(&mut self, welcome: &Welcome) -> Result<(), Reason> {
        let unsound = |error: ProtocolViolation| Reason::new("unsound", error);
        let unlimited = HeldSequences {
            highest_assigned: u64::MAX,
            last: u64::MAX,
        };
        let held = |number, journal| {
            let lane = self.lanes.iter().find(|lane| lane.number() == number);
            lane.map_or(unlimited, |lane| lane.held(journal))
        };
        let disputes = self.sender.disputes(welcome, held).map_err(unsound)?;
        let changed = self
            .change_ids(&disputes)
            .map_err(|error| Reason::new("journal_id", error))?;
        if changed {
            let why = "lanes are disputed and continue under new journal ids";
            return Err(Reason::new("journal_id", why));
        }
        for release in self.sender.welcome(welcome).map_err(unsound)? {
            self.release(release);
        }
        Ok(())
    }

    /// False when all lanes can continue unchanged: another process may send more events of an earlier process's
    /// journal, to which this process adds nothing.
    fn change_ids(&mut self, disputes: &[Dispute]) -> io::Result<bool> {
        let mut splits = Vec::new();
        for dispute in disputes {
            let (kind, state) = (dispute.kind, dispute.state);
            let Some(lane) = self.lanes.iter().find(|it| it.number() == state.lane) else {
                continue;
            };
            let is_of_edge = kind != DisputeKind::AggregatorRestored;
            let is_shared = is_of_edge && !lane.is_current(state.journal);
            if is_shared && !self.shared.insert(state.journal) {
                continue;
            }
            let first = if is_shared {
                None
            } else {
                lane.split_of(state.journal)
            };
            splits.extend(first.map(|first| IdSplit {
                lane: state.lane,
                first,
            }));
            self.metrics
                .journal_disputes
                .with_label_values(&[kind.reason()])
                .inc();
            tracing::error!(
                lane = state.lane,
                journal = %format_args!("{:016x}", state.journal),
                reason = kind.reason(),
                received = state.received,
                taken = state.taken,
                continues_under_new_id_from = first,
                "the aggregator's state contradicts this journal: {}",
                kind.likely_cause()
            );
        }
        if splits.is_empty() {
            return Ok(false);
        }
        self.ids.split(&splits)?;
        for lane in &mut self.lanes {
            let ids = self.ids.ranges(lane.number());
            lane.start(&ids);
        }
        self.begin_sending();
        Ok(true)
    }

    pub(super) fn acknowledge(&mut self, ack: &Ack) -> Result<(), ProtocolViolation> {
        if let Some(release) = self.sender.ack(ack)? {
            self.release(release);
        }
        Ok(())
    }

    /// Seals batches of any size and age from now on.
    pub(super) const fn seal_at_once(&mut self) {
        self.batch_age = Duration::ZERO;
    }

    /// The events that were not acknowledged.
    pub(super) fn remaining(&self) -> EventCount {
        self.lanes.iter().map(ShippedLane::remaining).sum()
    }

    pub(super) fn disconnected(&mut self) {
        self.sender.disconnected();
        self.spans.disconnected();
    }

    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        let batch = self.sender.next_batch()?;
        self.metrics.batches.inc();
        self.metrics.batch_bytes.inc_by(batch.payload.len() as u64);
        self.mark(batch.header.lane, "sent", batch.header.last);
        self.spans.sent(&batch);
        Some(batch)
    }

    /// Whether all accepted events were acknowledged.
    pub(super) fn is_drained(&self) -> bool {
        self.sender.in_flight().batches == 0 && self.lanes.iter().all(ShippedLane::is_drained)
    }

    /// Seals every batch that is large or old enough, within the in-flight limits.
    pub(super) fn seal_due(&mut self, now: Instant) {
        let (bytes, age) = (self.batch_bytes as u64, self.batch_age);
        for number in 0..self.lanes.len() {
            while self.sender.has_capacity(self.batch_bytes)
                && self.lanes[number].is_due(bytes, age, now)
            {
                match self.seal_next(number) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        let lane = self.lanes[number].number();
                        tracing::error!(lane, %error, "failed to read a lane's journal, retrying");
                        break;
                    }
                }
            }
        }
    }

    fn seal_next(&mut self, number: usize) -> Result<bool, ReadError> {
        self.frames.clear();
        let lane = &mut self.lanes[number];
        let (span, run) = match lane.read(self.batch_bytes, &mut self.frames)? {
            ReadStep::Read(span, run) => (span, run),
            ReadStep::Continue => {
                self.drop_completed(number);
                return Ok(true);
            }
            ReadStep::Empty => return Ok(false),
        };
        let sealed = self.sealer.seal(&span, &self.frames, Micros::now().0);
        let pushed = sealed
            .map_err(|error| error.to_string())
            .and_then(|batch| self.sender.push(batch).map_err(|error| error.to_string()));
        if let Err(error) = pushed {
            tracing::error!(lane = span.lane, %error, first = run.first, last = run.last, "failed to seal a batch");
            // No event may be skipped: the same events are retried.
            lane.rewind();
            return Ok(false);
        }
        lane.sealed(&run);
        self.progress.sealed_through(span.lane, run.last);
        self.mark(span.lane, "sealed", run.last);
        Ok(true)
    }

    fn release(&mut self, release: Release) {
        let Some(number) = self
            .lanes
            .iter()
            .position(|lane| lane.number() == release.lane)
        else {
            return;
        };
        let lane = &mut self.lanes[number];
        lane.acknowledge(release.journal, release.through, release.skip);
        self.progress.sealed_through(release.lane, lane.position());
        self.drop_completed(number);
        let acknowledged = self.lanes[number].acknowledged();
        self.mark(release.lane, "acknowledged", acknowledged);
        self.spans.acknowledged(release.lane, acknowledged);
        self.release_covered();
    }

    /// Stops announcing completely acknowledged journal ids to the aggregator.
    fn drop_completed(&mut self, number: usize) {
        let (lane, sender) = (&mut self.lanes[number], &mut self.sender);
        let lane_number = lane.number();
        let pushed = |journal| sender.pushed(lane_number, journal).unwrap_or(0);
        for journal in lane.drop_completed(pushed) {
            sender.finish_lane(lane_number, journal);
        }
    }

    /// Releases events that are in ClickHouse and in the saved filters.
    pub(super) fn release_covered(&mut self) {
        for lane in &mut self.lanes {
            if lane.release(self.progress.covered_through(lane.number())) {
                for sent in lane.sent_lanes() {
                    self.sender
                        .set_released(sent.lane, sent.journal, sent.released);
                }
            }
        }
    }

    fn mark(&self, lane: u8, stage: &str, seq: u64) {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        self.metrics
            .lanes
            .with_label_values(&[&*lane.to_string(), stage])
            .set(seq);
    }
}
