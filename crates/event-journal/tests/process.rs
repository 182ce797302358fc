//! A process that is killed, and the thread that syncs in the background.
#![allow(missing_docs)]

mod common;

use common::events::{append, read_all};
use common::options;
use event_journal::{Options, open};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "EVENT_JOURNAL_TEST_CHILD";

/// The child process of the next test; not a test of its own.
#[test]
fn child_appends_until_killed() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let mut journal = open(&options(Path::new(&dir))).expect("opens");
    let mut out = std::io::stdout().lock();
    for number in 0.. {
        let seq = append(&mut journal, number).expect("the journal has space");
        writeln!(out, "accepted {seq} {number}").expect("the parent reads");
        if seq.is_multiple_of(64) {
            journal.readers[0].release(seq.saturating_sub(5_000));
        }
    }
}

#[test]
fn kill_9_loses_no_accepted_event() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut highest = 0;
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child_appends_until_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut accepted = Vec::new();
        for line in lines.map_while(Result::ok) {
            // The test runner's output may precede the first line.
            let Some(at) = line.find("accepted ") else {
                continue;
            };
            let mut words = line[at..]
                .split(' ')
                .skip(1)
                .map_while(|word| word.parse::<u64>().ok());
            if let (Some(seq), Some(number)) = (words.next(), words.next()) {
                accepted.push((seq, number));
            }
            if accepted.len() == 200 + round * 137 {
                child.kill().expect("killable");
            }
        }
        child.wait().expect("waitable");
        // The kill may have truncated the last line.
        accepted.pop();
        assert!(
            accepted[0].0 > highest,
            "round {round}: a sequence was assigned twice"
        );
        highest = accepted[accepted.len() - 1].0;
        let mut journal = open(&options(dir.path())).expect("opens after the crash");
        assert_eq!(journal.recovery.lanes[0].damaged_bytes, 0);
        let released = journal.readers[0].released();
        let kept = read_all(&mut journal.readers[0], released);
        let kept: std::collections::BTreeMap<u64, u64> = kept.into_iter().collect();
        for (seq, number) in accepted.iter().filter(|(seq, _)| *seq > released) {
            assert_eq!(
                kept.get(seq),
                Some(number),
                "round {round}: an accepted event is lost"
            );
        }
        highest = highest.max(kept.keys().next_back().copied().unwrap_or(0));
        journal.readers[0].release(highest);
    }
}

#[test]
fn background_sync_meets_interval() {
    const INTERVAL: Duration = Duration::from_millis(40);
    /// Tolerance for this measurement, not for the journal.
    const SCHEDULING_TOLERANCE: Duration = Duration::from_millis(500);
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&Options {
        sync_interval: INTERVAL,
        ..options(dir.path())
    })
    .expect("opens");
    let stats = journal.sync_thread.stats();
    let (mut longest, mut window) = (Duration::ZERO, Duration::ZERO);
    for number in 0..20 {
        let (synced, accepted) = (stats.syncs(), Instant::now());
        append(&mut journal, number).expect("the journal has space");
        // The window includes an event that is not durable yet; it is complete after the sync.
        while stats.syncs() == synced {
            longest = longest.max(accepted.elapsed());
            window = window.max(Duration::from_micros(stats.unsynced_window_micros()));
            assert!(longest < Duration::from_secs(30), "not synced");
            std::thread::yield_now();
        }
    }
    let (synced, accepted) = (stats.syncs(), Instant::now());
    for number in [20, 21] {
        append(&mut journal, number).expect("the journal has space");
        while stats.syncs() < synced + number - 19 {
            assert!(accepted.elapsed() < Duration::from_secs(30), "not synced");
        }
    }
    window = window.max(Duration::from_micros(stats.unsynced_window_micros()));
    println!("{INTERVAL:?}: durable after {longest:?} at most, a window of {window:?}");
    assert!(window >= INTERVAL && longest <= window + SCHEDULING_TOLERANCE);
}
