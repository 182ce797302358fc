//! Counts of events in a range of sequences, compared with what is read.
#![allow(missing_docs)]

mod common;

use common::events::{append_all, payload, read_all};
use common::options;
use event_journal::{EventCount, LaneReader, OpenJournal, frame_bytes, open};

/// Compares the count with what is read: in all, and after each of some sequences up to each of some others.
fn assert_counts(reader: &mut LaneReader, from: u64) {
    let retained = read_all(reader, 0);
    let bytes = retained
        .iter()
        .map(|(_, number)| frame_bytes(payload(*number).len()));
    let expected = EventCount {
        events: retained.len() as u64,
        bytes: bytes.map(|bytes| bytes as u64).sum(),
    };
    assert_eq!(reader.count_between(0, u64::MAX), expected);
    let all = read_all(reader, from);
    let last = all.last().map_or(from, |(seq, _)| *seq);
    let bounds = [
        from,
        from + 1,
        from + (last - from) / 3,
        (last - 1).max(from),
        last,
        last + 9,
    ];
    for after in bounds {
        for through in bounds.into_iter().chain([u64::MAX]) {
            let within = all
                .iter()
                .filter(|(seq, _)| (after + 1..=through).contains(seq));
            let counted = reader.count_between(after, through);
            assert_eq!(
                counted.events,
                within.count() as u64,
                "{after} to {through}"
            );
            assert_eq!(counted.bytes == 0, counted.events == 0, "{counted:?}");
        }
    }
}

#[test]
fn counts_agree_with_events_over_segments_and_restarts() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut number = 0;
    for events in [2_000, 1, 3_000] {
        let mut journal: OpenJournal = open(&options(dir.path())).expect("opens");
        append_all(&mut journal, number..number + events);
        number += events;
        assert_counts(&mut journal.readers[0], 0);
        // Released segments are deleted, of this process, too.
        let reader = &mut journal.readers[0];
        let through = reader.last_committed() - events / 2;
        reader.release(through);
        assert_counts(reader, through);
        assert_eq!(
            reader.count_between(reader.last_committed(), u64::MAX),
            EventCount::default()
        );
    }
}
