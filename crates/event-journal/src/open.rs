//! Opening a journal: the lock, recovery, and a new segment for each written lane.

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::ids::JournalIds;
use crate::lane::Lane;
use crate::maintenance::JournalMaintenance;
use crate::reader::{self, LaneReader};
use crate::recovery::{self, LaneRecovery, Recovery};
use crate::segment::Segment;
use crate::spool;
use crate::stats::JournalStats;
use crate::sync_signal::SyncSignal;
use crate::sync_thread::SyncThread;
use crate::writer::LaneWriter;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use storage::{Disk, Storage};

/// The settings of a journal.
#[derive(Debug, Clone)]
pub struct Options {
    /// The journal's directory; created when absent.
    pub dir: PathBuf,
    /// The number of written lanes, which are numbered from 0.
    pub lanes: u8,
    /// The format version of the written events.
    pub format_version: u16,
    /// The size of a segment file.
    pub segment_bytes: u32,
    /// The maximum total size of the segment files.
    pub max_bytes: u64,
    /// The interval between syncs: a power loss can destroy the events of one interval.
    pub sync_interval: Duration,
}

/// An open journal with a sync thread.
#[derive(Debug)]
pub struct OpenJournal {
    /// The writers, one per written lane, in order.
    pub writers: Vec<LaneWriter>,
    /// The readers, one per lane, including lanes of an earlier process with more lanes.
    pub readers: Vec<LaneReader>,
    /// The spool's random id; a spool that was deleted and created again has another.
    pub journal: u64,
    /// The ids under which its sequences are shipped.
    pub ids: JournalIds,
    /// The result of recovering the files of earlier processes.
    pub recovery: Recovery,
    /// Syncs the journal; dropping it closes the journal.
    pub sync_thread: SyncThread,
}

/// An open journal without a sync thread.
#[derive(Debug)]
pub struct ManualJournal<S: Storage> {
    /// See [`OpenJournal`].
    pub writers: Vec<LaneWriter<S>>,
    /// See [`OpenJournal`].
    pub readers: Vec<LaneReader<S>>,
    /// See [`OpenJournal`].
    pub journal: u64,
    /// See [`OpenJournal`].
    pub ids: JournalIds<S>,
    /// See [`OpenJournal`].
    pub recovery: Recovery,
    /// Syncs and segment preallocation, called by the owner.
    pub maintenance: JournalMaintenance<S>,
}

/// Opens the journal in `options.dir` and recovers the files of an earlier process.
///
/// # Errors
/// When the directory can't be used, another process has locked it, or the options contradict each
/// other. Damaged or foreign files are renamed and are no error.
pub fn open(options: &Options) -> Result<OpenJournal, OpenError> {
    let ManualJournal {
        writers,
        readers,
        journal,
        ids,
        recovery,
        maintenance,
    } = open_manual(Disk, options)?;
    let sync_thread = SyncThread::start(maintenance, options.sync_interval)
        .map_err(|cause| io_error(&options.dir, cause))?;
    Ok(OpenJournal {
        writers,
        readers,
        journal,
        ids,
        recovery,
        sync_thread,
    })
}

/// As [`open`], but on any storage and without a sync thread: the caller runs the maintenance, and
/// `options.sync_interval` is ignored.
///
/// # Errors
/// As [`open`].
pub fn open_manual<S: Storage>(
    storage: S,
    options: &Options,
) -> Result<ManualJournal<S>, OpenError> {
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
    let journal = spool::load_or_create_id(&storage, dir)?;
    let ids = JournalIds::load(storage.clone(), dir, journal).map_err(failed)?;
    let opener = JournalOpener {
        storage,
        options,
        journal,
        lock,
        stats: Arc::new(JournalStats::new(options.max_bytes)),
        signal: Arc::default(),
    };
    let mut recovery = Recovery::default();
    let (mut lanes, mut writers, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    for number in opener.lane_numbers().map_err(failed)? {
        let opened = opener
            .lane(number, &mut recovery)
            .map_err(|cause| io_error(&lane_dir(dir, number), cause))?;
        lanes.push(opened);
    }
    for lane in &lanes {
        if lane.shared.is_written {
            let mut writer = LaneWriter::new(lane.shared.clone(), lane.next_seq);
            open_first_segment(&mut writer, &lane.shared, &lane.empty);
            writers.push(writer);
        }
        let checkpoint = lane.checkpoint.clone();
        readers.push(LaneReader::new(lane.shared.clone(), checkpoint));
    }
    let maintenance = JournalMaintenance {
        lanes: lanes.into_iter().map(|lane| lane.shared).collect(),
        stats: opener.stats,
        signal: opener.signal,
    };
    Ok(ManualJournal {
        writers,
        readers,
        journal,
        ids,
        recovery,
        maintenance,
    })
}

struct JournalOpener<'a, S: Storage> {
    storage: S,
    options: &'a Options,
    journal: u64,
    lock: Arc<S::Lock>,
    stats: Arc<JournalStats>,
    signal: Arc<SyncSignal>,
}

struct OpenedLane<S: Storage> {
    shared: Arc<Lane<S>>,
    checkpoint: Checkpoint,
    next_seq: u64,
    empty: Vec<Segment<S::File>>,
}

impl<S: Storage> JournalOpener<'_, S> {
    /// The numbers of written and existing lanes.
    fn lane_numbers(&self) -> io::Result<Vec<u8>> {
        let mut numbers: Vec<u8> = (0..self.options.lanes).collect();
        let existing = recovery::find_lanes(&self.storage, &self.options.dir)?;
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
        let recovered =
            recovery::recover_lane(&self.storage, &dir, self.journal, number, &mut found)?;
        report.lanes.push(found);
        // The checkpoint may hold higher sequences than the segments that survived a power loss.
        let known = checkpoint
            .boundaries
            .iter()
            .map(|boundary| boundary.last)
            .fold(checkpoint.acknowledged, u64::max);
        let next_seq = recovered.next_seq.max(known + 1) + recovered.seq_gap;
        for segment in recovered.segments.iter().chain(&recovered.empty) {
            self.stats.add_recovered(u64::from(segment.length));
        }
        if recovered.sync_failed {
            self.stats.record_sync_failure();
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
            self.signal.clone(),
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

/// Gets a lane's first segment. Its header takes over the limits of empty segments, which are deleted
/// then. Without space for one the journal still opens, to ship its events and because visitors are
/// redirected even when clicks can't be logged.
fn open_first_segment<S: Storage>(
    writer: &mut LaneWriter<S>,
    lane: &Lane<S>,
    empty: &[Segment<S::File>],
) {
    match writer.open_first_segment() {
        Ok(()) => empty
            .iter()
            .for_each(|segment| reader::delete_segment(lane, segment)),
        Err(error) => {
            tracing::error!(lane = lane.number, %error, "failed to create the first journal segment; no event is accepted yet")
        }
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
