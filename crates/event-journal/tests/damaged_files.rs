//! Damage to every bit and every length of a spool's files. The journal opens, keeps and reads every
//! undamaged event, reports the damage, and repeats no sequence. Crashes belong to other tests.
#![allow(missing_docs)]

mod common;

use common::{SEGMENT_BYTES, options};
use event_journal::{BatchBoundary, LaneReader, ManualJournal, Options, frames, open_manual};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use storage::Disk;
use tempfile::TempDir;

const HEADER_BYTES: usize = 40;
const PAGE_BYTES: usize = 4_096;
/// The maximum event length in these tests.
const MAX_EVENT_BYTES: usize = 300;

/// The spool of an earlier process.
struct Spool {
    journal: u64,
    /// The files by their relative paths.
    files: BTreeMap<PathBuf, Vec<u8>>,
    events: Vec<Event>,
}

struct Event {
    file: PathBuf,
    /// The frame's byte range, including padding.
    frame: Range<usize>,
    seq: u64,
    payload: Vec<u8>,
}

/// Damage to one file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// Flips this bit of this byte.
    FlipBit(usize, u8),
    /// Truncates the file to this many bytes.
    Truncate(usize),
}

/// The expected result of recovery.
#[derive(Debug, Default)]
struct Expected {
    /// Sequences that are no longer readable.
    lost: Vec<u64>,
    damaged_bytes: usize,
    torn_bytes: usize,
    /// Whether the segment is renamed.
    set_aside: bool,
    /// The expected copy of damaged bytes: path and content.
    copy: Option<(PathBuf, Vec<u8>)>,
}

/// A temporary directory, in memory if possible: a million restarts would wear a disk.
fn temporary_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).expect("temporary directory")
    } else {
        tempfile::tempdir().expect("temporary directory")
    }
}

fn settings(dir: &Path) -> Options {
    Options {
        max_bytes: 64 * u64::from(SEGMENT_BYTES),
        ..options(dir)
    }
}

/// Opens the journal without a sync thread, which does not matter for recovery.
fn open_journal(dir: &Path) -> ManualJournal<Disk> {
    open_manual(Disk, &settings(dir)).expect("the journal opens")
}

/// Appends an event. The lengths cover every size of padding; the bytes include zeros and small numbers.
fn append(journal: &mut ManualJournal<Disk>, number: usize, longest: usize) -> u64 {
    let len = 1 + (number * 7_919) % longest;
    let append = journal.writers[0].append(longest, |buffer| {
        let bytes = buffer[..len].iter_mut().enumerate();
        bytes.for_each(|(at, byte)| *byte = ((number * 31 + at * at) % 11) as u8);
        Some(len)
    });
    append.expect("the journal has space")
}

/// Three segments, each of one process with `events` short events, the last after a crash; with
/// `only_newest` the other two were released and deleted.
fn short_spool(events: usize, only_newest: bool) -> Spool {
    let dir = temporary_dir();
    for run in 0..3 {
        let mut journal = open_journal(dir.path());
        let seqs: Vec<u64> = (0..events)
            .map(|number| append(&mut journal, run * events + number, 60))
            .collect();
        // After the first process alone no segment can be deleted yet.
        if run == 0 || only_newest {
            write_checkpoint(&mut journal.readers[0], &seqs);
        }
    }
    Spool::read(dir.path())
}

/// Three full segments of one process.
fn full_spool() -> Spool {
    let dir = temporary_dir();
    let mut journal = open_journal(dir.path());
    let segments = || {
        let in_lane = fs::read_dir(dir.path().join("lane-0")).expect("lane");
        in_lane.count()
    };
    let mut seqs = Vec::new();
    // The fourth is created when the third has no space for another event of maximum length.
    while segments() < 4 {
        seqs.push(append(&mut journal, seqs.len(), MAX_EVENT_BYTES));
    }
    write_checkpoint(&mut journal.readers[0], &seqs);
    drop(journal);
    let mut spool = Spool::read(dir.path());
    let fourth = spool.segments().pop().expect("four segments");
    spool.files.remove(&fourth);
    spool.events.retain(|event| event.file != fourth);
    spool
}

/// Writes a checkpoint with a release and three batch boundaries.
fn write_checkpoint(reader: &mut LaneReader<Disk>, seqs: &[u64]) {
    reader.release(seqs[0]);
    for ends in [1, 2, 3, 4].windows(2) {
        reader.record_boundary(BatchBoundary {
            after: seqs[ends[0] - 1],
            first: seqs[ends[0]],
            last: seqs[ends[1] - 1],
        });
    }
}

impl Spool {
    fn read(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        for path in list_files(dir) {
            let name = path.strip_prefix(dir).expect("within").to_owned();
            files.insert(name, fs::read(&path).expect("readable"));
        }
        let journal = u64::from_le_bytes(
            files[Path::new("spool.id")][8..16]
                .try_into()
                .expect("8 bytes"),
        );
        let mut spool = Self {
            journal,
            files,
            events: Vec::new(),
        };
        for file in spool.segments() {
            let mut at = PAGE_BYTES;
            for frame in frames(&spool.files[&file][PAGE_BYTES..]).map_while(Result::ok) {
                let end = at + (16 + frame.payload.len()).next_multiple_of(8);
                spool.events.push(Event {
                    file: file.clone(),
                    frame: at..end,
                    seq: frame.seq,
                    payload: frame.payload.to_vec(),
                });
                at = end;
            }
        }
        spool
    }

    fn segments(&self) -> Vec<PathBuf> {
        let is_segment = |path: &&PathBuf| path.extension().is_some_and(|it| it == "seg");
        self.files.keys().filter(is_segment).cloned().collect()
    }

    fn highest(&self) -> u64 {
        self.events.iter().map(|event| event.seq).max().unwrap_or(0)
    }

    /// The files that are not empty.
    fn damageable_files(&self) -> Vec<&PathBuf> {
        let written = self.files.iter().filter(|(_, bytes)| !bytes.is_empty());
        written.map(|(name, _)| name).collect()
    }

    fn damaged_content(&self, file: &Path, damage: Damage) -> Vec<u8> {
        let mut bytes = self.files[file].clone();
        match damage {
            Damage::FlipBit(at, bit) => bytes[at] ^= 1 << bit,
            Damage::Truncate(len) => bytes.truncate(len),
        }
        bytes
    }

    fn expected(&self, file: &Path, damage: Damage) -> Expected {
        let bytes = self.damaged_content(file, damage);
        if bytes == self.files[file] {
            return Expected::default();
        }
        if file.extension().is_none_or(|it| it != "seg") {
            let name = if file.ends_with("checkpoint") {
                file.with_extension("corrupt")
            } else {
                file.with_extension("id.corrupt")
            };
            return Expected {
                copy: Some((name, bytes)),
                ..Expected::default()
            };
        }
        let events: Vec<&Event> = self.events.iter().filter(|it| it.file == file).collect();
        let no_header = match damage {
            Damage::FlipBit(at, _) => at < HEADER_BYTES,
            Damage::Truncate(len) => len < PAGE_BYTES,
        };
        if no_header {
            return Expected {
                lost: events.iter().map(|event| event.seq).collect(),
                set_aside: true,
                copy: Some((file.with_extension("seg.corrupt"), bytes)),
                ..Expected::default()
            };
        }
        let hit = |event: &Event| match damage {
            // Padding has no meaning.
            Damage::FlipBit(at, _) => {
                (event.frame.start..event.frame.start + 16 + event.payload.len()).contains(&at)
            }
            Damage::Truncate(len) => event.frame.end > len,
        };
        let good_end = events
            .iter()
            .rfind(|event| !hit(event))
            .map_or(PAGE_BYTES, |event| event.frame.end);
        let tail = bytes[good_end..].iter().rposition(|byte| *byte != 0);
        let mut expected = Expected {
            lost: events
                .iter()
                .filter(|event| hit(event))
                .map(|it| it.seq)
                .collect(),
            torn_bytes: tail.map_or(0, |last| last + 1),
            ..Expected::default()
        };
        // A valid event after it distinguishes a damaged event from an unfinished one.
        let inside = events
            .iter()
            .find(|event| hit(event) && event.frame.start < good_end);
        if let Some(event) = inside {
            let range = event.frame.clone();
            let name = file.with_extension(format!("damaged-{}", range.start));
            expected.damaged_bytes = range.len();
            expected.copy = Some((name, bytes[range].to_vec()));
        }
        expected
    }
}

/// All files below `dir`, recursively.
fn list_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(list_files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// A directory in which the spool is damaged and restored repeatedly.
struct TrialDirectory<'a> {
    spool: &'a Spool,
    dir: TempDir,
}

impl<'a> TrialDirectory<'a> {
    fn new(spool: &'a Spool) -> Self {
        let dir = temporary_dir();
        fs::create_dir(dir.path().join("lane-0")).expect("lane");
        let trial_dir = Self { spool, dir };
        trial_dir.restore(Path::new(""));
        trial_dir
    }

    /// Restores the spool: opening may have changed, created or truncated files besides `damaged_file`.
    fn restore(&self, damaged_file: &Path) {
        for path in list_files(self.dir.path()) {
            let name = path.strip_prefix(self.dir.path()).expect("within");
            if !self.spool.files.contains_key(name) {
                fs::remove_file(&path).expect("removable");
            }
        }
        for (name, bytes) in &self.spool.files {
            let path = self.dir.path().join(name);
            let len = fs::metadata(&path).map(|it| it.len() as usize).ok();
            if len != Some(bytes.len()) || name == damaged_file || name.ends_with("spool.id") {
                fs::write(path, bytes).expect("writable");
            }
        }
    }

    fn try_damage(&self, file: &Path, damage: Damage) {
        let context = || format!("{} after {damage:?}", file.display());
        let bytes = self.spool.damaged_content(file, damage);
        fs::write(self.dir.path().join(file), &bytes).expect("writable");
        let expected = self.spool.expected(file, damage);
        let remaining = || {
            let is_remaining = |event: &&Event| !expected.lost.contains(&event.seq);
            self.spool.events.iter().filter(is_remaining)
        };

        let mut journal = open_journal(self.dir.path());
        let found = &journal.recovery.lanes[0];
        assert_eq!(journal.journal, self.spool.journal, "{}", context());
        assert_eq!(found.events as usize, remaining().count(), "{}", context());
        assert_eq!(
            found.damaged_bytes as usize,
            expected.damaged_bytes,
            "{}",
            context()
        );
        assert_eq!(
            found.torn_bytes as usize,
            expected.torn_bytes,
            "{}",
            context()
        );
        assert_eq!(
            found.set_aside.len(),
            usize::from(expected.set_aside),
            "{}",
            context()
        );
        let (next, highest) = (journal.writers[0].next_seq(), self.spool.highest());
        assert!(next > highest, "{next} after {highest}: {}", context());
        if let Some((name, bytes)) = &expected.copy {
            let copy = fs::read(self.dir.path().join(name));
            assert_eq!(copy.expect("copy of the damage"), *bytes, "{}", context());
        }
        assert_same_events(&mut journal.readers[0], remaining(), &context);
        // A checkpoint is used completely or not at all.
        let known = expected.copy.is_none() || !file.ends_with("checkpoint");
        let reader = &journal.readers[0];
        assert_eq!(reader.released() != 0, known, "{}", context());
        assert_eq!(
            reader.batch_boundaries().len(),
            if known { 3 } else { 0 },
            "{}",
            context()
        );
        if matches!(damage, Damage::FlipBit(_, 0)) {
            // Later events are safe, and the damage costs no further event.
            let seq = append(&mut journal, 5, 60);
            drop(journal);
            let mut again = open_journal(self.dir.path());
            assert!(again.writers[0].next_seq() > seq, "{}", context());
            assert_eq!(again.recovery.lanes[0].torn_bytes, 0, "{}", context());
            let mut read = read_all(&mut again.readers[0]);
            assert_eq!(read.pop().map(|(last, _)| last), Some(seq), "{}", context());
            assert!(
                read.iter()
                    .map(|it| it.0)
                    .eq(remaining().map(|event| event.seq))
            );
        }
        self.restore(file);
    }
}

/// Every readable event; checks that runs follow each other.
fn read_all(reader: &mut LaneReader<Disk>) -> Vec<(u64, Vec<u8>)> {
    let (mut all, mut last, mut bytes) = (Vec::new(), 0, Vec::new());
    reader.seek(0);
    while let Some(run) = reader.read(1 << 20, &mut bytes).expect("readable") {
        assert_eq!(run.after, last, "runs follow each other");
        last = run.last;
    }
    for frame in frames(&bytes) {
        let frame = frame.expect("only valid frames are read");
        all.push((frame.seq, frame.payload.to_vec()));
    }
    all
}

/// Asserts that exactly these events are readable, once and in order.
fn assert_same_events<'a>(
    reader: &mut LaneReader<Disk>,
    events: impl Iterator<Item = &'a Event>,
    context: &dyn Fn() -> String,
) {
    let read = read_all(reader);
    let read = read.iter().map(|(seq, payload)| (*seq, payload.as_slice()));
    assert!(
        read.eq(events.map(|event| (event.seq, event.payload.as_slice()))),
        "{}",
        context()
    );
}

/// Runs all trials on all cores and prints their number.
fn try_all(spool: &Spool, trials: &[(&Path, Damage)]) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let trial_dir = TrialDirectory::new(spool);
                while let Some((file, damage)) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                    trial_dir.try_damage(file, *damage);
                }
            });
        }
    });
    println!("{} restarts, {} events", trials.len(), spool.events.len());
}

/// The used ranges of a segment: the header, the failed-sync mark, and the frames.
fn used_ranges(spool: &Spool, file: &Path) -> Vec<Range<usize>> {
    let bytes = &spool.files[file];
    let end = spool
        .events
        .iter()
        .filter(|event| event.file == file)
        .map(|event| event.frame.end)
        .max();
    match end {
        // Includes the header of a next frame after the last one.
        Some(end) => vec![
            0..HEADER_BYTES,
            512..513,
            PAGE_BYTES..bytes.len().min(end + 24),
        ],
        None => vec![0..bytes.len(); 1],
    }
}

fn bits(ranges: Vec<Range<usize>>) -> impl Iterator<Item = Damage> {
    let bytes = ranges.into_iter().flatten();
    bytes.flat_map(|at| (0..8).map(move |bit| Damage::FlipBit(at, bit)))
}

#[test]
fn flipped_bit_loses_at_most_its_own_event() {
    let spool = short_spool(60, false);
    let mut trials: Vec<(&Path, Damage)> = Vec::new();
    for file in spool.damageable_files() {
        trials.extend(bits(used_ranges(&spool, file)).map(|bit| (file.as_path(), bit)));
    }
    try_all(&spool, &trials);
}

#[test]
fn truncation_loses_no_event_before_the_cut() {
    let spool = short_spool(24, false);
    let mut trials: Vec<(&Path, Damage)> = Vec::new();
    for file in spool.damageable_files() {
        let end = used_ranges(&spool, file).last().map_or(0, |last| last.end);
        trials.extend((0..=end).map(|len| (file.as_path(), Damage::Truncate(len))));
    }
    try_all(&spool, &trials);
}

#[test]
fn damaged_last_segment_still_limits_sequences() {
    let spool = short_spool(60, true);
    let segments = spool.segments();
    assert_eq!(segments.len(), 1);
    let file = segments[0].as_path();
    let header = bits(vec![0..HEADER_BYTES; 1]);
    let cuts = (0..=PAGE_BYTES).map(Damage::Truncate);
    let trials: Vec<_> = header.chain(cuts).map(|damage| (file, damage)).collect();
    try_all(&spool, &trials);
}

#[test]
#[ignore = "1.8 million restarts: minutes in a release build, `--ignored`"]
fn every_bit_and_length_of_full_segments_is_tolerated() {
    let spool = full_spool();
    let mut trials: Vec<(&Path, Damage)> = Vec::new();
    for file in spool.damageable_files() {
        let len = spool.files[file].len();
        trials.extend(bits(vec![0..len; 1]).map(|bit| (file.as_path(), bit)));
        trials.extend((0..=len).map(|len| (file.as_path(), Damage::Truncate(len))));
    }
    try_all(&spool, &trials);
}
