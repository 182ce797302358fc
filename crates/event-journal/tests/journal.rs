//! The journal's guarantees on real files.
#![allow(missing_docs)]

mod common;

use common::events::{PAYLOAD, append, append_all, payload, read_all};
use common::{SEGMENT_BYTES, options};
use event_journal::{
    AppendError, BatchBoundary, LaneReader, OpenError, OpenJournal, Options, ReadError,
    frame_bytes, open,
};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn numbers(read: &[(u64, u64)]) -> Vec<u64> {
    read.iter().map(|(_, number)| *number).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let lane = fs::read_dir(dir.join("lane-0")).expect("lane");
    let mut paths: Vec<PathBuf> = lane.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

#[test]
fn appended_events_survive_segment_rolls_and_reopening() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("opens");
    let seqs = append_all(&mut journal, 0..3_000);
    assert_eq!(
        seqs,
        (seqs[0]..seqs[0] + 3_000).collect::<Vec<_>>(),
        "no gaps while running"
    );
    assert!(numbers(&read_all(&mut journal.readers[0], 0)) == (0..3_000).collect::<Vec<u64>>());
    assert_eq!(journal.readers[0].backlog(), 0);
    drop(journal);

    let mut journal = open(&options(dir.path())).expect("opens again");
    assert_eq!(journal.recovery.lanes[0].events, 3_000);
    assert!(journal.recovery.lanes[0].segments > 1);
    let later = append_all(&mut journal, 3_000..4_000);
    assert!(later[0] > seqs[2_999], "sequences never go back");
    let read = read_all(&mut journal.readers[0], 0);
    assert!(numbers(&read) == (0..4_000).collect::<Vec<u64>>());
    let middle = read[1_234].0;
    assert_eq!(read_all(&mut journal.readers[0], middle), read[1_235..]);
}

#[test]
fn abandoned_event_leaves_no_bytes() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("opens");
    let next = journal.writers[0].next_seq();
    let outcome = journal.writers[0].append(PAYLOAD, |buffer| {
        buffer.fill(0xff);
        None
    });
    assert_eq!(outcome, Err(AppendError::Abandoned));
    assert_eq!(append(&mut journal, 7), Ok(next));
    drop(journal);
    let mut journal = open(&options(dir.path())).expect("opens again");
    assert_eq!(journal.recovery.lanes[0].torn_bytes, 0);
    assert_eq!(numbers(&read_all(&mut journal.readers[0], 0)), [7]);
    let outcome = journal.writers[0].append(SEGMENT_BYTES as usize, |_| Some(1));
    assert_eq!(outcome, Err(AppendError::TooLong));
}

#[test]
fn release_deletes_segments_and_survives_reopening() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("opens");
    let seqs = append_all(&mut journal, 0..3_000);
    let before = segments(dir.path()).len();
    journal.readers[0].release(seqs[1_500]);
    let after = segments(dir.path()).len();
    assert!(after < before, "{after} of {before} segments remain");
    let remaining = read_all(&mut journal.readers[0], seqs[1_500]);
    assert!(numbers(&remaining) == (1_501..3_000).collect::<Vec<u64>>());
    let boundary = BatchBoundary {
        after: seqs[1_500],
        first: seqs[1_501],
        last: seqs[1_600],
    };
    journal.readers[0].record_boundary(boundary);
    let mut sealed = Vec::new();
    journal.readers[0]
        .read_exact(&boundary, &mut sealed)
        .expect("found");
    drop(journal);

    let mut journal = open(&options(dir.path())).expect("opens again");
    assert_eq!(journal.readers[0].released(), seqs[1_500]);
    assert_eq!(journal.readers[0].batch_boundaries(), [boundary]);
    let mut again = Vec::new();
    let run = journal.readers[0]
        .read_exact(&boundary, &mut again)
        .expect("found");
    assert_eq!(
        (run.first, run.last, run.events),
        (boundary.first, boundary.last, 100)
    );
    assert_eq!(again, sealed, "the same bytes");
    let gone = BatchBoundary {
        after: seqs[0],
        first: seqs[1],
        last: seqs[2],
    };
    assert!(journal.readers[0].read_exact(&gone, &mut again).is_err());
}

#[test]
fn full_spool_rejects_appends_until_a_release() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let small_options = Options {
        max_bytes: u64::from(SEGMENT_BYTES) * 4,
        ..options(dir.path())
    };
    let mut journal = open(&small_options).expect("opens");
    let mut accepted = 0;
    let rejection = loop {
        match append(&mut journal, accepted) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 100_000, "max_bytes was never reached");
    };
    assert_eq!(rejection, AppendError::SpoolFull);
    assert!(journal.sync_thread.stats().bytes() <= small_options.max_bytes);
    let read = read_all(&mut journal.readers[0], 0);
    assert_eq!(
        read.len() as u64,
        accepted,
        "every accepted event is readable"
    );
    journal.readers[0].release(read[read.len() - 1].0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while append(&mut journal, accepted).is_err() {
        assert!(Instant::now() < deadline, "still full after a release");
        std::thread::yield_now();
    }
    // A full spool still opens, to ship its events.
    while append(&mut journal, 0).is_ok() {}
    drop(journal);
    assert!(open(&small_options).is_ok());
}

#[test]
fn torn_tail_and_damage_lose_only_their_own_events() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("opens");
    append_all(&mut journal, 0..500);
    drop(journal);
    let path = segments(dir.path())[0].clone();
    let bytes = fs::read(&path).expect("readable");
    // Damages the 10th frame and the last one.
    let starts = frame_starts(&bytes);
    let last = starts[starts.len() - 1];
    let mut broken = bytes.clone();
    broken[starts[10] + 20] ^= 0x40;
    broken[last + 17] ^= 1;
    fs::write(&path, &broken).expect("writable");

    let mut journal = open(&options(dir.path())).expect("opens despite the damage");
    let report = &journal.recovery.lanes[0];
    assert_eq!(report.damaged_bytes, (starts[11] - starts[10]) as u64);
    assert!(report.torn_bytes > 0);
    let lost_last = starts.len() as u64 - 1;
    let expected: Vec<u64> = (0..500).filter(|n| *n != 10 && *n != lost_last).collect();
    assert_eq!(numbers(&read_all(&mut journal.readers[0], 0)), expected);
    let copy = path.with_extension(format!("damaged-{}", starts[10]));
    assert_eq!(
        fs::read(copy).expect("copy of the damaged frame"),
        broken[starts[10]..starts[11]]
    );
}

#[test]
fn at_most_a_mebibyte_of_damage_is_copied() {
    const DAMAGED_BYTES: usize = 3 << 19;
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = Options {
        segment_bytes: 4 << 20,
        ..options(dir.path())
    };
    let mut journal = open(&options).expect("opens");
    append_all(&mut journal, 0..20_000);
    drop(journal);
    let path = segments(dir.path())[0].clone();
    let mut bytes = fs::read(&path).expect("readable");
    let start = frame_starts(&bytes)[10];
    bytes[start..start + DAMAGED_BYTES].fill(0xff);
    fs::write(&path, &bytes).expect("writable");
    let journal = open(&options).expect("opens despite the damage");
    assert!(journal.recovery.lanes[0].damaged_bytes >= DAMAGED_BYTES as u64);
    let copy = path.with_extension(format!("damaged-{start}"));
    assert_eq!(fs::metadata(copy).expect("copied").len(), 1 << 20);
}

fn frame_starts(segment: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = 4_096;
    while let Some(len) = segment.get(at..at + 4) {
        let len = u32::from_le_bytes(len.try_into().expect("4 bytes")) as usize;
        if len == 0 {
            break;
        }
        starts.push(at);
        at += (16 + len).next_multiple_of(8);
    }
    starts
}

#[test]
fn truncated_segment_keeps_frames_before_the_cut() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("opens");
    append_all(&mut journal, 0..40);
    drop(journal);
    let path = segments(dir.path())[0].clone();
    let bytes = fs::read(&path).expect("readable");
    let starts = frame_starts(&bytes);
    let end = starts[39] + 300;
    for cut in (0..end).step_by(37) {
        let copy = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(copy.path().join("lane-0")).expect("lane");
        fs::copy(dir.path().join("spool.id"), copy.path().join("spool.id")).expect("copied");
        let file = copy
            .path()
            .join("lane-0")
            .join(path.file_name().expect("file name"));
        fs::write(&file, &bytes[..cut]).expect("writable");
        let mut journal = open(&options(copy.path())).expect("opens despite the damage");
        let kept = starts
            .iter()
            .zip(starts.iter().skip(1).chain([&end]))
            .filter(|(_, next)| **next <= cut);
        let read = numbers(&read_all(&mut journal.readers[0], 0));
        assert!(
            read.len() >= kept.count().saturating_sub(1),
            "cut at {cut}: {read:?}"
        );
        assert_eq!(read, (0..read.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn foreign_and_corrupt_files_are_renamed() {
    let (one, two) = (
        tempfile::tempdir().expect("temporary directory"),
        tempfile::tempdir().expect("temporary directory"),
    );
    for dir in [&one, &two] {
        append_all(&mut open(&options(dir.path())).expect("opens"), 0..10);
    }
    let foreign = one.path().join("lane-0").join("00000000000000ff.seg");
    fs::copy(&segments(two.path())[0], &foreign).expect("copied");
    let noise = one.path().join("lane-0").join("00000000000000fe.seg");
    fs::write(&noise, b"not a segment").expect("writable");
    fs::write(
        one.path().join("lane-0").join("checkpoint"),
        b"not a checkpoint",
    )
    .expect("writable");
    let mut journal = open(&options(one.path())).expect("opens despite the damage");
    assert_eq!(journal.recovery.lanes[0].set_aside.len(), 2);
    assert!(!foreign.exists() && !noise.exists());
    assert!(numbers(&read_all(&mut journal.readers[0], 0)) == (0..10).collect::<Vec<u64>>());
}

#[test]
fn segment_of_another_journal_lane_or_number_is_set_aside() {
    let two_lanes = |dir: &Path| Options {
        lanes: 2,
        ..options(dir)
    };
    let [one, two] = [(); 2].map(|()| tempfile::tempdir().expect("temporary directory"));
    for dir in [&one, &two] {
        append_all(&mut open(&two_lanes(dir.path())).expect("opens"), 0..10);
    }
    let path = |dir: &Path, lane: u8| dir.join(format!("lane-{lane}/0000000000000001.seg"));
    let read = |dir: &Path, lane| fs::read(path(dir, lane)).expect("readable");
    let own = read(one.path(), 0);
    let (other_journal, other_lane) = (read(two.path(), 0), read(one.path(), 1));
    let renumbered = path(one.path(), 0).with_file_name("00000000000000ff.seg");
    for (target, bytes) in [
        (path(one.path(), 0), &other_journal),
        (path(one.path(), 0), &other_lane),
        (renumbered, &own),
    ] {
        fs::write(&target, bytes).expect("written");
        let journal = open(&two_lanes(one.path())).expect("opens");
        let renamed = target.with_extension("seg.foreign");
        assert_eq!(journal.recovery.lanes[0].set_aside, [renamed]);
        drop(journal);
        fs::write(path(one.path(), 0), &own).expect("written");
    }
}

#[test]
fn power_loss_of_the_tail_repeats_no_sequence() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut highest = 0;
    for _ in 0..5 {
        let mut journal = open(&options(dir.path())).expect("opens");
        let seqs = append_all(&mut journal, 0..300);
        assert!(seqs[0] > highest, "{} was assigned before", seqs[0]);
        highest = seqs[299];
        drop(journal);
        // The headers reached the disk, the frames did not.
        for path in segments(dir.path()) {
            let mut bytes = fs::read(&path).expect("readable");
            bytes[4_096..].fill(0);
            fs::write(&path, bytes).expect("writable");
        }
    }
}

#[test]
fn lanes_of_removed_workers_are_still_read() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&Options {
        lanes: 3,
        ..options(dir.path())
    })
    .expect("opens");
    journal.writers[2]
        .append(8, |buffer| {
            buffer.copy_from_slice(&payload(0)[..8]);
            Some(8)
        })
        .expect("the journal has space");
    drop(journal);
    let mut journal = open(&options(dir.path())).expect("opens again");
    assert_eq!(journal.writers.len(), 1);
    let lanes: Vec<u8> = journal.readers.iter().map(LaneReader::lane).collect();
    assert_eq!(lanes, [0, 1, 2]);
    let recovered = journal.recovery.lanes.iter().map(|lane| lane.lane);
    assert_eq!(recovered.collect::<Vec<_>>(), lanes);
    assert!(journal.readers[2].backlog() > 0);
    // Its last segment limits the sequences of a worker that returns.
    let last = journal.readers[2].last_committed();
    journal.readers[2].release(last);
    let files = fs::read_dir(dir.path().join("lane-2")).expect("lane");
    let names = files.map(|file| file.expect("readable").file_name());
    assert!(
        names
            .into_iter()
            .any(|name| name.to_string_lossy().ends_with(".seg"))
    );
}

#[test]
fn sync_calls_waiting_callbacks() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let slow = Options {
        sync_interval: Duration::from_secs(3_600),
        ..options(dir.path())
    };
    let mut journal = open(&slow).expect("opens");
    let seqs = append_all(&mut journal, 0..100);
    let (done, results) = mpsc::channel();
    let request = |journal: &OpenJournal, seq: u64| {
        let done = done.clone();
        let callback = move |outcome| done.send((seq, outcome)).expect("the receiver lives");
        journal.writers[0].sync_through(seq, callback);
    };
    let next_result = || {
        results
            .recv_timeout(Duration::from_secs(10))
            .expect("in time")
    };
    request(&journal, seqs[0]);
    request(&journal, seqs[99]);
    assert_eq!(
        [next_result(), next_result()],
        [seqs[0], seqs[99]].map(|it| (it, Ok(())))
    );
    // A callback for a future event is called after a later callback for an accepted event.
    let next = journal.writers[0].next_seq();
    request(&journal, next);
    request(&journal, seqs[0]);
    assert_eq!(next_result(), (seqs[0], Ok(())));
    append(&mut journal, 100).expect("the journal has space");
    request(&journal, next);
    assert_eq!([next_result(), next_result()], [(next, Ok(())); 2]);
    assert!(journal.sync_thread.stats().syncs() >= 1);
    assert_eq!(journal.sync_thread.stop(), Ok(()));
}

#[test]
fn second_process_is_rejected() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let _journal = open(&options(dir.path())).expect("opens");
    assert!(matches!(
        open(&options(dir.path())),
        Err(OpenError::InUse(_))
    ));
}

#[test]
fn impossible_sizes_are_rejected() {
    let needed = |lanes: u8, segment_bytes: u32, max_bytes: u64| {
        let dir = tempfile::tempdir().expect("temporary directory");
        let options = Options {
            lanes,
            segment_bytes,
            max_bytes,
            ..options(dir.path())
        };
        match open(&options) {
            Ok(_) => None,
            Err(OpenError::TooSmall { least, .. }) => Some(least),
            Err(error) => panic!("{error}"),
        }
    };
    let segment = u64::from(SEGMENT_BYTES);
    assert_eq!(needed(1, SEGMENT_BYTES, 2 * segment), None);
    assert_eq!(needed(1, SEGMENT_BYTES, 2 * segment - 1), Some(2 * segment));
    assert_eq!(needed(1, SEGMENT_BYTES - 1, 64 << 20), Some(2 * segment));
    assert_eq!(needed(3, SEGMENT_BYTES, 6 * segment), None);
    assert_eq!(needed(3, SEGMENT_BYTES, 6 * segment - 1), Some(6 * segment));
}

#[test]
fn longest_event_is_readable_and_longer_ones_are_rejected() {
    const LONGEST: usize = 128 << 10;
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = Options {
        segment_bytes: 1 << 20,
        ..options(dir.path())
    };
    let mut journal = open(&options).expect("opens");
    let writer = &mut journal.writers[0];
    let too_long = writer.append(LONGEST + 1, |_| Some(1));
    assert_eq!(too_long, Err(AppendError::TooLong));
    let seq = writer.append(LONGEST, |buffer| Some(buffer.len()));
    let seq = seq.expect("accepted");
    let mut bytes = Vec::new();
    let run = journal.readers[0].read(1, &mut bytes).expect("readable");
    assert_eq!(run.map(|run| (run.first, run.last)), Some((seq, seq)));
    assert_eq!(bytes.len(), frame_bytes(LONGEST));
}

#[test]
fn read_ends_with_the_event_that_fills_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("opens");
    for _ in 0..10 {
        let appended = journal.writers[0].append(100, |_| Some(100));
        appended.expect("the journal has space");
    }
    for (max_bytes, events) in [
        (1, 1),
        (frame_bytes(100), 1),
        (frame_bytes(100) + 1, 2),
        (usize::MAX / 2, 6),
    ] {
        let run = journal.readers[0].read(max_bytes, &mut Vec::new());
        let run = run.expect("readable").expect("events");
        assert_eq!(run.events, events, "{max_bytes}");
    }
}

#[test]
fn failed_read_skips_no_event() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("opens");
    let seqs = append_all(&mut journal, 0..100);
    let reader = &mut journal.readers[0];
    reader.seek(seqs[9]);
    // The journal holds these events, but not with these boundaries.
    let foreign = BatchBoundary {
        after: seqs[19],
        first: seqs[20],
        last: seqs[99] + 7,
    };
    let mut frames_read = Vec::new();
    assert!(reader.read_exact(&foreign, &mut frames_read).is_err());
    assert!(frames_read.is_empty());
    let run = reader
        .read(usize::MAX / 2, &mut frames_read)
        .expect("readable")
        .expect("events");
    assert_eq!(
        (run.after, run.first, run.last),
        (seqs[9], seqs[10], seqs[99])
    );
}

#[test]
fn frame_that_changes_after_its_commit_is_an_error() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("opens");
    append_all(&mut journal, 0..100);
    let segment = fs::OpenOptions::new()
        .write(true)
        .open(&segments(dir.path())[0]);
    let segment = segment.expect("opens");
    segment.write_all_at(b"damage", 4_100).expect("writable");
    let mut bytes = Vec::new();
    let read = journal.readers[0].read(10_000, &mut bytes);
    assert!(
        matches!(read, Err(ReadError::Changed { offset: 4_096, .. })),
        "{read:?}"
    );
    assert!(bytes.is_empty());
}

#[test]
fn damaged_header_and_lost_id_repeat_no_sequence() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("opens");
    let seqs = append_all(&mut journal, 0..3_000);
    drop(journal);
    let paths = segments(dir.path());
    let newest = paths
        .iter()
        .rev()
        .find(|path| fs::read(path).expect("readable")[4_096..4_100] != [0; 4]);
    let newest = newest.expect("one with events");
    let mut bytes = fs::read(newest).expect("readable");
    bytes[9] ^= 1;
    fs::write(newest, bytes).expect("writable");
    for path in paths.iter().filter(|path| *path > newest) {
        fs::remove_file(path).expect("removable");
    }
    fs::remove_file(dir.path().join("spool.id")).expect("removable");
    let mut journal = open(&options(dir.path())).expect("opens despite the damage");
    assert!(
        journal.writers[0].next_seq() > seqs[2_999],
        "a sequence would be assigned twice"
    );
    let read = numbers(&read_all(&mut journal.readers[0], 0));
    assert!(
        read.len() > 1_000 && read.len() < 3_000,
        "{} events",
        read.len()
    );
    assert!(read == (0..read.len() as u64).collect::<Vec<_>>());
}

#[test]
fn restarts_do_not_fill_the_spool() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let small_options = Options {
        max_bytes: u64::from(SEGMENT_BYTES) * 3,
        ..options(dir.path())
    };
    for round in 0..20 {
        let mut journal = open(&small_options).expect("opens");
        assert!(append(&mut journal, round).is_ok(), "round {round}");
    }
    let mut journal = open(&small_options).expect("opens");
    assert!(numbers(&read_all(&mut journal.readers[0], 0)) == (0..20).collect::<Vec<u64>>());
}

#[test]
fn callbacks_of_a_closed_journal_get_an_error() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let journal = open(&options(dir.path())).expect("opens");
    let OpenJournal {
        readers,
        sync_thread,
        writers,
        ..
    } = journal;
    let (done, results) = mpsc::channel();
    let early = done.clone();
    writers[0].sync_through(u64::MAX, move |outcome| {
        early.send(outcome).expect("the receiver lives")
    });
    assert_eq!(sync_thread.stop(), Ok(()));
    writers[0].sync_through(1, move |outcome| {
        done.send(outcome).expect("the receiver lives")
    });
    for _ in 0..2 {
        assert!(
            results
                .recv_timeout(Duration::from_secs(10))
                .expect("called in time")
                .is_err()
        );
    }
    // The writer still maps its segment, so no other process may open the spool.
    assert!(matches!(
        open(&options(dir.path())),
        Err(OpenError::InUse(_))
    ));
    drop((readers, writers));
    assert!(open(&options(dir.path())).is_ok());
}
