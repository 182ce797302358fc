//! Times of events: possible ones are kept, others corrected.

use super::*;
use bytes::Bytes;
use domain::{CostMicros, LinkId, VisitorId};
use event_shipping::BatchHeader;
use tracking_events::{ClickId, Device, Geo, Link, SUB_COUNT, UserAgent};

const RECEIVED: u64 = 1_800_000_000_000_000;
const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

fn visit(time: u64, flags: Flags) -> Visit<'static> {
    Visit {
        id: ClickId::parse(&[b'-'; 36]).expect("valid click id"),
        time: Micros(time),
        link: Link {
            id: LinkId(7),
            slug: "spring",
            offer: "offer-1",
            campaign: "campaign-2",
            affiliate: "affiliate-3",
        },
        visitor: VisitorId(1),
        flags,
        status: 302,
        address: [0; 16],
        geo: Geo::default(),
        agent: UserAgent {
            device: Device::Phone,
            os: "",
            browser: "",
            raw: "",
        },
        language: "",
        host: "",
        referrer: "",
        source: "",
        external_id: "",
        cost: CostMicros(0),
        subs: [""; SUB_COUNT],
    }
}

fn entry(sealed_at: u64) -> Entry {
    Entry {
        key: LaneKey {
            node: 1,
            lane: 0,
            journal: 2,
        },
        skip_through: 0,
        header: BatchHeader {
            lane: 0,
            journal: 2,
            format_version: tracking_events::FORMAT_VERSION,
            after: 0,
            first: 1,
            last: 1,
            events: 1,
            raw_bytes: 1,
            crc: 0,
            sealed_at,
        },
        received_at: RECEIVED,
        payload: Bytes::new(),
    }
}

fn stored(time: u64, flags: Flags, sealed_at: u64) -> (u64, Flags) {
    let visit = corrected(visit(time, flags), &entry(sealed_at));
    (visit.time.0, visit.flags)
}

#[test]
fn anchored_times_are_kept_and_unknown_ones_corrected() {
    let unknown = Flags(Flags::CLOCK_WRONG.0 | Flags::TIME_UNKNOWN.0);
    let yesterday = RECEIVED - DAY;
    for kept in [Flags(0), Flags::REPEATED, Flags::CLOCK_WRONG] {
        assert_eq!(stored(yesterday, kept, RECEIVED), (yesterday, kept));
    }
    // Event and batch have the same wrong clock, which gives the event's age.
    for wrong in [5 * SECOND, 1_600_000_000 * SECOND, 5_000_000_000 * SECOND] {
        let expected = (RECEIVED - 40 * SECOND, unknown);
        assert_eq!(stored(wrong, unknown, wrong + 40 * SECOND), expected);
    }
    // The clock was set in between, or runs backwards: the age is unknown.
    assert_eq!(stored(5, unknown, RECEIVED - SECOND), (RECEIVED, unknown));
    assert_eq!(stored(9, unknown, 5), (RECEIVED, unknown));
    // The clock was set right and then wrong before the batch was sealed, or the edge invents its times.
    assert_eq!(
        stored(RECEIVED - SECOND, unknown, RECEIVED + 40 * 365 * DAY),
        (RECEIVED, unknown)
    );
    assert_eq!(stored(0, unknown, u64::MAX), (RECEIVED, unknown));
}

#[test]
fn impossible_times_of_older_edges_are_corrected_too() {
    let unknown = Flags(Flags::CLOCK_WRONG.0 | Flags::TIME_UNKNOWN.0);
    for wrong in [0, STORABLE_TIMES.start - 1, STORABLE_TIMES.end, u64::MAX] {
        let sealed = wrong.saturating_add(3 * SECOND);
        let (time, flags) = stored(wrong, Flags(0), sealed);
        assert!(
            (RECEIVED - 3 * SECOND..=RECEIVED).contains(&time),
            "{wrong}: {time}"
        );
        assert_eq!(flags, unknown);
        let event = Event::Click(visit(wrong, Flags(0)));
        assert!(storable(&event), "the event is not quarantined");
    }
}
