//! What a lane's reader remembers after a crash and after an orderly end.
#![allow(missing_docs)]

mod common;

use common::options;
use event_journal::{Frame, LaneReader, Opened, Seal, frames, open};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Some segments full of them.
const EVENTS: usize = 3_000;

fn opened(dir: &Path) -> Opened {
    open(&options(dir)).expect("opens")
}

fn append_all(journal: &mut Opened) -> Vec<u64> {
    let append = |_| journal.writers[0].append(100, |_| Some(100));
    let seqs = (0..EVENTS).map(append);
    seqs.collect::<Result<_, _>>().expect("there is room")
}

/// What would be found had the process ended now.
fn crashed(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    let mut cp = Command::new("cp");
    let copied = cp.arg("-r").arg(dir.join(".")).arg(copy.path()).status();
    assert!(copied.expect("started").success());
    copy
}

fn seal(seqs: &[u64], from: usize, to: usize) -> Seal {
    Seal {
        after: from.checked_sub(1).map_or(0, |before| seqs[before]),
        first: seqs[from],
        last: seqs[to],
    }
}

/// How many events can be read from where the reader was released.
fn left(reader: &mut LaneReader) -> usize {
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
fn a_crash_before_anything_was_deleted_goes_on_earlier_with_the_same_seals() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut journal = opened(dir.path());
    let seqs = append_all(&mut journal);
    let (first, second, instead) = (seal(&seqs, 0, 9), seal(&seqs, 10, 19), seal(&seqs, 10, 29));
    for seal in [first, second, first, instead] {
        journal.readers[0].remember_seal(seal);
    }
    journal.readers[0].release(first.last);
    let crashed = crashed(dir.path());
    drop(journal);

    let mut journal = opened(crashed.path());
    assert_eq!(journal.readers[0].released(), 0);
    assert_eq!(journal.readers[0].seals(), [first, instead]);
    assert_eq!(left(&mut journal.readers[0]), EVENTS);
    let mut journal = opened(dir.path());
    assert_eq!(journal.readers[0].released(), first.last);
    assert_eq!(journal.readers[0].seals(), [instead]);
    assert_eq!(left(&mut journal.readers[0]), EVENTS - 10);
}

#[test]
fn what_was_deleted_was_released_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut journal = opened(dir.path());
    let seqs = append_all(&mut journal);
    journal.readers[0].release(seqs[EVENTS / 2]);
    let mut after = opened(crashed(dir.path()).path());
    assert_eq!(after.readers[0].released(), seqs[EVENTS / 2]);
    assert_eq!(left(&mut after.readers[0]), EVENTS / 2 - 1);
}

#[test]
fn seals_without_a_release_are_bounded_and_those_remembered_are_the_first() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut journal = opened(dir.path());
    let of = |number: u64| Seal {
        after: number - 1,
        first: number,
        last: number,
    };
    (1..=9_000).for_each(|number| journal.readers[0].remember_seal(of(number)));
    drop(journal);
    let journal = opened(dir.path());
    let seals = journal.readers[0].seals();
    assert_eq!(seals, (1..=8_192).map(of).collect::<Vec<_>>());
}

#[test]
fn sequences_that_no_journal_can_have_reached_are_not_believed() {
    let segment = "lane-0/0000000000000001.seg";
    let number = u64::MAX - 1;
    let checked = |mut bytes: Vec<u8>| {
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    };
    // A segment's header, a frame behind one that is broken, and a checkpoint.
    for what in 0..3 {
        let dir = tempfile::tempdir().expect("a folder");
        drop(opened(dir.path()));
        let mut bytes = fs::read(dir.path().join(segment)).expect("readable");
        let (name, bytes) = match what {
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

        let mut journal = opened(dir.path());
        let seqs = append_all(&mut journal);
        drop(journal);
        let mut journal = opened(dir.path());
        assert_eq!(left(&mut journal.readers[0]), EVENTS, "case {what}");
        assert!(
            journal.writers[0].next_seq() > seqs[EVENTS - 1],
            "case {what}"
        );
    }
}
