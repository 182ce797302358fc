//! What is to be shipped: the lanes' journals, sealed into batches and released when ClickHouse
//! has them.

use crate::metrics::Metrics;
use crate::settings::AggregatorSettings;
use event_journal::{LaneReader, ReadError, Run, Seal};
use event_shipping::{
    Ack, Batch, Hello, IN_FLIGHT, Release, Sealer, Sender, Span, UnsoundAck, Welcome,
};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use storage::{Disk, Storage};
use tracking_events::{Micros, NodeId};

/// How far each lane has come, shared with those who save the filters.
#[derive(Debug)]
pub struct Progress {
    lanes: Vec<LaneProgress>,
}

#[derive(Debug)]
struct LaneProgress {
    lane: u8,
    sealed: AtomicU64,
    covered: AtomicU64,
}

impl Progress {
    /// `covered` tells up to where the saved filters know each lane.
    #[must_use]
    pub fn new(lanes: impl Iterator<Item = (u8, u64)>) -> Self {
        let progress = |(lane, covered)| LaneProgress {
            lane,
            sealed: AtomicU64::new(covered),
            covered: AtomicU64::new(covered),
        };
        Self {
            lanes: lanes.map(progress).collect(),
        }
    }

    /// Up to where each lane was sealed. Whoever saves the filters after asking has saved at least
    /// this much: an event enters the filters before it enters the journal.
    #[must_use]
    pub fn sealed(&self) -> Vec<(u8, u64)> {
        self.lanes
            .iter()
            .map(|lane| (lane.lane, lane.sealed.load(Ordering::Acquire)))
            .collect()
    }

    /// Filters that know the lanes up to `marks` are saved: the journal need not keep those events
    /// for them any longer.
    pub fn covered(&self, marks: &[(u8, u64)]) {
        for (lane, through) in marks {
            if let Some(known) = self.find(*lane) {
                known.covered.fetch_max(*through, Ordering::AcqRel);
            }
        }
    }

    fn find(&self, lane: u8) -> Option<&LaneProgress> {
        self.lanes.iter().find(|known| known.lane == lane)
    }
}

/// All lanes of this node's journal.
#[derive(Debug)]
pub struct Spool<S: Storage = Disk> {
    journal: u64,
    lanes: Vec<Lane<S>>,
    sender: Sender,
    sealer: Sealer,
    progress: Arc<Progress>,
    metrics: Metrics,
    batch_bytes: usize,
    batch_age: Duration,
    frames: Vec<u8>,
}

#[derive(Debug)]
struct Lane<S: Storage> {
    reader: LaneReader<S>,
    /// Boundaries sealed before a restart, to be sealed alike.
    remembered: VecDeque<Seal>,
    waiting_since: Option<Instant>,
    acknowledged: u64,
}

impl<S: Storage> Spool<S> {
    /// Takes over the readers of journal `journal`, to go on where each was released.
    ///
    /// # Errors
    /// When there is no memory for a compressor.
    pub fn new(
        journal: u64,
        readers: Vec<LaneReader<S>>,
        progress: Arc<Progress>,
        settings: &AggregatorSettings,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let mut sender = Sender::new(IN_FLIGHT);
        let lanes = readers.into_iter().map(|mut reader| {
            let released = reader.released();
            sender.add_lane(reader.lane(), journal, released);
            reader.seek(released);
            let remembered = reader.seals().to_vec().into();
            Lane {
                reader,
                remembered,
                waiting_since: None,
                acknowledged: released,
            }
        });
        Ok(Self {
            journal,
            lanes: lanes.collect(),
            sender,
            sealer: Sealer::new()?,
            progress,
            metrics,
            batch_bytes: usize::try_from(settings.batch_bytes.get().0).unwrap_or(usize::MAX),
            batch_age: settings.batch_age.get().0,
            frames: Vec::new(),
        })
    }

    pub(super) fn hello(&self, node: NodeId) -> Hello {
        self.sender
            .hello(node.0, concat!("edge-tracker ", env!("CARGO_PKG_VERSION")))
    }

    pub(super) fn welcome(&mut self, welcome: &Welcome) -> Result<(), UnsoundAck> {
        for release in self.sender.welcome(welcome)? {
            self.release(release);
        }
        Ok(())
    }

    pub(super) fn acknowledge(&mut self, ack: &Ack) -> Result<(), UnsoundAck> {
        if let Some(release) = self.sender.ack(ack)? {
            self.release(release);
        }
        Ok(())
    }

    pub(super) fn disconnected(&mut self) {
        self.sender.disconnected();
    }

    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        let batch = self.sender.next_batch()?;
        self.metrics.batches.inc();
        self.metrics.batch_bytes.inc_by(batch.payload.len() as u64);
        self.mark(batch.header.lane, "sent", batch.header.last);
        Some(batch)
    }

    /// Whether everything that was accepted has been acknowledged.
    pub(super) fn is_drained(&self) -> bool {
        self.sender.in_flight().batches == 0
            && self.lanes.iter().all(|lane| lane.reader.backlog() == 0)
    }

    /// Seals every batch that is large or old enough, as long as there is room in flight.
    pub(super) fn seal_due(&mut self, now: Instant) {
        for number in 0..self.lanes.len() {
            while self.sender.has_room(self.batch_bytes) && self.is_due(number, now) {
                match self.seal_next(number) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        let lane = self.lanes[number].reader.lane();
                        tracing::error!(lane, %error, "a lane's journal can't be read; trying again");
                        break;
                    }
                }
            }
        }
    }

    fn is_due(&mut self, number: usize, now: Instant) -> bool {
        let (age, bytes) = (self.batch_age, self.batch_bytes as u64);
        let lane = &mut self.lanes[number];
        if !lane.remembered.is_empty() {
            return true;
        }
        let backlog = lane.reader.backlog();
        if backlog == 0 {
            lane.waiting_since = None;
            return false;
        }
        let since = *lane.waiting_since.get_or_insert(now);
        backlog >= bytes || now.saturating_duration_since(since) >= age
    }

    fn seal_next(&mut self, number: usize) -> Result<bool, ReadError> {
        self.frames.clear();
        let lane = &mut self.lanes[number];
        let pushed = self.sender.pushed(lane.reader.lane(), self.journal);
        let run = match lane.remembered.pop_front() {
            // What the aggregator had taken was passed over before the restart.
            Some(seal) if pushed.is_some_and(|pushed| pushed < seal.after) => {
                lane.remembered.clear();
                return Ok(true);
            }
            Some(seal) => match lane.reader.read_exact(&seal, &mut self.frames) {
                Ok(run) => Some(run),
                Err(error) => {
                    tracing::warn!(lane = lane.reader.lane(), %error, "batches sealed before the restart can't be sealed alike; sealing anew");
                    lane.remembered.clear();
                    return Ok(true);
                }
            },
            None => lane.reader.read(self.batch_bytes, &mut self.frames)?,
        };
        let Some(run) = run else { return Ok(false) };
        lane.waiting_since = None;
        let lane = lane.reader.lane();
        let span = span(lane, self.journal, &run);
        let sealed = self.sealer.seal(&span, &self.frames, Micros::now().0);
        let pushed = sealed
            .map_err(|error| error.to_string())
            .and_then(|batch| self.sender.push(batch).map_err(|error| error.to_string()));
        if let Err(error) = pushed {
            tracing::error!(lane, %error, first = run.first, last = run.last, "a batch was not sealed");
            // Nothing may be passed over: the same events are tried again.
            self.lanes[number].reader.seek(run.after);
            return Ok(false);
        }
        if let Some(progress) = self.progress.find(lane) {
            progress.sealed.store(run.last, Ordering::Release);
        }
        self.mark(lane, "sealed", run.last);
        let (after, first, last) = (run.after, run.first, run.last);
        self.lanes[number]
            .reader
            .remember_seal(Seal { after, first, last });
        Ok(true)
    }

    fn release(&mut self, release: Release) {
        let Some(number) = self
            .lanes
            .iter()
            .position(|lane| lane.reader.lane() == release.lane)
        else {
            return;
        };
        let lane = &mut self.lanes[number];
        lane.acknowledged = lane.acknowledged.max(release.through);
        if release.skip {
            lane.reader.seek(release.through);
            lane.remembered.retain(|seal| seal.first > release.through);
        }
        self.mark(release.lane, "acknowledged", release.through);
        self.release_covered();
    }

    /// Lets the journal delete what ClickHouse has and the saved filters know.
    pub(super) fn release_covered(&mut self) {
        for lane in &mut self.lanes {
            let covered = self
                .progress
                .find(lane.reader.lane())
                .map_or(u64::MAX, |progress| {
                    progress.covered.load(Ordering::Acquire)
                });
            let through = lane.acknowledged.min(covered);
            if through > lane.reader.released() {
                lane.reader.release(through);
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

const fn span(lane: u8, journal: u64, run: &Run) -> Span {
    Span {
        lane,
        journal,
        format_version: run.format_version,
        after: run.after,
        first: run.first,
        last: run.last,
        events: run.events,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::settings::{ByteSize, Period, Within};
    use event_journal::{Opened, Options};
    use event_shipping::LaneState;
    use std::path::Path;

    fn open(dir: &Path) -> Opened {
        let options = Options {
            dir: dir.into(),
            lanes: 1,
            format_version: 1,
            segment_bytes: 64 << 10,
            max_bytes: 16 << 20,
            sync_interval: Duration::from_secs(1),
        };
        event_journal::open(&options).expect("opens")
    }

    fn append(journal: &mut Opened, events: u32) {
        for number in 0..events {
            let event = number.to_le_bytes().repeat(25);
            let appended = journal.writers[0].append(event.len(), |room| {
                room.copy_from_slice(&event);
                Some(event.len())
            });
            appended.expect("there is room");
        }
    }

    /// `journal` in batches of `bytes`, for an aggregator that has everything up to `taken`; the
    /// filters were never saved.
    fn spool(journal: Opened, bytes: u64, taken: u64) -> Spool {
        let settings = AggregatorSettings {
            address: String::new(),
            batch_bytes: Within::new(ByteSize(bytes)),
            batch_age: Within::new(Period(Duration::from_millis(1))),
        };
        let progress = Arc::new(Progress::new([(0, 0)].into_iter()));
        let id = journal.journal;
        let spool = Spool::new(id, journal.readers, progress, &settings, Metrics::new());
        let mut spool = spool.expect("there is memory");
        let state = LaneState {
            lane: 0,
            journal: id,
            received: taken,
            taken,
        };
        let lanes = vec![state];
        spool.welcome(&Welcome { lanes }).expect("sound");
        spool
    }

    fn seal_all(spool: &mut Spool) -> Vec<Batch> {
        let now = Instant::now();
        spool.seal_due(now);
        spool.seal_due(now + Duration::from_secs(1));
        std::iter::from_fn(|| spool.next_batch()).collect()
    }

    /// Everything that is sealed for an aggregator that has nothing yet.
    fn sealed(journal: Opened, bytes: u64) -> Vec<Batch> {
        seal_all(&mut spool(journal, bytes, 0))
    }

    fn is_whole(batches: &[Batch]) -> bool {
        let mut last = 0;
        batches.iter().all(|batch| {
            let follows = batch.header.after == last;
            last = batch.header.last;
            follows
        })
    }

    #[test]
    fn what_was_acknowledged_and_not_released_is_sealed_alike_too() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut journal = open(dir.path());
        append(&mut journal, 500);
        let id = journal.journal;
        let mut spool = spool(journal, 4_096, 0);
        let before = seal_all(&mut spool);
        let taken = before[3].header.last;
        let ack = Ack {
            lane: 0,
            journal: id,
            taken,
        };
        spool.acknowledge(&ack).expect("sound");
        drop(spool);

        let after = sealed(open(dir.path()), 64 << 10);
        assert!(is_whole(&after));
        let bounds = |batch: &Batch| (batch.header.after, batch.header.last, batch.header.crc);
        assert!(before.iter().map(bounds).eq(after.iter().map(bounds)));
    }

    #[test]
    fn a_gap_that_the_aggregator_bridged_is_not_left_open_by_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut journal = open(dir.path());
        append(&mut journal, 500);
        let skipped = seal_all(&mut spool(journal, 4_096, 300));
        assert_eq!(skipped[0].header.after, 300);

        let after = sealed(open(dir.path()), 4_096);
        assert!(is_whole(&after));
        let events: u32 = after.iter().map(|batch| batch.header.events).sum();
        assert_eq!(events, 500);
    }

    #[test]
    fn batches_sealed_before_a_restart_are_sealed_alike_after_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut journal = open(dir.path());
        append(&mut journal, 500);
        let before = sealed(journal, 4_096);
        assert!(before.len() > 5, "{} batches", before.len());

        // More has come in and the settings have changed; what was sealed stays as it was.
        let mut journal = open(dir.path());
        append(&mut journal, 500);
        let after = sealed(journal, 64 << 10);
        assert!(after.len() > before.len());
        for (before, after) in before.iter().zip(&after) {
            let identity = |batch: &Batch| {
                let header = batch.header;
                (
                    header.journal,
                    header.lane,
                    header.after,
                    header.first,
                    header.last,
                    header.crc,
                )
            };
            assert_eq!(identity(before), identity(after));
            assert_eq!(before.payload, after.payload);
        }
        let events: u32 = after.iter().map(|batch| batch.header.events).sum();
        assert_eq!(events, 1_000);
    }
}
