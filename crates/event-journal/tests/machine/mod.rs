//! A journal on a model disk beside what is known to have been promised: what was accepted, what was
//! said to be durable, which sequences were given out. Says when the journal does not keep to it.

mod knowledge;

pub(crate) use knowledge::Knowledge;
use knowledge::{End, Found};

use event_journal::{AppendError, Options, Run, Seal, Unkept, frames, open_on};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use storage::model::{Loss, ModelDisk};

pub(crate) const SEGMENT: u32 = 64 << 10;
const DIR: &str = "/data/spool";

/// What is done with a journal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// An event of so many bytes, on a lane.
    Append(u8, usize),
    /// The process dies when so many bytes of the event are written.
    Torn(u8, usize),
    /// The keeper syncs all lanes.
    Sync,
    /// Somebody waits for all that was accepted to be durable, and the keeper sees to it.
    Await(u8),
    /// The keeper makes spare segments.
    Spare,
    /// The shipper reads what is new and remembers a seal.
    Seal(u8),
    /// All but so many of the sealed events are released.
    Release(u8, u64),
    /// The journal is closed in order and opened again.
    Reopen,
    /// Time passes, so that a refused writer tries again.
    Tick,
}

/// A journal on a model disk, and what it promised.
pub(crate) struct Machine {
    pub(crate) disk: ModelDisk,
    options: Options,
    journal: Option<Unkept<ModelDisk>>,
    pub(crate) known: Knowledge,
    /// Bytes when it was opened: a power cut can bring back what was deleted.
    found_bytes: u64,
    /// What those who waited were told: lane, sequence, whether it is durable.
    told: Arc<Mutex<Vec<(u8, u64, bool)>>>,
}

impl Machine {
    /// Opens a journal on an empty disk.
    pub(crate) fn new(seed: u64, lanes: u8, max_segments: u64) -> Self {
        let options = Options {
            dir: DIR.into(),
            lanes,
            format_version: 1,
            segment_bytes: SEGMENT,
            max_bytes: max_segments * u64::from(SEGMENT),
            sync_interval: Duration::ZERO,
        };
        Self {
            disk: ModelDisk::new(seed),
            options,
            journal: None,
            known: Knowledge::default(),
            found_bytes: 0,
            told: Arc::default(),
        }
    }

    /// Does the step; nothing when the journal can't be opened or the machine has stopped.
    pub(crate) fn step(&mut self, step: Step) {
        if self.disk.has_stopped() || !self.opened() || self.disk.has_stopped() {
            return;
        }
        match step {
            Step::Append(lane, len) => self.append(lane, len),
            Step::Torn(lane, written) => self.torn(lane, written),
            Step::Sync => self.journal().upkeep.sync(true),
            Step::Await(lane) => self.wait(lane),
            Step::Spare => self.journal().upkeep.spare(),
            Step::Seal(lane) => self.seal(lane),
            Step::Release(lane, but) => self.release(lane, but),
            Step::Reopen => {
                let _ = self.journal().upkeep.finish();
                self.journal = None;
                self.take_told();
            }
            Step::Tick => self.disk.advance(Duration::from_secs(1)),
        }
        self.check_bytes();
    }

    /// What another process finds when this one dies now.
    pub(crate) fn crashed(&self) -> Self {
        self.at_other_disk(self.disk.after_crash(), End::Crash)
    }

    /// What is found when the power fails now.
    pub(crate) fn without_power(&self, loss: Loss) -> Self {
        self.at_other_disk(self.disk.after_power_loss(loss), End::PowerCut)
    }

    fn at_other_disk(&self, disk: ModelDisk, end: End) -> Self {
        let mut known = self.known.clone();
        known.ended(end);
        known.faulty = false;
        Self {
            disk,
            options: self.options.clone(),
            journal: None,
            known,
            found_bytes: 0,
            told: Arc::default(),
        }
    }

    /// Opens the journal if it is not, and checks what is in it; false when that failed for a fault
    /// that was asked for.
    pub(crate) fn opened(&mut self) -> bool {
        if self.journal.is_some() {
            return true;
        }
        match open_on(self.disk.clone(), &self.options) {
            Ok(journal) => self.journal = Some(journal),
            Err(error) => {
                assert!(
                    self.known.faulty || self.disk.has_stopped(),
                    "it does not open: {error}"
                );
                return false;
            }
        }
        if !self.disk.has_stopped() {
            self.check_opened();
        }
        true
    }

    fn journal(&mut self) -> &mut Unkept<ModelDisk> {
        self.journal.as_mut().expect("it was opened")
    }

    fn check_opened(&mut self) {
        self.found_bytes = self.journal().upkeep.stats().bytes();
        let id = self.journal().journal;
        self.known.check_identity(id);
        let damaged: u64 = self
            .journal()
            .recovery
            .lanes
            .iter()
            .map(|lane| lane.damaged_bytes)
            .sum();
        let aside: usize = self
            .journal()
            .recovery
            .lanes
            .iter()
            .map(|lane| lane.set_aside.len())
            .sum();
        self.known.check_damage(damaged, aside);
        for lane in 0..self.options.lanes {
            let at = usize::from(lane);
            let next = self.journal().writers[at].next_seq();
            let released = self.journal().readers[at].released();
            let seals = self.journal().readers[at].seals().to_vec();
            let events = self.read_all(lane);
            let known = self.known.lane(lane);
            known.check_next(next);
            known.check_events(&events, released);
            known.check_seals(&seals, released);
            for seal in known.seals_to_read(&seals, released) {
                self.check_exact(lane, &seal);
            }
            self.journal().readers[at].seek(released);
            self.known.lane(lane).opened(events, released);
        }
        self.check_bytes();
    }

    /// Every event of a lane that can be read, each checked against what was written.
    fn read_all(&mut self, lane: u8) -> Found {
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

    fn check_exact(&mut self, lane: u8, seal: &Seal) {
        let mut bytes = Vec::new();
        let run = self.journal().readers[usize::from(lane)]
            .read_exact(seal, &mut bytes)
            .expect("a batch that was sealed is sealed alike");
        self.known
            .lane(lane)
            .check_sealed(seal, &events_of(&bytes, &run));
    }

    fn append(&mut self, lane: u8, len: usize) {
        let (number, bytes) = self.known.next_payload(len);
        let at = usize::from(lane);
        let next = self.journal().writers[at].next_seq();
        self.known.lane(lane).attempted(next, number, len);
        let appended = self.journal().writers[at].append(len, |room| {
            room.copy_from_slice(&bytes);
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
                self.known.lane(lane).accepted(seq);
            }
            Err(AppendError::SpoolFull) => {}
            Err(error) => assert!(self.known.faulty, "{error}"),
        }
    }

    /// Dies in the middle of an append, by a panic that nobody but the test catches.
    fn torn(&mut self, lane: u8, written: usize) {
        let len = written.max(8) * 2;
        let (number, bytes) = self.known.next_payload(len);
        let at = usize::from(lane);
        let next = self.journal().writers[at].next_seq();
        self.known.lane(lane).attempted(next, number, len);
        let writer = &mut self.journal().writers[at];
        let died = catch_unwind(AssertUnwindSafe(|| {
            writer.append(len, |room| {
                room[..written].copy_from_slice(&bytes[..written]);
                std::panic::resume_unwind(Box::new("killed"));
            })
        }));
        if died.is_err() && !self.disk.has_stopped() {
            *self = self.crashed();
        }
    }

    fn wait(&mut self, lane: u8) {
        let Some(last) = self.known.lane(lane).last_accepted() else {
            return;
        };
        let told = self.told.clone();
        self.journal().writers[usize::from(lane)].sync_through(last, move |outcome| {
            let mut told = told.lock().expect("nobody panics meanwhile");
            told.push((lane, last, outcome.is_ok()));
        });
        self.journal().upkeep.sync(false);
        let failed = self.journal().upkeep.stats().failed_syncs();
        let in_vain = self
            .told
            .lock()
            .expect("nobody panics meanwhile")
            .iter()
            .any(|it| !it.2);
        assert!(
            !in_vain || failed > 0,
            "operators are not told of a failed sync"
        );
        self.take_told();
    }

    fn take_told(&mut self) {
        let told = std::mem::take(&mut *self.told.lock().expect("nobody panics meanwhile"));
        for (lane, seq, durable) in told {
            assert!(
                durable || self.known.faulty || self.disk.has_stopped(),
                "a sync failed without a fault"
            );
            // Who dies between the sync and hearing of it may take it either way.
            if !self.disk.has_stopped() {
                self.known.lane(lane).told(seq, durable);
            }
        }
    }

    fn seal(&mut self, lane: u8) {
        let mut bytes = Vec::new();
        let reader = &mut self.journal().readers[usize::from(lane)];
        let Some(run) = reader.read(usize::MAX / 2, &mut bytes).expect("readable") else {
            return;
        };
        let seal = Seal {
            after: run.after,
            first: run.first,
            last: run.last,
        };
        reader.remember_seal(seal);
        if self.disk.has_stopped() {
            return;
        }
        self.known.lane(lane).sealed(seal, events_of(&bytes, &run));
    }

    fn release(&mut self, lane: u8, but: u64) {
        let Some(through) = self.known.lane(lane).releasable(but) else {
            return;
        };
        // Some of it may be gone even when the release itself was interrupted.
        self.known.lane(lane).released(through);
        self.journal().readers[usize::from(lane)].release(through);
    }

    /// The journal counts its files rightly and keeps below its bound.
    fn check_bytes(&mut self) {
        let Some(journal) = &self.journal else { return };
        if self.disk.has_stopped() {
            return;
        }
        let counted = journal.upkeep.stats().bytes();
        let bound = self.options.max_bytes.max(self.found_bytes);
        assert!(counted <= bound, "{counted} bytes are above the bound");
        if !self.known.faulty {
            self.check_counted();
        }
    }

    /// Every segment on the disk is counted, those begun and given up among them.
    pub(crate) fn check_counted(&self) {
        let Some(journal) = &self.journal else { return };
        let counted = journal.upkeep.stats().bytes();
        assert_eq!(counted, segment_bytes(&self.disk), "bytes of segments");
    }
}

fn segment_bytes(disk: &ModelDisk) -> u64 {
    use storage::{File as _, Storage as _};
    let dir = Path::new(DIR);
    let mut sum = 0;
    for lane in disk.list(dir).expect("a folder") {
        let files: Vec<PathBuf> = disk.list(&lane).unwrap_or_default();
        let segments = files.iter().filter(|path| {
            path.extension()
                .is_some_and(|it| it == "seg" || it == "new")
        });
        sum += segments
            .map(|path| disk.open(path).and_then(|file| file.len()).expect("a file"))
            .sum::<u64>();
    }
    sum
}

fn events_of(bytes: &[u8], run: &Run) -> Found {
    let events: Found = frames(bytes)
        .map(|frame| frame.expect("whole"))
        .map(|frame| (frame.seq, frame.payload.to_vec()))
        .collect();
    assert_eq!(events.len(), run.events as usize);
    assert_eq!(events.first().map(|it| it.0), Some(run.first));
    assert_eq!(events.last().map(|it| it.0), Some(run.last));
    for (seq, bytes) in &events {
        assert!(
            knowledge::is_payload(bytes),
            "sequence {seq} was never written so"
        );
    }
    events
}
