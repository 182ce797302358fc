//! Every bit and every length of a spool's files: whatever is damaged, the journal opens, keeps all that
//! was not hit, says what was, and repeats no sequence. What a crash leaves belongs to other tests.
#![allow(missing_docs)]

mod common;

use common::{SEGMENT, options};
use event_journal::{LaneReader, Options, Seal, Unkept, frames, open_on};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use storage::Disk;
use tempfile::TempDir;

const HEADER: usize = 40;
const PAGE: usize = 4_096;
/// No event is longer here, in bytes.
const LONGEST: usize = 300;

/// A spool as an earlier process left it.
struct Spool {
    journal: u64,
    /// Its files by their paths within the spool.
    files: BTreeMap<PathBuf, Vec<u8>>,
    events: Vec<Event>,
}

struct Event {
    file: PathBuf,
    /// Where its frame lies, padding included.
    frame: Range<usize>,
    seq: u64,
    payload: Vec<u8>,
}

/// What is done to one file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// This bit of this byte is turned.
    Bit(usize, u8),
    /// The file ends after so many bytes.
    Cut(usize),
}

/// What must be found after it.
#[derive(Debug, Default)]
struct Expected {
    /// Sequences that can't be read any more.
    lost: Vec<u64>,
    damaged_bytes: usize,
    torn_bytes: usize,
    /// A segment's whole file is called otherwise.
    set_aside: bool,
    /// A file that must be there, and what it must hold.
    copy: Option<(PathBuf, Vec<u8>)>,
}

/// Memory where there is some to write files to: a million restarts would wear a disk.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).expect("a folder")
    } else {
        tempfile::tempdir().expect("a folder")
    }
}

fn settings(dir: &Path) -> Options {
    Options {
        max_bytes: 64 * u64::from(SEGMENT),
        ..options(dir)
    }
}

/// The journal without the thread that makes spares and syncs: what is recovered is the same.
fn opened(dir: &Path) -> Unkept<Disk> {
    open_on(Disk, &settings(dir)).expect("opens without a hand")
}

/// Lengths that leave every size of padding, and bytes among which are zeros and small numbers.
fn append(journal: &mut Unkept<Disk>, number: usize, longest: usize) -> u64 {
    let len = 1 + (number * 7_919) % longest;
    let append = journal.writers[0].append(longest, |room| {
        let bytes = room[..len].iter_mut().enumerate();
        bytes.for_each(|(at, byte)| *byte = ((number * 31 + at * at) % 11) as u8);
        Some(len)
    });
    append.expect("there is room")
}

/// Three segments of one run each with `events` short events, the last as a crash leaves it; `alone`,
/// the others were released and are gone.
fn short_spool(events: usize, alone: bool) -> Spool {
    let dir = folder();
    for run in 0..3 {
        let mut journal = opened(dir.path());
        let seqs: Vec<u64> = (0..events)
            .map(|number| append(&mut journal, run * events + number, 60))
            .collect();
        // Of the first run alone no segment is needless yet.
        if run == 0 || alone {
            checkpointed(&mut journal.readers[0], &seqs);
        }
    }
    Spool::read(dir.path())
}

/// Three segments filled in one run.
fn full_spool() -> Spool {
    let dir = folder();
    let mut journal = opened(dir.path());
    let segments = || {
        let in_lane = fs::read_dir(dir.path().join("lane-0")).expect("a lane");
        in_lane.count()
    };
    let mut seqs = Vec::new();
    // A fourth appears when the third has no room for another of the longest.
    while segments() < 4 {
        seqs.push(append(&mut journal, seqs.len(), LONGEST));
    }
    checkpointed(&mut journal.readers[0], &seqs);
    drop(journal);
    let mut spool = Spool::read(dir.path());
    let fourth = spool.segments().pop().expect("four segments");
    spool.files.remove(&fourth);
    spool.events.retain(|event| event.file != fourth);
    spool
}

/// A release and three seals, so that the checkpoint has all its parts.
fn checkpointed(reader: &mut LaneReader<Disk>, seqs: &[u64]) {
    reader.release(seqs[0]);
    for ends in [1, 2, 3, 4].windows(2) {
        reader.remember_seal(Seal {
            after: seqs[ends[0] - 1],
            first: seqs[ends[0]],
            last: seqs[ends[1] - 1],
        });
    }
}

impl Spool {
    fn read(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        for path in found(dir) {
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
            let mut at = PAGE;
            for frame in frames(&spool.files[&file][PAGE..]).map_while(Result::ok) {
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

    /// What there is to damage: each file that holds anything.
    fn victims(&self) -> Vec<&PathBuf> {
        let written = self.files.iter().filter(|(_, bytes)| !bytes.is_empty());
        written.map(|(name, _)| name).collect()
    }

    fn damaged(&self, file: &Path, damage: Damage) -> Vec<u8> {
        let mut bytes = self.files[file].clone();
        match damage {
            Damage::Bit(at, bit) => bytes[at] ^= 1 << bit,
            Damage::Cut(len) => bytes.truncate(len),
        }
        bytes
    }

    fn expected(&self, file: &Path, damage: Damage) -> Expected {
        let bytes = self.damaged(file, damage);
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
            Damage::Bit(at, _) => at < HEADER,
            Damage::Cut(len) => len < PAGE,
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
            // Padding says nothing.
            Damage::Bit(at, _) => {
                (event.frame.start..event.frame.start + 16 + event.payload.len()).contains(&at)
            }
            Damage::Cut(len) => event.frame.end > len,
        };
        let good_end = events
            .iter()
            .rfind(|event| !hit(event))
            .map_or(PAGE, |event| event.frame.end);
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
        // What follows a damaged event tells it from one that was never finished.
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

/// All files below `dir`.
fn found(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(found(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// One folder in which the spool is damaged again and again.
struct Bench<'a> {
    spool: &'a Spool,
    dir: TempDir,
}

impl<'a> Bench<'a> {
    fn new(spool: &'a Spool) -> Self {
        let dir = folder();
        fs::create_dir(dir.path().join("lane-0")).expect("a lane");
        let bench = Self { spool, dir };
        bench.restore(Path::new(""));
        bench
    }

    /// Puts everything as it was; `victim` was damaged, and opening made files longer, shorter or new.
    fn restore(&self, victim: &Path) {
        for path in found(self.dir.path()) {
            let name = path.strip_prefix(self.dir.path()).expect("within");
            if !self.spool.files.contains_key(name) {
                fs::remove_file(&path).expect("removable");
            }
        }
        for (name, bytes) in &self.spool.files {
            let path = self.dir.path().join(name);
            let len = fs::metadata(&path).map(|it| it.len() as usize).ok();
            if len != Some(bytes.len()) || name == victim || name.ends_with("spool.id") {
                fs::write(path, bytes).expect("writable");
            }
        }
    }

    fn try_it(&self, file: &Path, damage: Damage) {
        let what = || format!("{} after {damage:?}", file.display());
        let bytes = self.spool.damaged(file, damage);
        fs::write(self.dir.path().join(file), &bytes).expect("writable");
        let expected = self.spool.expected(file, damage);
        let left = || {
            let is_left = |event: &&Event| !expected.lost.contains(&event.seq);
            self.spool.events.iter().filter(is_left)
        };

        let mut journal = opened(self.dir.path());
        let found = &journal.recovery.lanes[0];
        assert_eq!(journal.journal, self.spool.journal, "{}", what());
        assert_eq!(found.events as usize, left().count(), "{}", what());
        assert_eq!(
            found.damaged_bytes as usize,
            expected.damaged_bytes,
            "{}",
            what()
        );
        assert_eq!(found.torn_bytes as usize, expected.torn_bytes, "{}", what());
        assert_eq!(
            found.set_aside.len(),
            usize::from(expected.set_aside),
            "{}",
            what()
        );
        let (next, highest) = (journal.writers[0].next_seq(), self.spool.highest());
        assert!(next > highest, "{next} after {highest}: {}", what());
        if let Some((name, bytes)) = &expected.copy {
            let copy = fs::read(self.dir.path().join(name));
            assert_eq!(copy.expect("a copy is beside"), *bytes, "{}", what());
        }
        same(&mut journal.readers[0], left(), &what);
        // Where the reader is to go on is believed whole or not at all.
        let known = expected.copy.is_none() || !file.ends_with("checkpoint");
        let reader = &journal.readers[0];
        assert_eq!(reader.released() != 0, known, "{}", what());
        assert_eq!(
            reader.seals().len(),
            if known { 3 } else { 0 },
            "{}",
            what()
        );
        if matches!(damage, Damage::Bit(_, 0)) {
            // What was accepted since is as safe as ever, and the damage costs nothing more.
            let seq = append(&mut journal, 5, 60);
            drop(journal);
            let mut again = opened(self.dir.path());
            assert!(again.writers[0].next_seq() > seq, "{}", what());
            assert_eq!(again.recovery.lanes[0].torn_bytes, 0, "{}", what());
            let mut read = read_all(&mut again.readers[0]);
            assert_eq!(read.pop().map(|(last, _)| last), Some(seq), "{}", what());
            assert!(read.iter().map(|it| it.0).eq(left().map(|event| event.seq)));
        }
        self.restore(file);
    }
}

/// Everything that can be read, the chain of runs checked.
fn read_all(reader: &mut LaneReader<Disk>) -> Vec<(u64, Vec<u8>)> {
    let (mut all, mut last, mut bytes) = (Vec::new(), 0, Vec::new());
    reader.seek(0);
    while let Some(run) = reader.read(1 << 20, &mut bytes).expect("readable") {
        assert_eq!(run.after, last, "runs follow each other");
        last = run.last;
    }
    for frame in frames(&bytes) {
        let frame = frame.expect("only whole frames are read");
        all.push((frame.seq, frame.payload.to_vec()));
    }
    all
}

/// Exactly these events, once and in order.
fn same<'a>(
    reader: &mut LaneReader<Disk>,
    events: impl Iterator<Item = &'a Event>,
    what: &dyn Fn() -> String,
) {
    let read = read_all(reader);
    let read = read.iter().map(|(seq, payload)| (*seq, payload.as_slice()));
    assert!(
        read.eq(events.map(|event| (event.seq, event.payload.as_slice()))),
        "{}",
        what()
    );
}

/// Tries everything on all cores and says how much that was.
fn try_all(spool: &Spool, trials: &[(&Path, Damage)]) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let bench = Bench::new(spool);
                while let Some((file, damage)) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                    bench.try_it(file, *damage);
                }
            });
        }
    });
    println!("{} restarts, {} events", trials.len(), spool.events.len());
}

/// Where a segment's bytes mean something: the header, the mark in its page, and the frames.
fn meaningful(spool: &Spool, file: &Path) -> Vec<Range<usize>> {
    let bytes = &spool.files[file];
    let end = spool
        .events
        .iter()
        .filter(|event| event.file == file)
        .map(|event| event.frame.end)
        .max();
    match end {
        // And the next frame's head beyond the last.
        Some(end) => vec![0..HEADER, 512..513, PAGE..bytes.len().min(end + 24)],
        None => vec![0..bytes.len(); 1],
    }
}

fn bits(ranges: Vec<Range<usize>>) -> impl Iterator<Item = Damage> {
    let bytes = ranges.into_iter().flatten();
    bytes.flat_map(|at| (0..8).map(move |bit| Damage::Bit(at, bit)))
}

#[test]
fn no_bit_that_is_turned_costs_more_than_its_own_event() {
    let spool = short_spool(60, false);
    let mut trials: Vec<(&Path, Damage)> = Vec::new();
    for file in spool.victims() {
        trials.extend(bits(meaningful(&spool, file)).map(|bit| (file.as_path(), bit)));
    }
    try_all(&spool, &trials);
}

#[test]
fn no_length_that_a_file_is_cut_to_costs_what_lies_before_it() {
    let spool = short_spool(24, false);
    let mut trials: Vec<(&Path, Damage)> = Vec::new();
    for file in spool.victims() {
        let end = meaningful(&spool, file).last().map_or(0, |last| last.end);
        trials.extend((0..=end).map(|len| (file.as_path(), Damage::Cut(len))));
    }
    try_all(&spool, &trials);
}

#[test]
fn the_only_segment_left_bounds_the_sequences_whatever_is_left_of_it() {
    let spool = short_spool(60, true);
    let segments = spool.segments();
    assert_eq!(segments.len(), 1);
    let file = segments[0].as_path();
    let header = bits(vec![0..HEADER; 1]);
    let cuts = (0..=PAGE).map(Damage::Cut);
    let trials: Vec<_> = header.chain(cuts).map(|damage| (file, damage)).collect();
    try_all(&spool, &trials);
}

#[test]
#[ignore = "1.8 million restarts: minutes in a release build, `--ignored`"]
fn every_bit_and_length_of_full_segments() {
    let spool = full_spool();
    let mut trials: Vec<(&Path, Damage)> = Vec::new();
    for file in spool.victims() {
        let len = spool.files[file].len();
        trials.extend(bits(vec![0..len; 1]).map(|bit| (file.as_path(), bit)));
        trials.extend((0..=len).map(|len| (file.as_path(), Damage::Cut(len))));
    }
    try_all(&spool, &trials);
}
