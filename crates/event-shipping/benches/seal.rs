//! The time to seal and open a batch of 1,000 events, per event.
#![allow(missing_docs)]
#![forbid(unsafe_code)]

#[path = "../../tracking-events/benches/sample/mod.rs"]
mod sample;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event_journal::{FrameRun, Options};
use event_shipping::{BatchSpan, Sealer, open};
use std::hint::black_box;
use std::time::Duration;
use tracking_events::{FORMAT_VERSION, MAX_EVENT_BYTES};

const EVENTS: u64 = 1_000;

criterion_group! {
    name = seal;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .nresamples(10_000);
    targets = batches
}
criterion_main!(seal);

fn batches(criterion: &mut Criterion) {
    let (run, frames) = journaled_frames();
    let span = span(&run);
    let mut sealer = Sealer::new().expect("compressor");
    let batch = sealer.seal(&span, &frames, 1).expect("valid span");
    println!(
        "a batch of {EVENTS} events: {} bytes of frames, {} sealed",
        frames.len(),
        batch.payload.len()
    );
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("seal-per-event", |b| {
        b.iter(|| sealer.seal(&span, black_box(&frames), 1));
    });
    group.bench_function("open-per-event", |b| {
        let mut raw = Vec::new();
        b.iter(|| {
            open(
                black_box(&batch.header),
                black_box(&batch.payload),
                &mut raw,
            )
        });
    });
    group.finish();
}

/// The events as stored in a journal.
fn journaled_frames() -> (FrameRun, Vec<u8>) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = Options {
        dir: dir.path().into(),
        lanes: 1,
        format_version: FORMAT_VERSION,
        segment_bytes: 1 << 20,
        max_bytes: 4 << 20,
        sync_interval: Duration::from_secs(1),
    };
    let mut journal = event_journal::open(&options).expect("a journal in an empty directory opens");
    for number in 0..EVENTS {
        let event = sample::encoded_click(number);
        let appended = journal.writers[0].append(MAX_EVENT_BYTES, |buffer| {
            buffer[..event.len()].copy_from_slice(&event);
            Some(event.len())
        });
        appended.expect("the journal has space");
    }
    let mut frames = Vec::new();
    let read = journal.readers[0].read(usize::MAX, &mut frames);
    let run = read.expect("readable").expect("events were appended");
    assert_eq!(u64::from(run.events), EVENTS);
    (run, frames)
}

fn span(run: &FrameRun) -> BatchSpan {
    BatchSpan {
        lane: 0,
        journal: 1,
        format_version: run.format_version,
        after: run.after,
        first: run.first,
        last: run.last,
        events: run.events,
    }
}
