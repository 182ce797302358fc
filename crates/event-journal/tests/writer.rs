//! A lane's writer: its limits, deferred syncs, and what it does without space.
#![allow(missing_docs)]

mod common;

use common::events::append;
use common::{SEGMENT_BYTES, options};
use event_journal::{AppendError, Options, open, open_manual};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use storage::model::ModelDisk;

#[test]
fn longest_event_fills_a_segment_and_two_halves_fill_one() {
    // Without the header of a segment and that of a frame.
    const LONGEST: usize = SEGMENT_BYTES as usize - 4_096 - 16;
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("opens");
    let writer = &mut journal.writers[0];
    let mut append = |len: usize| {
        let appended = writer.append(len, |_| Some(len));
        appended.map(|_| writer.unreleased_bytes())
    };
    let segment = u64::from(SEGMENT_BYTES);
    assert_eq!(append(LONGEST), Ok(segment));
    assert_eq!(append(LONGEST + 1), Err(AppendError::TooLong));
    let half = (LONGEST - 16) / 2;
    assert_eq!(append(half), Ok(segment + 4_096 + (segment - 4_096) / 2));
    assert_eq!(append(half), Ok(2 * segment));
}

#[test]
fn event_of_an_impossible_length_is_abandoned() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("opens");
    for len in [0, 11] {
        let appended = journal.writers[0].append(10, |_| Some(len));
        assert_eq!(appended, Err(AppendError::Abandoned), "{len}");
    }
    assert!(journal.writers[0].append(10, |_| Some(10)).is_ok());
}

#[test]
fn writers_have_the_numbers_of_their_lanes() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = Options {
        lanes: 3,
        ..options(dir.path())
    };
    let journal = open(&options).expect("opens");
    let numbers = journal.writers.iter().map(|writer| writer.lane());
    assert_eq!(numbers.collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn deferred_sync_is_requested_once() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = Options {
        sync_interval: Duration::from_secs(3_600),
        ..options(dir.path())
    };
    let mut journal = open(&options).expect("opens");
    let request = journal.writers[0].sync_request();
    assert!(!request.send(), "no callback waits");
    let seq = append(&mut journal, 1).expect("space");
    let (sender, synced) = mpsc::channel();
    journal.writers[0].when_durable(seq, move |outcome| {
        sender.send(outcome.is_ok()).expect("the test waits");
    });
    assert!(request.send() && !request.send());
    let synced = synced.recv_timeout(Duration::from_secs(10));
    assert_eq!(synced, Ok(true));
}

#[test]
fn writer_without_space_tries_again_after_a_pause() {
    let disk = ModelDisk::new(1);
    let options = Options {
        max_bytes: 2 * u64::from(SEGMENT_BYTES),
        ..options(Path::new("/spool"))
    };
    let mut journal = open_manual(disk.clone(), &options).expect("opens");
    let mut last = 0;
    let mut append = |last: &mut u64| {
        let appended = journal.writers[0].append(1_000, |_| Some(1_000));
        appended.inspect(|seq| *last = *seq)
    };
    while append(&mut last).is_ok() {}
    let reader = &mut journal.readers[0];
    while reader
        .read(10_000, &mut Vec::new())
        .expect("readable")
        .is_some()
    {}
    reader.release(last);
    assert_eq!(append(&mut last), Err(AppendError::SpoolFull));
    disk.advance(Duration::from_micros(99_999));
    assert_eq!(append(&mut last), Err(AppendError::SpoolFull));
    disk.advance(Duration::from_micros(1));
    assert!(append(&mut last).is_ok());
}
