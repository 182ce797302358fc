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
    check_quota(3 * u64::from(SEGMENT_BYTES), 3);
    // At least two segments: one is written while the other is shipped.
    check_quota(0, 2);
}

fn check_quota(quota: u64, expected: usize) {
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
    journal.writers[1].set_quota(quota);
    assert_eq!(fill(&mut journal, 1), AppendError::SpoolFull);
    assert_eq!(segments(1), expected);
    let full = (expected as u64 - 1) * segment..=expected as u64 * segment;
    assert!(full.contains(&journal.writers[1].unreleased_bytes()));
    assert_eq!(fill(&mut journal, 0), AppendError::SpoolFull);
    assert_eq!(segments(0), 8 - expected);
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
    assert!((1..=segment).contains(&journal.writers[1].unreleased_bytes()));
    let deadline = Instant::now() + Duration::from_secs(10);
    while append(&mut journal, 1).is_err() {
        assert!(Instant::now() < deadline, "still full after a release");
        std::thread::yield_now();
    }
    assert!(append(&mut journal, 0).is_err());
    assert_eq!(segments(0), 8 - expected);
}
