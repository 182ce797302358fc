//! How long accepting an event takes, on real files; deleting what was released is not counted.
#![allow(missing_docs)]
#![forbid(unsafe_code)]

use criterion::{Criterion, criterion_group, criterion_main};
use event_journal::{Opened, Options, open};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

const EVENT: [u8; 250] = [0xa5; 250];
/// The most an event may take, as the edge asks for it.
const ROOM: usize = 16 * 1024;
/// After so many events, about half a segment, they are released.
const RELEASE_AFTER: u64 = 1 << 16;

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
    let dir = tempfile::tempdir().expect("a folder for a moment");
    let mut journal = open(&options(dir.path())).expect("an empty folder can be opened");
    criterion.bench_function("journal/append-250-bytes", |b| {
        b.iter_custom(|events| timed(&mut journal, events));
    });
}

/// As the edge's defaults, but synced rarely: accepting never waits for it, and the disk is not
/// what is measured.
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

fn timed(journal: &mut Opened, events: u64) -> Duration {
    let mut taken = Duration::ZERO;
    let mut left = events;
    while left > 0 {
        let run = left.min(RELEASE_AFTER);
        let start = Instant::now();
        (0..run).for_each(|_| append_one(journal));
        taken += start.elapsed();
        left -= run;
        let through = journal.writers[0].next_seq() - 1;
        journal.readers[0].release(through);
    }
    taken
}

fn append_one(journal: &mut Opened) {
    let appended = journal.writers[0].append(ROOM, |room| {
        room[..EVENT.len()].copy_from_slice(black_box(&EVENT));
        Some(EVENT.len())
    });
    black_box(appended.expect("released in time, so there is room"));
}
