//! Measures encoding a ClickHouse Native block of 10,000 decoded clicks, per event.
#![allow(missing_docs)]
#![forbid(unsafe_code)]

#[path = "../../crates/tracking-events/benches/sample/mod.rs"]
mod sample;

use aggregator::DecodedClicks;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;
use tracking_events::{Event, FORMAT_VERSION, Visit, decode};

const EVENTS: u64 = 10_000;

criterion_group! {
    name = block;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(30)
        .nresamples(10_000);
    targets = blocks
}
criterion_main!(block);

fn blocks(criterion: &mut Criterion) {
    let encoded: Vec<_> = (0..EVENTS).map(sample::encoded_click).collect();
    let clicks = DecodedClicks::new(encoded.iter().map(|bytes| visit(bytes)));
    let mut group = criterion.benchmark_group("block");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("build-per-event", |b| b.iter(|| clicks.block()));
    group.finish();
}

fn visit(bytes: &[u8]) -> Visit<'_> {
    match decode(FORMAT_VERSION, bytes).expect("encoded above") {
        Event::Click(visit) | Event::Impression(visit) => visit,
        other => unreachable!("only clicks were encoded: {other:?}"),
    }
}
