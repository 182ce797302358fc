//! The time to append one event on real files, without the deletion of released segments.
#![allow(missing_docs)]
#![forbid(unsafe_code)]

use criterion::{Criterion, criterion_group, criterion_main};
use event_journal::{OpenJournal, Options, open};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

const EVENT: [u8; 250] = [0xa5; 250];
/// The maximum event length that the edge passes.
const MAX_EVENT_BYTES: usize = 16 * 1024;
/// The number of events, about half a segment, after which they are released.
const RELEASE_INTERVAL: u64 = 1 << 16;

criterion_group! {
    name = append;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .nresamples(10_000);
    targets = appends
}
criterion_main!(append);

fn appends(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(&options(dir.path())).expect("a journal in an empty directory opens");
    criterion.bench_function("journal/append-250-bytes", |b| {
        b.iter_custom(|events| timed(&mut journal, events));
    });
}

/// The edge's defaults with rare syncs: appends never wait for them, and the disk is not measured.
fn options(dir: &Path) -> Options {
    Options {
        dir: dir.into(),
        lanes: 1,
        format_version: 1,
        segment_bytes: 32 << 20,
        max_bytes: 1 << 30,
        sync_interval: Duration::from_secs(60),
    }
}

fn timed(journal: &mut OpenJournal, events: u64) -> Duration {
    let mut elapsed = Duration::ZERO;
    let mut remaining = events;
    while remaining > 0 {
        let run = remaining.min(RELEASE_INTERVAL);
        let start = Instant::now();
        (0..run).for_each(|_| append_one(journal));
        elapsed += start.elapsed();
        remaining -= run;
        let through = journal.writers[0].next_seq() - 1;
        journal.readers[0].release(through);
    }
    elapsed
}

fn append_one(journal: &mut OpenJournal) {
    let appended = journal.writers[0].append(MAX_EVENT_BYTES, |buffer| {
        buffer[..EVENT.len()].copy_from_slice(black_box(&EVENT));
        Some(EVENT.len())
    });
    black_box(appended.expect("events are released in time, so there is space"));
}
