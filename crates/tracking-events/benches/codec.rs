//! The time for click ids and for encoding and decoding events.
#![allow(missing_docs)]
#![forbid(unsafe_code)]

mod sample;

use criterion::{Criterion, criterion_group, criterion_main};
use domain::{LaneId, LinkId, Micros, NodeId, Seq};
use std::hint::black_box;
use std::time::Duration;
use tracking_events::{
    ClickId, ClickIdParts, FORMAT_VERSION, KeyId, KeyRing, MAX_EVENT_BYTES, MacKey, decode, encode,
};

const PARTS: ClickIdParts = ClickIdParts {
    time: Micros(1_800_000_000_000_000),
    node: NodeId(1),
    lane: LaneId(2),
    seq: Seq(123_456_789),
    link: LinkId(42),
};

criterion_group! {
    name = codec;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
        .nresamples(10_000);
    targets = click_ids, events
}
criterion_main!(codec);

fn click_ids(criterion: &mut Criterion) {
    let key = KeyId::new(0).expect("below 32");
    let ring =
        KeyRing::new(key, [(key, MacKey::new([7; 32]))]).expect("the active key is among the keys");
    let id = ring.sign(PARTS);
    let text = id.to_text();
    let mut group = criterion.benchmark_group("click-id");
    group.bench_function("sign", |b| b.iter(|| ring.sign(black_box(PARTS))));
    group.bench_function("verify", |b| b.iter(|| ring.verify(black_box(&id))));
    group.bench_function("to-text", |b| b.iter(|| black_box(&id).to_text()));
    group.bench_function("parse", |b| {
        b.iter(|| ClickId::parse(black_box(text.as_bytes())))
    });
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let bytes = sample::encoded_click(1);
    let event = decode(FORMAT_VERSION, &bytes).expect("it was just encoded");
    let mut out = vec![0; MAX_EVENT_BYTES];
    let mut group = criterion.benchmark_group("event");
    group.bench_function("encode", |b| {
        b.iter(|| encode(black_box(&event), black_box(&mut out)));
    });
    group.bench_function("decode", |b| {
        b.iter(|| decode(FORMAT_VERSION, black_box(&bytes)));
    });
    group.finish();
}
