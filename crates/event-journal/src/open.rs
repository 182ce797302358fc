//! Opening a journal: lock, recovery, and a fresh segment for each lane that is written to.

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::ids::JournalIds;
use crate::keeper::{Keeper, Stats, Upkeep, Wake};
use crate::lane::Lane;
use crate::reader::{self, LaneReader};
use crate::recovery::{self, LaneRecovery, Recovery};
use crate::segment::Segment;
use crate::spool;
use crate::writer::LaneWriter;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use storage::{Disk, Storage};

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its folder; made when absent.
    pub dir: PathBuf,
    /// Lanes to write to, numbered from 0.
    pub lanes: u8,
    /// The version of the events' form that is written.
    pub format_version: u16,
    /// The size of a segment file.
    pub segment_bytes: u32,
    /// The most that all segment files together take.
    pub max_bytes: u64,
    /// How often accepted events are synced: the window that a power cut can lose.
    pub sync_interval: Duration,
}

/// An open journal.
#[derive(Debug)]
pub struct Opened {
    /// One for each lane written to, in order.
    pub writers: Vec<LaneWriter>,
    /// One for each lane, those left over from a run with more lanes included.
    pub readers: Vec<LaneReader>,
    /// The spool's random id: a spool that was wiped has another.
    pub journal: u64,
    /// Under which ids its sequences are shipped.
    pub ids: JournalIds,
    /// What an earlier process left.
    pub recovery: Recovery,
    /// Syncs and spare segments; the journal is closed when it is dropped.
    pub keeper: Keeper,
}

/// An open journal without a thread of its own.
#[derive(Debug)]
pub struct Unkept<S: Storage> {
    /// As in [`Opened`].
    pub writers: Vec<LaneWriter<S>>,
    /// As in [`Opened`].
    pub readers: Vec<LaneReader<S>>,
    /// As in [`Opened`].
    pub journal: u64,
    /// As in [`Opened`].
    pub ids: JournalIds<S>,
    /// As in [`Opened`].
    pub recovery: Recovery,
    /// Syncs and spare segments, when the caller says so.
    pub upkeep: Upkeep<S>,
}

/// Opens the journal in `options.dir`, recovering what an earlier process left.
///
/// # Errors
/// When the folder can't be used, another process has it, or the options contradict each other.
/// Damaged or foreign files are set aside and are no error.
pub fn open(options: &Options) -> Result<Opened, OpenError> {
    let Unkept {
        writers,
        readers,
        journal,
        ids,
        recovery,
        upkeep,
    } = open_on(Disk, options)?;
    let keeper = Keeper::start(upkeep, options.sync_interval)
        .map_err(|cause| io_error(&options.dir, cause))?;
    Ok(Opened {
        writers,
        readers,
        journal,
        ids,
        recovery,
        keeper,
    })
}

/// As [`open`], on any storage and without a thread: who calls this keeps the journal himself, and
/// `options.sync_interval` says nothing.
///
/// # Errors
/// As [`open`].
pub fn open_on<S: Storage>(storage: S, options: &Options) -> Result<Unkept<S>, OpenError> {
    let least = u64::from(options.lanes) * 2 * u64::from(options.segment_bytes);
    if options.segment_bytes < 64 << 10 || options.max_bytes < least {
        let (lanes, segment_bytes) = (options.lanes, options.segment_bytes);
        return Err(OpenError::TooSmall {
            lanes,
            segment_bytes,
            least: least.max(128 << 10),
        });
    }
    let dir = &options.dir;
    let failed = |cause| io_error(dir, cause);
    storage::create_dir_all(&storage, dir).map_err(failed)?;
    let lock = Arc::new(spool::lock(&storage, dir)?);
    let journal = spool::identity(&storage, dir)?;
    let ids = JournalIds::load(storage.clone(), dir, journal).map_err(failed)?;
    let opening = Opening {
        storage,
        options,
        journal,
        lock,
        stats: Arc::new(Stats::new(options.max_bytes)),
        wake: Arc::default(),
    };
    let mut recovery = Recovery::default();
    let (mut lanes, mut writers, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    for number in opening.lane_numbers().map_err(failed)? {
        let opened = opening
            .lane(number, &mut recovery)
            .map_err(|cause| io_error(&lane_dir(dir, number), cause))?;
        lanes.push(opened);
    }
    for lane in &lanes {
        if lane.shared.written {
            let mut writer = LaneWriter::new(lane.shared.clone(), lane.next_seq);
            begin(&mut writer, &lane.shared, &lane.empty);
            writers.push(writer);
        }
        let checkpoint = lane.checkpoint.clone();
        readers.push(LaneReader::new(lane.shared.clone(), checkpoint));
    }
    let upkeep = Upkeep {
        lanes: lanes.into_iter().map(|lane| lane.shared).collect(),
        stats: opening.stats,
        wake: opening.wake,
    };
    Ok(Unkept {
        writers,
        readers,
        journal,
        ids,
        recovery,
        upkeep,
    })
}

struct Opening<'a, S: Storage> {
    storage: S,
    options: &'a Options,
    journal: u64,
    lock: Arc<S::Lock>,
    stats: Arc<Stats>,
    wake: Arc<Wake>,
}

struct OpenedLane<S: Storage> {
    shared: Arc<Lane<S>>,
    checkpoint: Checkpoint,
    next_seq: u64,
    empty: Vec<Segment<S::File>>,
}

impl<S: Storage> Opening<'_, S> {
    /// The lanes to be written and those that exist.
    fn lane_numbers(&self) -> io::Result<Vec<u8>> {
        let mut numbers: Vec<u8> = (0..self.options.lanes).collect();
        let existing = recovery::lanes(&self.storage, &self.options.dir)?;
        numbers.extend(existing.into_iter().map(|(number, _)| number));
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    fn lane(&self, number: u8, report: &mut Recovery) -> io::Result<OpenedLane<S>> {
        let dir = lane_dir(&self.options.dir, number);
        storage::create_dir_all(&self.storage, &dir)?;
        let checkpoint = Checkpoint::load(&self.storage, &dir)?;
        let mut found = LaneRecovery {
            lane: number,
            ..LaneRecovery::default()
        };
        let recovered = recovery::lane(&self.storage, &dir, self.journal, number, &mut found)?;
        report.lanes.push(found);
        // The checkpoint may know more than segments that a power cut took.
        let known = checkpoint
            .seals
            .iter()
            .map(|seal| seal.last)
            .fold(checkpoint.acknowledged, u64::max);
        let next_seq = recovered.next_seq.max(known + 1) + recovered.unknown;
        for segment in recovered.segments.iter().chain(&recovered.empty) {
            self.stats.found(u64::from(segment.length));
        }
        if recovered.sync_failed {
            self.stats.sync_failed();
        }
        let shared = Arc::new(Lane::new(
            self.storage.clone(),
            number,
            dir,
            self.journal,
            self.options.format_version,
            self.options.segment_bytes,
            self.stats.clone(),
            recovered.segments,
            (next_seq, recovered.next_number),
            self.lock.clone(),
            self.wake.clone(),
            number < self.options.lanes,
            recovered.sync_failed,
        ));
        Ok(OpenedLane {
            shared,
            checkpoint,
            next_seq,
            empty: recovered.empty,
        })
    }
}

/// Gives a lane its first segment. Its header carries the limits of empty segments on, so they can
/// go then. Without room for one the journal still opens: to ship what it holds, and because
/// visitors are answered even when nothing can be logged.
fn begin<S: Storage>(writer: &mut LaneWriter<S>, lane: &Lane<S>, empty: &[Segment<S::File>]) {
    match writer.begin() {
        Ok(()) => empty
            .iter()
            .for_each(|segment| reader::delete(lane, segment)),
        Err(error) => tracing::error!(lane = lane.number, %error, "nothing can be accepted yet"),
    }
}

fn io_error(path: &Path, cause: io::Error) -> OpenError {
    OpenError::Io {
        path: path.into(),
        cause,
    }
}

fn lane_dir(dir: &Path, number: u8) -> PathBuf {
    dir.join(format!("lane-{number}"))
}
