//! A lane's checkpoint after a crash and after an orderly shutdown.
#![allow(missing_docs)]

mod common;

use common::{SEGMENT_BYTES, options};
use event_journal::{BatchBoundary, Frame, LaneReader, OpenJournal, SEQ_LIMIT, frames, open};
use std::fs;
use std::io;
use std::path::Path;
use tempfile::TempDir;

/// Enough events to fill some segments.
const EVENTS: usize = 3_000;

fn open_journal(dir: &Path) -> OpenJournal {
    open(&options(dir)).expect("opens")
}

fn append(journal: &mut OpenJournal) -> u64 {
    let appended = journal.writers[0].append(100, |_| Some(100));
    appended.expect("the journal has space")
}

fn append_all(journal: &mut OpenJournal) -> Vec<u64> {
    (0..EVENTS).map(|_| append(journal)).collect()
}

/// A copy of a spool with one lane, as another process finds it after a crash. Copied again where the live journal
/// renamed a file meanwhile. Copied by this process: a child inherits other tests' locks until it executes its program.
fn after_crash(dir: &Path) -> TempDir {
    let copy = || -> io::Result<TempDir> {
        let copy = tempfile::tempdir()?;
        fs::create_dir(copy.path().join("lane-0"))?;
        for part in ["", "lane-0"] {
            for entry in fs::read_dir(dir.join(part))? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    fs::copy(entry.path(), copy.path().join(part).join(entry.file_name()))?;
                }
            }
        }
        Ok(copy)
    };
    (0..10).find_map(|_| copy().ok()).expect("complete copy")
}

fn boundary(seqs: &[u64], from: usize, to: usize) -> BatchBoundary {
    BatchBoundary {
        after: from.checked_sub(1).map_or(0, |before| seqs[before]),
        first: seqs[from],
        last: seqs[to],
    }
}

/// The number of readable events after the released sequence.
fn count_unreleased(reader: &mut LaneReader) -> usize {
    reader.seek(reader.released());
    let mut bytes = Vec::new();
    while reader
        .read(1 << 20, &mut bytes)
        .expect("readable")
        .is_some()
    {}
    frames(&bytes).filter(Result::is_ok).count()
}

#[test]
fn crash_before_deletion_repeats_identical_batches() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open_journal(dir.path());
    let seqs = append_all(&mut journal);
    let (first, second, instead) = (
        boundary(&seqs, 0, 9),
        boundary(&seqs, 10, 19),
        boundary(&seqs, 10, 29),
    );
    for boundary in [first, second, first] {
        journal.readers[0].record_boundary(boundary);
    }
    assert_eq!(journal.readers[0].batch_boundaries(), [first, second]);
    journal.readers[0].record_boundary(instead);
    journal.readers[0].release(first.last);
    let crashed = after_crash(dir.path());
    drop(journal);

    let mut journal = open_journal(crashed.path());
    assert_eq!(journal.readers[0].released(), 0);
    assert_eq!(journal.readers[0].batch_boundaries(), [first, instead]);
    assert_eq!(count_unreleased(&mut journal.readers[0]), EVENTS);
    let mut journal = open_journal(dir.path());
    assert_eq!(journal.readers[0].released(), first.last);
    assert_eq!(journal.readers[0].batch_boundaries(), [instead]);
    assert_eq!(count_unreleased(&mut journal.readers[0]), EVENTS - 10);
}

#[test]
fn checkpoint_is_stored_before_deletion() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open_journal(dir.path());
    let seqs = append_all(&mut journal);
    journal.readers[0].release(seqs[EVENTS / 2]);
    let mut after = open_journal(after_crash(dir.path()).path());
    assert_eq!(after.readers[0].released(), seqs[EVENTS / 2]);
    assert_eq!(count_unreleased(&mut after.readers[0]), EVENTS / 2 - 1);
}

#[test]
fn acknowledged_sequence_rises_only_and_survives_a_crash() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open_journal(dir.path());
    let seqs = append_all(&mut journal);
    let last = seqs[EVENTS - 1];
    let acknowledged = |dir: &Path| {
        let crashed = after_crash(dir);
        let journal = open_journal(crashed.path());
        journal.readers[0].start()
    };
    for (through, expected) in [
        (seqs[9], seqs[9]),
        (seqs[4], seqs[9]),
        (seqs[9] + 1, seqs[9] + 1),
        // Of a peer that acknowledges what was never sent.
        (u64::MAX, last),
    ] {
        journal.readers[0].acknowledge(through);
        assert_eq!(journal.readers[0].acknowledged(), expected);
        let start = acknowledged(dir.path());
        assert_eq!((start.acknowledged, start.last_found), (expected, last));
        assert!(start.first_own > last);
    }
    assert_eq!(journal.readers[0].start().last_found, 0);
}

#[test]
fn own_event_is_not_found_from_an_earlier_process() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open_journal(dir.path());
    let first = append(&mut journal);
    let start = journal.readers[0].start();
    assert_eq!((start.first_own, start.last_found), (first, 0));
}

#[test]
fn unreleased_boundaries_are_bounded_and_keep_the_oldest() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open_journal(dir.path());
    let of = |number: u64| BatchBoundary {
        after: number - 1,
        first: number,
        last: number,
    };
    (1..=9_000).for_each(|number| journal.readers[0].record_boundary(of(number)));
    drop(journal);
    let journal = open_journal(dir.path());
    let boundaries = journal.readers[0].batch_boundaries();
    assert_eq!(boundaries, (1..=8_192).map(of).collect::<Vec<_>>());
}

/// `bytes` with their checksum.
fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Writes a checkpoint of these numbers with a valid checksum.
fn write_checkpoint(dir: &Path, numbers: impl Iterator<Item = u64>, rest: &[u8]) {
    let mut bytes = b"FZCHKPT2".to_vec();
    bytes.extend(numbers.flat_map(u64::to_le_bytes));
    bytes.extend_from_slice(rest);
    fs::write(dir.join("lane-0/checkpoint"), checked(bytes)).expect("writable");
}

#[test]
fn checkpoint_is_used_only_if_all_its_fields_are_possible() {
    const IMPOSSIBLE: u64 = u64::MAX - 1;
    // The released sequence, and whether the checkpoint was set aside.
    let load = |numbers: &[u64], rest: &[u8]| {
        let dir = tempfile::tempdir().expect("temporary directory");
        drop(open_journal(dir.path()));
        write_checkpoint(dir.path(), numbers.iter().copied(), rest);
        let released = open_journal(dir.path()).readers[0].released();
        let renamed = dir.path().join("lane-0/checkpoint.corrupt");
        (released, renamed.exists())
    };
    // Released and acknowledged sequence, then the boundaries.
    let boundaries = |count: usize| [vec![5, 7], vec![9; 3 * count]].concat();
    for valid in [&[7, 7][..], &[5, 7], &[5, 7, 7, 8, 9], &boundaries(8_192)] {
        assert_eq!(load(valid, b""), (valid[0], false), "{valid:?}");
    }
    for invalid in [
        &[7, 5][..],
        &[5, IMPOSSIBLE],
        &[5, 7, 7, 8, IMPOSSIBLE],
        &[5, 7, 7, 8],
        &boundaries(8_193),
    ] {
        assert_eq!(load(invalid, b""), (0, true), "{invalid:?}");
    }
    assert_eq!(load(&[5, 7, 7, 8, 9], b"x"), (0, true));
}

/// Where the next sequence of a lane is, and whether it has room for an event, when its checkpoint is of `acknowledged`.
fn start_after(acknowledged: u64) -> (u64, bool) {
    let dir = tempfile::tempdir().expect("temporary directory");
    drop(open_journal(dir.path()));
    write_checkpoint(dir.path(), [acknowledged; 2].into_iter(), b"");
    let mut journal = open_journal(dir.path());
    let next = journal.writers[0].next_seq();
    let appended = journal.writers[0].append(100, |_| Some(100));
    (next, appended.is_ok())
}

#[test]
fn sequences_begin_after_the_checkpoint_and_end_at_the_limit() {
    assert_eq!(start_after(1 << 40), ((1 << 40) + 1, true));
    // A segment takes the sequences of as many frames as fit into it and into the one before.
    let frames = (u64::from(SEGMENT_BYTES) - 4_096) / 24;
    let last = SEQ_LIMIT - 2 * frames - 1;
    assert_eq!(start_after(last), (last + 1, true));
    assert_eq!(start_after(last + 1), (last + 2, false));
    assert_eq!(start_after(SEQ_LIMIT - 1), (SEQ_LIMIT, false));
}

#[test]
fn unreadable_state_file_is_an_error() {
    for name in ["lane-0/checkpoint", "journal.ids"] {
        let dir = tempfile::tempdir().expect("temporary directory");
        drop(open_journal(dir.path()));
        let path = dir.path().join(name);
        if path.exists() {
            fs::remove_file(&path).expect("removed");
        }
        fs::create_dir(&path).expect("created");
        open(&options(dir.path())).expect_err(name);
        assert!(path.is_dir(), "{name}");
    }
}

#[test]
fn impossible_sequences_are_ignored() {
    let segment = "lane-0/0000000000000001.seg";
    let number = u64::MAX - 1;
    // A segment's header, a frame after a damaged frame, and a checkpoint.
    for case in 0..3 {
        let dir = tempfile::tempdir().expect("temporary directory");
        drop(open_journal(dir.path()));
        let mut bytes = fs::read(dir.path().join(segment)).expect("readable");
        let (name, bytes) = match case {
            0 => {
                bytes[24..32].copy_from_slice(&number.to_le_bytes());
                let header = checked(bytes[..36].to_vec());
                bytes[..40].copy_from_slice(&header);
                (segment, bytes)
            }
            1 => {
                bytes.truncate(4_096);
                bytes[0] ^= 1;
                let (seq, payload) = (number, &b"far"[..]);
                Frame { seq, payload }.write(&mut bytes);
                (segment, bytes)
            }
            _ => {
                let checkpoint = [
                    &b"FZCHKPT2"[..],
                    &number.to_le_bytes(),
                    &number.to_le_bytes(),
                ]
                .concat();
                ("lane-0/checkpoint", checked(checkpoint))
            }
        };
        fs::write(dir.path().join(name), bytes).expect("writable");

        let mut journal = open_journal(dir.path());
        let seqs = append_all(&mut journal);
        drop(journal);
        let mut journal = open_journal(dir.path());
        assert_eq!(
            count_unreleased(&mut journal.readers[0]),
            EVENTS,
            "case {case}"
        );
        assert!(
            journal.writers[0].next_seq() > seqs[EVENTS - 1],
            "case {case}"
        );
    }
}
