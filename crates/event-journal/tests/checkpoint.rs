//! A lane's checkpoint after a crash and after an orderly shutdown.
#![allow(missing_docs)]

mod common;

use common::options;
use event_journal::{BatchBoundary, Frame, LaneReader, OpenJournal, frames, open};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Enough events to fill some segments.
const EVENTS: usize = 3_000;

fn open_journal(dir: &Path) -> OpenJournal {
    open(&options(dir)).expect("opens")
}

fn append_all(journal: &mut OpenJournal) -> Vec<u64> {
    let append = |_| journal.writers[0].append(100, |_| Some(100));
    let seqs = (0..EVENTS).map(append);
    seqs.collect::<Result<_, _>>()
        .expect("the journal has space")
}

/// A copy of the directory, as another process finds it after a crash. Copied again where the live journal renamed a
/// file meanwhile.
fn after_crash(dir: &Path) -> TempDir {
    let copy = || {
        let copy = tempfile::tempdir().expect("temporary directory");
        let mut cp = Command::new("cp");
        let copied = cp.arg("-r").arg(dir.join(".")).arg(copy.path()).status();
        copied.expect("started").success().then_some(copy)
    };
    (0..10).find_map(|_| copy()).expect("complete copy")
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
    for boundary in [first, second, first, instead] {
        journal.readers[0].record_boundary(boundary);
    }
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

#[test]
fn impossible_sequences_are_ignored() {
    let segment = "lane-0/0000000000000001.seg";
    let number = u64::MAX - 1;
    let checked = |mut bytes: Vec<u8>| {
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    };
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
