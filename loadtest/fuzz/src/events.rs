//! Click ids, events, and the rows made from them.

use crate::input::Input;
use bytes::Bytes;
use domain::{CostMicros, LaneId, LinkId, Micros, NodeId, Seq, VisitorId};
use event_journal::{Frame, frames};
use event_shipping::{BatchSpan, Sealer, open};
use tracking_events::{
    CLICK_ID_CHARS, ClickId, ClickIdError, ClickIdParts, DecodeError, Device, Event,
    FORMAT_VERSION, Flags, Geo, KeyId, KeyRing, Link, MacKey, OLD_CLICK_ID_CHARS, UserAgent, Visit,
    decode, encode,
};

fn ring(active: u8) -> KeyRing {
    let keys = [0, 9].map(|id| {
        let key = KeyId::new(id).expect("below 32");
        (key, MacKey::new([id; 32]))
    });
    KeyRing::new(KeyId::new(active).expect("below 32"), keys).expect("the key is there")
}

/// A text that may be a click id, then the parts of one.
pub(crate) fn click_id(bytes: &[u8]) {
    let ring = ring(9);
    for chars in [CLICK_ID_CHARS, OLD_CLICK_ID_CHARS] {
        parsed(&ring, bytes.get(..chars).unwrap_or(bytes));
    }
    signed(&ring, bytes);
}

/// An id has a unique text, and only a key holder can create it.
fn parsed(ring: &KeyRing, text: &[u8]) {
    match ClickId::parse(text) {
        Ok(id) => {
            assert_eq!(id.to_text().as_bytes(), text, "one text for one id");
            assert_eq!(id.to_string().as_bytes(), text);
            match ring.verify(&id) {
                Ok(parts) => {
                    let (layout, key) = (id.as_bytes()[18] >> 5, id.as_bytes()[18] & 31);
                    let again = self::ring(key).sign(parts);
                    assert!(layout == 0 || again == id);
                }
                Err(error) => assert_ne!(error, ClickIdError::Malformed),
            }
        }
        Err(error) => assert_eq!(error, ClickIdError::Malformed),
    }
}

/// A signed id contains the signed parts, and changing a character invalidates it.
fn signed(ring: &KeyRing, bytes: &[u8]) {
    let mut input = Input(bytes);
    let parts = ClickIdParts {
        time: Micros(input.u64()),
        node: NodeId(input.u16()),
        lane: LaneId(input.u8()),
        seq: Seq(input.u64()),
        link: LinkId(input.u32()),
    };
    let id = ring.sign(parts);
    let read = ring.verify(&id).expect("just signed");
    let kept = ClickIdParts {
        time: Micros((parts.time.millis() & ((1 << 48) - 1)) * 1_000),
        seq: Seq(parts.seq.0 & ((1 << 40) - 1)),
        ..parts
    };
    assert_eq!(read, kept);
    let mut text = id.to_text().as_bytes().to_vec();
    assert_eq!(ClickId::parse(&text), Ok(id));
    let at = usize::from(input.u8()) % CLICK_ID_CHARS;
    let other = input.u8();
    if text[at] != other {
        text[at] = other;
        if let Ok(altered) = ClickId::parse(&text) {
            ring.verify(&altered).expect_err("a character was altered");
        }
    }
}

/// A version, then the bytes of an event.
pub(crate) fn event(bytes: &[u8]) {
    let mut input = Input(bytes);
    let version = u16::from(input.u8());
    match decode(version, input.0) {
        Ok(event) => {
            assert!((1..=FORMAT_VERSION).contains(&version));
            let mut room = vec![0; input.0.len()];
            // Numbers may be encoded longer than necessary, but never get longer by encoding.
            let len = encode(&event, &mut room).expect("as long at most");
            assert_eq!(decode(version, &room[..len]), Ok(event.clone()));
            assert!(encode(&event, &mut room[..len - 1]).is_err());
            if let Event::Click(visit) | Event::Impression(visit) = &event {
                assert_eq!(visit.ip(), visit.ip().to_canonical());
                assert_eq!(visit.counted(), !visit.flags.any(Flags::UNCOUNTED));
            }
        }
        Err(DecodeError::UnknownVersion(unknown)) => {
            assert!(unknown == version && !(1..=FORMAT_VERSION).contains(&version));
        }
        Err(DecodeError::TrailingBytes(rest)) => {
            let event = &input.0[..input.0.len() - rest];
            assert!(decode(version, event).is_ok());
        }
        Err(DecodeError::Malformed { .. }) => {}
    }
}

/// Frames of a batch: sequence steps, truncation, and payloads.
pub(crate) fn rows(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (skip, cut, version) = (input.u8(), input.u16(), u16::from(input.u8()));
    let (mut raw, mut seq, mut events) = (Vec::new(), 0_u64, 0);
    while !input.is_empty() {
        seq = seq.wrapping_add(u64::from(input.u8()).wrapping_sub(8));
        let len = input.u16();
        let payload = input.take(len.into());
        if !payload.is_empty() {
            Frame { seq, payload }.write(&mut raw);
            events += 1;
        }
    }
    raw.truncate(raw.len().saturating_sub(cut.into()));
    let span = BatchSpan {
        lane: 1,
        journal: 2,
        format_version: version,
        after: 0,
        first: 1,
        last: seq.clamp(1, 1 << 40).max(events),
        events: u32::try_from(events.max(1)).expect("inputs are short"),
    };
    let mut sealer = Sealer::new().expect("compressor");
    let Ok(batch) = sealer.seal(&span, &raw, 0) else {
        assert!(raw.is_empty());
        return;
    };
    let mut opened = Vec::new();
    open(&batch.header, &batch.payload, &mut opened).expect("just sealed");
    assert_eq!(opened, raw);
    let skip = u64::from(skip);
    let (rows, rejected, columns) =
        aggregator::fuzz_support::rows(batch.header, batch.payload, skip);
    // Every event becomes a row, is quarantined, or was in an earlier block; missing events are reported once.
    let whole = frames(&raw).map_while(Result::ok);
    let mut before = 0;
    let (mut fit, mut unfit) = (0, 0);
    for frame in whole {
        if frame.seq <= before || frame.seq > span.last {
            unfit += 1;
            continue;
        }
        before = frame.seq;
        if frame.seq > skip {
            fit += 1;
        }
    }
    let incomplete = usize::from(frames(&raw).any(|it| it.is_err()) || before < span.last);
    assert_eq!(rows + rejected, fit + unfit + incomplete);
    assert_eq!(rows == 0, columns == 0);
    let torn = Bytes::from(raw);
    let (rows, rejected, _) = aggregator::fuzz_support::rows(batch.header, torn, skip);
    assert_eq!(
        (rows, rejected),
        (0, 1),
        "a payload that does not match its header"
    );
}

/// A click with all texts.
pub(crate) fn sample() -> Vec<u8> {
    let parts = ClickIdParts {
        time: Micros(1_800_000_000_000_000),
        node: NodeId(1),
        lane: LaneId(0),
        seq: Seq(7),
        link: LinkId(3),
    };
    let visit = Visit {
        id: ring(0).sign(parts),
        time: parts.time,
        link: Link {
            id: parts.link,
            slug: "spring",
            offer: "offer-1",
            campaign: "campaign-1",
            affiliate: "ann",
        },
        visitor: VisitorId(0x0123_4567_89ab_cdef),
        flags: Flags::REPEATED,
        status: 302,
        address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 0],
        geo: Geo {
            country: *b"NO",
            region: "03",
            asn: 64_500,
        },
        agent: UserAgent {
            device: Device::Phone,
            os: "Android",
            browser: "Chrome",
            raw: "Mozilla/5.0 (Linux; Android 10; K)",
        },
        language: "en-us",
        host: "go.example",
        referrer: "https://blog.example/",
        source: "news",
        external_id: "x-1",
        cost: CostMicros(250_000),
        subs: ["a", "b", "", "", "", "", "", "", "", "z"],
    };
    let mut room = vec![0; 1_024];
    let len = encode(&Event::Click(visit), &mut room).expect("it is far shorter");
    room.truncate(len);
    room
}

pub(crate) mod seeds {
    //! Ids and events as an edge creates them.

    use super::{ClickIdParts, LaneId, LinkId, Micros, NodeId, Seq, ring, sample};

    pub(crate) fn click_id() -> Vec<Vec<u8>> {
        let parts = ClickIdParts {
            time: Micros(1_800_000_000_123_000),
            node: NodeId(7),
            lane: LaneId(3),
            seq: Seq(123_456),
            link: LinkId(42),
        };
        let ids = [0, 9].map(|key| ring(key).sign(parts).to_text().as_bytes().to_vec());
        let mut seeds = ids.to_vec();
        seeds.push([&ids[0], &ids[1][..]].concat());
        seeds.push(vec![0xff; 40]);
        seeds
    }

    pub(crate) fn event() -> Vec<Vec<u8>> {
        let mut impression = sample();
        impression[0] = 1;
        let events = [sample(), impression, vec![]];
        let seeds = events.iter().map(|event| [&[1], &event[..]].concat());
        seeds.chain([[&[2], &sample()[..]].concat()]).collect()
    }

    pub(crate) fn rows() -> Vec<Vec<u8>> {
        let framed = |step: u8, event: &[u8]| {
            let len = u16::try_from(event.len()).expect("in range").to_le_bytes();
            [&[step][..], &len, event].concat()
        };
        let (click, mut old) = (sample(), sample());
        // The time follows the id's 27 bytes.
        old[28..37].copy_from_slice(&[0x80; 9]);
        let many = |head: [u8; 4], events: &[Vec<u8>]| [&head, &events.concat()[..]].concat();
        vec![
            many([0, 0, 0, 1], &[framed(9, &click), framed(9, &click)]),
            many(
                [1, 0, 0, 1],
                &[framed(9, &click), framed(20, &click), framed(0, &click)],
            ),
            many([0, 9, 0, 1], &[framed(9, &click), framed(9, &click)]),
            many([0, 0, 0, 2], &[framed(9, &click)]),
            many([0, 0, 0, 1], &[framed(9, &old), framed(9, b"no event")]),
        ]
    }
}
