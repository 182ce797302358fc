//! The quota of one lane: reserved for the lane, and its limit.
#![allow(missing_docs)]

mod common;

use common::{SEGMENT_BYTES, options};
use event_journal::{AppendError, OpenJournal, Options, open};
use std::fs;
use std::time::{Duration, Instant};

fn append(journal: &mut OpenJournal, lane: usize) -> Result<u64, AppendError> {
    journal.writers[lane].append(1_000, |buffer| {
        buffer.fill(7);
        Some(buffer.len())
    })
}

fn fill(journal: &mut OpenJournal, lane: usize) -> AppendError {
    loop {
        if let Err(error) = append(journal, lane) {
            return error;
        }
    }
}

#[test]
fn quota_is_exclusive_and_limits_its_lane() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let segment = u64::from(SEGMENT_BYTES);
    let options = Options {
        lanes: 2,
        max_bytes: segment * 8,
        ..options(dir.path())
    };
    let segments = |lane: u8| {
        let files = fs::read_dir(dir.path().join(format!("lane-{lane}"))).expect("lane");
        let names = files.map(|file| file.expect("readable").file_name());
        let is_segment = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".seg");
        names.filter(is_segment).count()
    };
    let mut journal = open(&options).expect("opens");
    // The spare segment, which is created in the background, counts, too.
    let deadline = Instant::now() + Duration::from_secs(10);
    while segments(1) < 2 {
        assert!(Instant::now() < deadline, "no spare segment");
        std::thread::yield_now();
    }
    journal.writers[1].set_quota(segment * 3);
    assert_eq!(fill(&mut journal, 1), AppendError::SpoolFull);
    assert_eq!(segments(1), 3);
    assert!(journal.writers[1].unreleased_bytes() > segment * 2);
    assert_eq!(fill(&mut journal, 0), AppendError::SpoolFull);
    assert_eq!(segments(0), 5);
    // Released bytes return to the lane's quota, although the other lane waits for space, too.
    let (mut bytes, mut last) = (Vec::new(), 0);
    while let Some(run) = journal.readers[1]
        .read(10_000, &mut bytes)
        .expect("readable")
    {
        last = run.last;
        bytes.clear();
    }
    journal.readers[1].release(last);
    assert!(journal.writers[1].unreleased_bytes() <= segment);
    let deadline = Instant::now() + Duration::from_secs(10);
    while append(&mut journal, 1).is_err() {
        assert!(Instant::now() < deadline, "still full after a release");
        std::thread::yield_now();
    }
    assert!(append(&mut journal, 0).is_err());
    assert_eq!(segments(0), 5);
}
