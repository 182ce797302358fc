//! Spools on real journals, against simulated aggregators.

mod copies;

use super::*;
use daemon::settings::{Bounded, ByteSize, HumanDuration};
use event_journal::{LaneWriter, OpenJournal, Options};
use event_shipping::LaneState;
use std::path::Path;

fn open(dir: &Path) -> OpenJournal {
    let options = Options {
        dir: dir.into(),
        lanes: 1,
        format_version: 1,
        segment_bytes: 64 << 10,
        max_bytes: 16 << 20,
        sync_interval: Duration::from_secs(1),
    };
    event_journal::open(&options).expect("opens")
}

fn append(journal: &mut OpenJournal, events: u32) {
    for number in 0..events {
        append_one(&mut journal.writers[0], u64::from(number), 100);
    }
}

/// An event of `bytes` that begins with its number.
fn append_one(writer: &mut LaneWriter, number: u64, bytes: usize) {
    let mut event = vec![0; bytes];
    event[..8].copy_from_slice(&number.to_le_bytes());
    event[8..12].copy_from_slice(&(number as u32).wrapping_mul(0x9e37_79b9).to_le_bytes());
    let appended = writer.append(event.len(), |room| {
        room.copy_from_slice(&event);
        Some(event.len())
    });
    appended.expect("there is room");
}

/// A journal in batches of `bytes`; the filters were never saved.
fn unconnected(ids: JournalIds, readers: Vec<LaneReader>, bytes: u64) -> Spool {
    let settings = AggregatorSettings {
        address: String::new(),
        batch_bytes: Bounded::new(ByteSize(bytes)),
        batch_age: Bounded::new(HumanDuration(Duration::from_millis(1))),
    };
    let progress = Arc::new(ShippingProgress::new([(0, 0)].into_iter()));
    let spool = Spool::new(ids, readers, progress, &settings, Metrics::new());
    spool.expect("there is memory")
}

/// The welcome of an aggregator that has each lane of the `Hello` up to `received`.
fn welcome_for(spool: &Spool, received: impl Fn(u64) -> u64) -> Welcome {
    let lanes = spool.hello(NodeId(1)).lanes.into_iter();
    let states = lanes.map(|lane| LaneState {
        lane: lane.lane,
        journal: lane.journal,
        received: received(lane.journal),
        taken: received(lane.journal),
    });
    Welcome {
        lanes: states.collect(),
        ..Welcome::default()
    }
}

fn opened(journal: OpenJournal, bytes: u64) -> Spool {
    unconnected(journal.ids, journal.readers, bytes)
}

/// As [`opened`], for an aggregator that has everything of earlier processes up to `taken`.
fn spool(journal: OpenJournal, bytes: u64, taken: u64) -> Spool {
    let mut spool = opened(journal, bytes);
    let lane = &spool.lanes[0];
    let welcome = welcome_for(&spool, |id| if lane.is_current(id) { 0 } else { taken });
    spool.welcome(&welcome).expect("valid");
    spool
}

fn seal_all(spool: &mut Spool) -> Vec<Batch> {
    let now = Instant::now();
    spool.seal_due(now);
    spool.seal_due(now + Duration::from_secs(1));
    std::iter::from_fn(|| spool.next_batch()).collect()
}

/// Everything that is sealed for an aggregator that has nothing yet.
fn sealed(journal: OpenJournal, bytes: u64) -> Vec<Batch> {
    seal_all(&mut spool(journal, bytes, 0))
}

fn follow(batches: &[Batch], after: u64) -> bool {
    let mut last = after;
    batches.iter().all(|batch| {
        let follows = batch.header.after == last;
        last = batch.header.last;
        follows
    })
}

fn events(batches: &[Batch]) -> u32 {
    batches.iter().map(|batch| batch.header.events).sum()
}

fn identity(batch: &Batch) -> (u64, u64, u64, u32) {
    let header = batch.header;
    (header.journal, header.after, header.last, header.crc)
}

impl Spool {
    fn journal_disputes(&self, reason: &str) -> u64 {
        let changed = &self.metrics.journal_disputes;
        changed.with_label_values(&[reason]).get()
    }
}

#[test]
fn acknowledged_batches_are_not_sealed_again_after_a_crash() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(dir.path());
    append(&mut journal, 500);
    let mut spool = spool(journal, 4_096, 0);
    let before = seal_all(&mut spool);
    let id = before[0].header.journal;
    let taken = before[3].header.last;
    let ack = Ack {
        lane: 0,
        journal: id,
        taken,
    };
    spool.acknowledge(&ack).expect("valid");
    // As after `kill -9`: nothing is written when it ends.
    let crashed = copies::copy(dir.path());
    drop(spool);

    let after = opened(open(crashed.path()), 64 << 10);
    let lanes = after.hello(NodeId(1)).lanes;
    let old = lanes.iter().find(|lane| lane.journal == id).expect("named");
    assert_eq!((old.acknowledged, old.released), (taken, 0));
    let after = seal_all(&mut self::spool(open(dir.path()), 64 << 10, taken));
    assert!(follow(&after, taken));
    assert!(
        before[4..]
            .iter()
            .map(identity)
            .eq(after.iter().map(identity))
    );
}

#[test]
fn events_skipped_for_the_aggregator_leave_no_gap() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(dir.path());
    append(&mut journal, 500);
    drop(journal);
    // Of an earlier process the aggregator may have more than this one knows.
    let skipped = seal_all(&mut spool(open(dir.path()), 4_096, 300));
    assert!(follow(&skipped, 300));
    let after = seal_all(&mut spool(open(dir.path()), 4_096, 300));
    assert!(follow(&after, 300));
    assert_eq!(events(&after), 200);
}

#[test]
fn batches_sealed_before_a_restart_are_resealed_identically() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(dir.path());
    append(&mut journal, 500);
    let before = sealed(journal, 4_096);
    assert!(before.len() > 5, "{} batches", before.len());

    // After more events and changed settings, sealed batches are the same.
    let mut journal = open(dir.path());
    append(&mut journal, 500);
    let after = sealed(journal, 64 << 10);
    let old = before[0].header.journal;
    let (after, new): (Vec<_>, Vec<_>) = after
        .into_iter()
        .partition(|batch| batch.header.journal == old);
    assert_eq!(after.len(), before.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(identity(before), identity(after));
        assert_eq!(before.header.first, after.header.first);
        assert_eq!(before.payload, after.payload);
    }
    assert_eq!((events(&after), events(&new)), (500, 500));
    assert!(follow(&new, 0));
}

#[test]
fn restored_directory_keeps_the_common_past_under_its_id() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(dir.path());
    append(&mut journal, 100);
    let before = opened(journal, 4_096);
    let old = before.hello(NodeId(1)).lanes[0].journal;
    drop(before);
    let mut journal = open(dir.path());
    let first_own = journal.writers[0].next_seq();
    append(&mut journal, 50);
    let mut spool = opened(journal, 4_096);
    let lanes = spool.hello(NodeId(1)).lanes;
    assert_eq!(lanes.len(), 2);
    assert!(lanes.iter().any(|lane| lane.journal == old));
    // Another process went on under the old id where the copy was made.
    let received = |id| if id == old { first_own + 10 } else { 0 };
    spool
        .welcome(&welcome_for(&spool, received))
        .expect("valid");
    assert_eq!(spool.journal_disputes("other_writer"), 1);
    let batches = seal_all(&mut spool);
    assert_eq!(events(&batches), 50);
    assert!(follow(&batches, 0) && batches[0].header.first == first_own);
    assert!(batches.iter().all(|batch| batch.header.journal != old));
    let last = batches.last().expect("some").header;
    let ack = Ack {
        lane: 0,
        journal: last.journal,
        taken: last.last,
    };
    spool.acknowledge(&ack).expect("valid");
    assert!(spool.is_drained());
    spool.disconnected();
    let lanes = spool.hello(NodeId(1)).lanes;
    assert!(
        lanes.len() == 1 && lanes[0].journal != old,
        "the old id is not named again"
    );
    assert_eq!(lanes[0].acknowledged, last.last);
}

#[test]
fn copy_that_lacks_later_events_is_reported() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let OpenJournal {
        mut writers,
        ids,
        readers,
        sync_thread: _sync_thread,
        ..
    } = open(dir.path());
    let running = unconnected(ids, readers, 4_096);
    let old = running.hello(NodeId(1)).lanes[0].journal;
    let mut append = |events: std::ops::Range<u64>| {
        events.for_each(|number| append_one(&mut writers[0], number, 100));
        writers[0].next_seq() - 1
    };
    append(0..100);
    let copy = copies::copy(dir.path());
    let last = append(100..150);

    let restored = open(copy.path());
    assert!(restored.writers[0].next_seq() > last);
    let mut restored = opened(restored, 4_096);
    let received = |id| if id == old { last } else { 0 };
    restored
        .welcome(&welcome_for(&restored, received))
        .expect("valid");
    assert_eq!(restored.journal_disputes("events_missing"), 1);
    assert_eq!(restored.journal_disputes("other_writer"), 0);
}

#[test]
fn unassigned_sequences_move_the_lane_to_a_new_id() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(dir.path());
    append(&mut journal, 100);
    let mut spool = opened(journal, 4_096);
    let old = spool.hello(NodeId(1)).lanes[0].journal;
    assert!(spool.welcome(&welcome_for(&spool, |_| 1 << 61)).is_err());
    assert_eq!(spool.journal_disputes("other_writer"), 1);
    let lanes = spool.hello(NodeId(1)).lanes;
    assert!(lanes.len() == 1 && lanes[0].journal != old);
    spool.welcome(&welcome_for(&spool, |_| 0)).expect("valid");
    let batches = seal_all(&mut spool);
    assert!(follow(&batches, 0) && events(&batches) == 100);
}

#[test]
fn restored_aggregator_receives_events_under_a_new_id() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open(dir.path());
    append(&mut journal, 500);
    let mut spool = spool(journal, 4_096, 0);
    let sent = seal_all(&mut spool);
    let old = sent[0].header.journal;
    let taken = sent[3].header.last;
    let ack = Ack {
        lane: 0,
        journal: old,
        taken,
    };
    spool.acknowledge(&ack).expect("valid");
    spool.disconnected();
    let welcome = welcome_for(&spool, |_| taken - 20);
    assert!(spool.welcome(&welcome).is_err());
    assert_eq!(spool.journal_disputes("aggregator_restored"), 1);
    let welcome = welcome_for(&spool, |id| if id == old { taken - 20 } else { 0 });
    spool.welcome(&welcome).expect("valid");
    let batches = seal_all(&mut spool);
    assert!(follow(&batches, 0) && batches[0].header.first == taken + 1);
    assert_eq!(events(&batches), events(&sent[4..]));
}
