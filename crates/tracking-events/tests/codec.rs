//! The binary form: what was written is read, and nothing else is.
#![allow(missing_docs)]

use proptest::prelude::*;
use tracking_events::{
    ClickIdParts, CostMicros, DecodeError, Device, Event, FORMAT_VERSION, Flags, Geo, KeyId,
    KeyRing, LaneId, Link, LinkId, MAX_EVENT_BYTES, MacKey, Micros, NodeId, Seq, UserAgent, Visit,
    VisitorId, decode, encode,
};

fn sample<'a>(texts: &'a [String; 4], number: u64) -> Visit<'a> {
    let key = KeyId::new(0).expect("below 32");
    let ring = KeyRing::new(key, [(key, MacKey::new([5; 32]))]).expect("the active key is there");
    let link = LinkId(number as u32);
    let parts = ClickIdParts {
        time: Micros(number),
        node: NodeId(number as u16),
        lane: LaneId(1),
        seq: Seq(number),
        link,
    };
    let [a, b, c, d] = texts;
    Visit {
        id: ring.sign(parts),
        time: Micros(number),
        link: Link {
            id: link,
            slug: a,
            offer: b,
            campaign: c,
            affiliate: d,
        },
        visitor: VisitorId(number.rotate_left(7)),
        flags: Flags(number as u32),
        status: 302,
        address: [number as u8; 16],
        geo: Geo {
            country: *b"NO",
            region: a,
            asn: number as u32,
        },
        agent: UserAgent {
            device: Device::Tablet,
            os: b,
            browser: c,
            raw: d,
        },
        language: a,
        host: b,
        referrer: c,
        source: d,
        external_id: a,
        cost: CostMicros(-(number as i32 as i64)),
        subs: [a, b, c, d, a, b, c, d, a, b],
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(texts: [String; 4], number: u64, click: bool) {
        let visit = sample(&texts, number);
        let event = if click { Event::Click(visit) } else { Event::Impression(visit) };
        let mut out = vec![0; MAX_EVENT_BYTES];
        let length = encode(&event, &mut out).expect("short texts fit");
        prop_assert_eq!(decode(FORMAT_VERSION, &out[..length]), Ok(event.clone()));
        prop_assert!(decode(FORMAT_VERSION, &out[..length - 1]).is_err());
        prop_assert_eq!(decode(FORMAT_VERSION, &out[..=length]), Err(DecodeError::TrailingBytes(1)));
        prop_assert!(encode(&event, &mut out[..length - 1]).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode(FORMAT_VERSION, &bytes);
    }
}

#[test]
fn version_1_is_frozen() {
    let texts = ["a", "bc", "", "d"].map(String::from);
    let mut out = vec![0; MAX_EVENT_BYTES];
    let length = encode(&Event::Click(sample(&texts, 1_234_567)), &mut out).expect("fits");
    let written = out[..length]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    assert_eq!(
        written, FROZEN,
        "the binary form of version 1 must never change; add a version"
    );
    assert!(decode(2, &out[..length]) == Err(DecodeError::UnknownVersion(2)));
}

const FROZEN: &str = "000000000004d2d68701000012d6870012d68700c11ed5e7a057183b87ad4b87ad4b01610262630001648087ad4b87ad4bae02878787878787878787878787878787874e4f016187ad4b03026263000164016102626300016401618dda9601016102626300016401610262630001640161026263";
