//! The time that a drain takes, compared with the rule in docs/operations.md.
#![allow(missing_docs)]

mod common;

use common::{click, wait_until};
use event_journal::{OpenJournal, Options, frames};
use loadtest::clickhouse::Analyst;
use loadtest::stack::Stack;
use std::path::Path;
use std::time::{Duration, Instant};
use tracking_events::{FORMAT_VERSION, MAX_EVENT_BYTES};

/// The rule for a journal: this long, and a second for each so many events.
const FIXED_SECONDS: u64 = 30;
const EVENTS_PER_SECOND: u64 = 20_000;
const EVENTS: u64 = 100_000;
/// Debug builds on two busy cores are slower than what is documented.
const TOLERANCE: u32 = 3;

#[test]
fn drain_takes_no_longer_than_documented() {
    let rule = format!("{FIXED_SECONDS} s + EVENTS / 20,000 s");
    let documents = include_str!("../../docs/operations.md");
    assert!(documents.contains(&rule), "{rule} is not in operations.md");
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut stack = Stack::start(dir.path(), 1, None, |_| {}).expect("starts");
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
    let rows = || {
        let counted = analyst.query("SELECT count() FROM clicks");
        counted.map_or(String::new(), |counted| counted.rows[0][0].clone())
    };
    click(&stack, "drain");
    wait_until("the click is in ClickHouse", || rows() == "1");
    stack.edges[0].stop().expect("stops");
    repeat_event(&dir.path().join("edge-1/journal"), EVENTS);

    let started = Instant::now();
    let drained = stack.edges[0].run_command(&["drain"]);
    let elapsed = started.elapsed();
    drained.expect("everything is acknowledged");
    assert_eq!(rows(), (EVENTS + 1).to_string());
    let documented = Duration::from_secs(FIXED_SECONDS + EVENTS / EVENTS_PER_SECOND);
    println!("{EVENTS} events were drained in {elapsed:?}");
    assert!(elapsed < documented * TOLERANCE, "{elapsed:?}");
}

/// Appends the journal's last event again, that many times.
fn repeat_event(journal: &Path, times: u64) {
    let options = Options {
        dir: journal.into(),
        lanes: 1,
        format_version: FORMAT_VERSION,
        segment_bytes: 32 << 20,
        max_bytes: 1 << 30,
        sync_interval: Duration::from_millis(500),
    };
    let OpenJournal {
        mut writers,
        mut readers,
        sync_thread,
        ..
    } = event_journal::open(&options).expect("not in use");
    let mut bytes = Vec::new();
    readers[0].seek(0);
    while readers[0]
        .read(1 << 20, &mut bytes)
        .expect("readable")
        .is_some()
    {}
    let event = frames(&bytes).flatten().last().expect("click").payload;
    for _ in 0..times {
        let appended = writers[0].append(MAX_EVENT_BYTES, |room| {
            room[..event.len()].copy_from_slice(event);
            Some(event.len())
        });
        appended.expect("there is room");
    }
    sync_thread.stop().expect("synced");
}
