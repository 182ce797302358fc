//! Runs a journal on a model disk against an oracle, which knows the accepted, durable and assigned
//! sequences. Panics when the journal breaks one of its guarantees.

mod oracle;

pub(crate) use oracle::Oracle;
use oracle::{End, ReadEvents};

use event_journal::{
    AppendError, BatchBoundary, FrameRun, ManualJournal, Options, frames, open_manual,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use storage::model::{Loss, ModelDisk};

pub(crate) const SEGMENT_BYTES: u32 = 64 << 10;
const DIR: &str = "/data/spool";

/// One operation on a journal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Appends an event of this length to a lane.
    Append(u8, usize),
    /// Kills the process after it has written this many bytes of an event.
    TornAppend(u8, usize),
    /// Syncs all lanes.
    Sync,
    /// Registers a callback for the last accepted event of a lane and syncs lanes with callbacks.
    Await(u8),
    /// Preallocates segments.
    Preallocate,
    /// Reads a lane's unread events and records them as a sealed batch.
    Seal(u8),
    /// Releases a lane's sealed events except this many.
    Release(u8, u64),
    /// Closes the journal and opens it again.
    Reopen,
    /// Advances the clock, so that a writer without a segment tries again.
    Tick,
}

/// A journal on a model disk, with its oracle.
pub(crate) struct JournalHarness {
    pub(crate) disk: ModelDisk,
    options: Options,
    journal: Option<ManualJournal<ModelDisk>>,
    pub(crate) oracle: Oracle,
    /// The journal's size when it was opened: a power loss can restore deleted segments.
    found_bytes: u64,
    /// Results of sync callbacks: lane, sequence, whether it is durable.
    sync_results: Arc<Mutex<Vec<(u8, u64, bool)>>>,
}

impl JournalHarness {
    /// Opens a journal on an empty disk.
    pub(crate) fn new(seed: u64, lanes: u8, max_segments: u64) -> Self {
        let options = Options {
            dir: DIR.into(),
            lanes,
            format_version: 1,
            segment_bytes: SEGMENT_BYTES,
            max_bytes: max_segments * u64::from(SEGMENT_BYTES),
            sync_interval: Duration::ZERO,
        };
        Self {
            disk: ModelDisk::new(seed),
            options,
            journal: None,
            oracle: Oracle::default(),
            found_bytes: 0,
            sync_results: Arc::default(),
        }
    }

    /// Does the step, unless the journal can't be opened or the machine has stopped.
    pub(crate) fn step(&mut self, step: Step) {
        if self.disk.has_stopped() || !self.open() || self.disk.has_stopped() {
            return;
        }
        match step {
            Step::Append(lane, len) => self.append(lane, len),
            Step::TornAppend(lane, written) => self.torn_append(lane, written),
            Step::Sync => self.journal().maintenance.sync(true),
            Step::Await(lane) => self.wait(lane),
            Step::Preallocate => self.journal().maintenance.preallocate_segments(),
            Step::Seal(lane) => self.seal(lane),
            Step::Release(lane, except) => self.release(lane, except),
            Step::Reopen => {
                let closed = self.journal().maintenance.close();
                let failed = self.journal().maintenance.stats().failed_syncs();
                assert!(closed.is_err() || failed == 0, "closing hid a failed sync");
                self.journal = None;
                self.apply_sync_results();
            }
            Step::Tick => self.disk.advance(Duration::from_secs(1)),
        }
        self.check_bytes();
    }

    /// The journal as another process finds it after this one crashed.
    pub(crate) fn after_crash(&self) -> Self {
        self.on_disk(self.disk.after_crash(), End::Crash)
    }

    /// The journal as another process finds it after a power loss.
    pub(crate) fn after_power_loss(&self, loss: Loss) -> Self {
        self.on_disk(self.disk.after_power_loss(loss), End::PowerLoss)
    }

    fn on_disk(&self, disk: ModelDisk, end: End) -> Self {
        let mut oracle = self.oracle.clone();
        oracle.record_end(end);
        oracle.faulty = false;
        Self {
            disk,
            options: self.options.clone(),
            journal: None,
            oracle,
            found_bytes: 0,
            sync_results: Arc::default(),
        }
    }

    /// Opens the journal unless it is open and checks its content; false when an injected fault
    /// prevented that.
    pub(crate) fn open(&mut self) -> bool {
        if self.journal.is_some() {
            return true;
        }
        match open_manual(self.disk.clone(), &self.options) {
            Ok(journal) => self.journal = Some(journal),
            Err(error) => {
                assert!(
                    self.oracle.faulty || self.disk.has_stopped(),
                    "the journal does not open: {error}"
                );
                return false;
            }
        }
        if !self.disk.has_stopped() {
            self.check_opened();
        }
        true
    }

    fn journal(&mut self) -> &mut ManualJournal<ModelDisk> {
        self.journal.as_mut().expect("the journal is open")
    }

    fn check_opened(&mut self) {
        self.found_bytes = self.journal().maintenance.stats().bytes();
        let id = self.journal().journal;
        self.oracle.check_identity(id);
        let damaged: u64 = self
            .journal()
            .recovery
            .lanes
            .iter()
            .map(|lane| lane.damaged_bytes)
            .sum();
        let set_aside: usize = self
            .journal()
            .recovery
            .lanes
            .iter()
            .map(|lane| lane.set_aside.len())
            .sum();
        self.oracle.check_damage(damaged, set_aside);
        for lane in 0..self.options.lanes {
            let at = usize::from(lane);
            let next = self.journal().writers[at].next_seq();
            let released = self.journal().readers[at].released();
            let boundaries = self.journal().readers[at].batch_boundaries().to_vec();
            let events = self.read_all(lane);
            let oracle = self.oracle.lane(lane);
            oracle.check_next(next);
            oracle.check_events(&events, released);
            oracle.check_boundaries(&boundaries, released);
            for boundary in oracle.boundaries_to_read(&boundaries, released) {
                self.check_exact(lane, &boundary);
            }
            self.journal().readers[at].seek(released);
            self.oracle.lane(lane).record_opened(events, released);
        }
        self.check_bytes();
    }

    /// Every readable event of a lane; each payload is verified.
    fn read_all(&mut self, lane: u8) -> ReadEvents {
        let reader = &mut self.journal().readers[usize::from(lane)];
        reader.seek(0);
        let (mut events, mut bytes, mut after) = (Vec::new(), Vec::new(), 0);
        while let Some(run) = reader.read(100_000, &mut bytes).expect("readable") {
            assert_eq!(run.after, after, "runs follow each other");
            events.extend(events_of(&bytes, &run));
            after = run.last;
            bytes.clear();
        }
        events
    }

    fn check_exact(&mut self, lane: u8, boundary: &BatchBoundary) {
        let mut bytes = Vec::new();
        let run = self.journal().readers[usize::from(lane)]
            .read_exact(boundary, &mut bytes)
            .expect("a sealed batch is sealed identically");
        self.oracle
            .lane(lane)
            .check_sealed(boundary, &events_of(&bytes, &run));
    }

    fn append(&mut self, lane: u8, len: usize) {
        let (number, bytes) = self.oracle.next_payload(len);
        let at = usize::from(lane);
        let next = self.journal().writers[at].next_seq();
        self.oracle.lane(lane).record_attempt(next, number, len);
        let appended = self.journal().writers[at].append(len, |buffer| {
            buffer.copy_from_slice(&bytes);
            Some(len)
        });
        if self.disk.has_stopped() {
            return;
        }
        match appended {
            Ok(seq) => {
                assert_eq!(
                    seq, next,
                    "sequences have no gaps while the journal is open"
                );
                self.oracle.lane(lane).record_accepted(seq);
            }
            Err(AppendError::SpoolFull) => {}
            Err(error) => assert!(self.oracle.faulty, "{error}"),
        }
    }

    /// Crashes during an append: the callback panics, and only the harness catches the panic.
    fn torn_append(&mut self, lane: u8, written: usize) {
        let len = written.max(8) * 2;
        let (number, bytes) = self.oracle.next_payload(len);
        let at = usize::from(lane);
        let next = self.journal().writers[at].next_seq();
        self.oracle.lane(lane).record_attempt(next, number, len);
        let writer = &mut self.journal().writers[at];
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            writer.append(len, |buffer| {
                buffer[..written].copy_from_slice(&bytes[..written]);
                std::panic::resume_unwind(Box::new("killed"));
            })
        }));
        if outcome.is_err() && !self.disk.has_stopped() {
            *self = self.after_crash();
        }
    }

    fn wait(&mut self, lane: u8) {
        let Some(last) = self.oracle.lane(lane).last_accepted() else {
            return;
        };
        let sync_results = self.sync_results.clone();
        self.journal().writers[usize::from(lane)].sync_through(last, move |outcome| {
            let mut sync_results = sync_results.lock().expect("no holder panics");
            sync_results.push((lane, last, outcome.is_ok()));
        });
        self.journal().maintenance.sync(false);
        let failed = self.journal().maintenance.stats().failed_syncs();
        let callback_failed = self
            .sync_results
            .lock()
            .expect("no holder panics")
            .iter()
            .any(|it| !it.2);
        assert!(
            !callback_failed || failed > 0,
            "a failed sync is missing in the statistics"
        );
        self.apply_sync_results();
    }

    fn apply_sync_results(&mut self) {
        let sync_results =
            std::mem::take(&mut *self.sync_results.lock().expect("no holder panics"));
        for (lane, seq, durable) in sync_results {
            assert!(
                durable || self.oracle.faulty || self.disk.has_stopped(),
                "a sync failed without a fault"
            );
            // A process that stops between the sync and its callback may have either result.
            if !self.disk.has_stopped() {
                self.oracle.lane(lane).record_sync_result(seq, durable);
            }
        }
    }

    fn seal(&mut self, lane: u8) {
        let mut bytes = Vec::new();
        let reader = &mut self.journal().readers[usize::from(lane)];
        let Some(run) = reader.read(usize::MAX / 2, &mut bytes).expect("readable") else {
            return;
        };
        let boundary = BatchBoundary {
            after: run.after,
            first: run.first,
            last: run.last,
        };
        reader.record_boundary(boundary);
        if self.disk.has_stopped() {
            return;
        }
        self.oracle
            .lane(lane)
            .record_sealed(boundary, events_of(&bytes, &run));
    }

    fn release(&mut self, lane: u8, except: u64) {
        let Some(through) = self.oracle.lane(lane).releasable(except) else {
            return;
        };
        // An interrupted release may have deleted some segments.
        self.oracle.lane(lane).record_released(through);
        self.journal().readers[usize::from(lane)].release(through);
    }

    /// Checks the journal's byte count and its maximum size.
    fn check_bytes(&mut self) {
        let Some(journal) = &self.journal else { return };
        if self.disk.has_stopped() {
            return;
        }
        let counted = journal.maintenance.stats().bytes();
        let bound = self.options.max_bytes.max(self.found_bytes);
        assert!(counted <= bound, "{counted} bytes exceed the maximum");
        if !self.oracle.faulty {
            self.check_counted();
        }
    }

    /// Checks that every segment on the disk is counted, including abandoned ones.
    pub(crate) fn check_counted(&self) {
        let Some(journal) = &self.journal else { return };
        let counted = journal.maintenance.stats().bytes();
        assert_eq!(counted, segment_bytes(&self.disk), "bytes of segments");
    }
}

fn segment_bytes(disk: &ModelDisk) -> u64 {
    use storage::{File as _, Storage as _};
    let dir = Path::new(DIR);
    let mut sum = 0;
    for lane in disk.list(dir).expect("directory listing") {
        let files: Vec<PathBuf> = disk.list(&lane).unwrap_or_default();
        let segments = files.iter().filter(|path| {
            path.extension()
                .is_some_and(|it| it == "seg" || it == "new")
        });
        sum += segments
            .map(|path| disk.open(path).and_then(|file| file.len()).expect("file"))
            .sum::<u64>();
    }
    sum
}

fn events_of(bytes: &[u8], run: &FrameRun) -> ReadEvents {
    let events: ReadEvents = frames(bytes)
        .map(|frame| frame.expect("valid frame"))
        .map(|frame| (frame.seq, frame.payload.to_vec()))
        .collect();
    assert_eq!(events.len(), run.events as usize);
    assert_eq!(events.first().map(|it| it.0), Some(run.first));
    assert_eq!(events.last().map(|it| it.0), Some(run.last));
    for (seq, bytes) in &events {
        assert!(
            oracle::is_payload(bytes),
            "sequence {seq} has a payload that was never written"
        );
    }
    events
}
