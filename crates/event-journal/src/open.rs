//! Opening a journal: lock, recovery, and a fresh segment for each lane that is written to.

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::keeper::{Keeper, Stats};
use crate::lane::Lane;
use crate::reader::{self, LaneReader};
use crate::recovery::{self, LaneRecovery, Recovery};
use crate::segment::Segment;
use crate::spool;
use crate::writer::LaneWriter;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
    /// What an earlier process left.
    pub recovery: Recovery,
    /// Syncs and spare segments; the journal is closed when it is dropped.
    pub keeper: Keeper,
}

/// Opens the journal in `options.dir`, recovering what an earlier process left.
///
/// # Errors
/// When the folder can't be used, another process has it, or the options contradict each other.
/// Damaged or foreign files are set aside and are no error.
pub fn open(options: &Options) -> Result<Opened, OpenError> {
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
    fs::create_dir_all(dir).map_err(|cause| io_error(dir, cause))?;
    let lock = Arc::new(spool::lock(dir)?);
    let journal = spool::identity(dir)?;
    let stats = Arc::new(Stats::new(options.max_bytes));
    let mut report = Recovery::default();
    let mut lanes = Vec::new();
    for number in lane_numbers(dir, options.lanes).map_err(|cause| io_error(dir, cause))? {
        let opened = open_lane(options, journal, number, (&stats, &lock), &mut report);
        lanes.push(opened.map_err(|cause| io_error(&lane_dir(dir, number), cause))?);
    }
    let shared: Arc<[Arc<Lane>]> = lanes.iter().map(|lane| lane.lane.clone()).collect();
    let keeper = Keeper::start(shared, stats, options.sync_interval)
        .map_err(|cause| io_error(dir, cause))?;
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for OpenedLane {
        lane,
        checkpoint,
        next_seq,
        empty,
    } in lanes
    {
        if lane.written {
            let mut writer = LaneWriter::new(lane.clone(), next_seq, keeper.thread());
            begin(&mut writer, &lane, &empty);
            writers.push(writer);
        }
        readers.push(LaneReader::new(lane, checkpoint, keeper.thread()));
    }
    keeper.thread().unpark();
    Ok(Opened {
        writers,
        readers,
        journal,
        recovery: report,
        keeper,
    })
}

struct OpenedLane {
    lane: Arc<Lane>,
    checkpoint: Checkpoint,
    next_seq: u64,
    empty: Vec<Segment>,
}

fn open_lane(
    options: &Options,
    journal: u64,
    number: u8,
    (stats, lock): (&Arc<Stats>, &Arc<File>),
    report: &mut Recovery,
) -> io::Result<OpenedLane> {
    let dir = lane_dir(&options.dir, number);
    fs::create_dir_all(&dir)?;
    spool::sync_dir(&options.dir)?;
    let checkpoint = Checkpoint::load(&dir)?;
    let mut found = LaneRecovery {
        lane: number,
        ..LaneRecovery::default()
    };
    let recovered = recovery::lane(&dir, journal, number, &mut found)?;
    report.lanes.push(found);
    // The checkpoint may know more than segments that a power cut took.
    let known = checkpoint
        .seals
        .iter()
        .map(|seal| seal.last)
        .fold(checkpoint.released, u64::max);
    let next_seq = recovered.next_seq.max(known + 1);
    for segment in recovered.segments.iter().chain(&recovered.empty) {
        stats.found(u64::from(segment.length));
    }
    let written = number < options.lanes;
    let lane = Arc::new(Lane::new(
        number,
        dir,
        journal,
        options.format_version,
        options.segment_bytes,
        stats.clone(),
        recovered.segments,
        (next_seq, recovered.next_number),
        lock.clone(),
        written,
    ));
    Ok(OpenedLane {
        lane,
        checkpoint,
        next_seq,
        empty: recovered.empty,
    })
}

/// Gives a lane its first segment. Its header carries the limits of empty segments on, so they can
/// go then. Without room for one the journal still opens: to ship what it holds, and because
/// visitors are answered even when nothing can be logged.
fn begin(writer: &mut LaneWriter, lane: &Lane, empty: &[Segment]) {
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

/// The lanes to be written and those that exist.
fn lane_numbers(dir: &Path, lanes: u8) -> io::Result<Vec<u8>> {
    let mut numbers: Vec<u8> = (0..lanes).collect();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u8> = name
            .to_str()
            .and_then(|name| name.strip_prefix("lane-")?.parse().ok());
        numbers.extend(number.filter(|number| *number >= lanes));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
