//! The binary format: encoded events are decoded, and other bytes are rejected.
#![allow(missing_docs)]

use domain::{
    ConversionKind, ConversionStatus, CostMicros, Currency, KycStatus, LaneId, LinkId, Micros,
    Money, NodeId, Seq, VisitorId,
};
use proptest::prelude::*;
use tracking_events::{
    ClickId, ClickIdParts, Conversion, DecodeError, Device, Event, FORMAT_VERSION, Flags, Geo,
    KeyId, KeyRing, KycUpdate, Link, MAX_EVENT_BYTES, MIN_EVENT_BYTES, MacKey, Rejection,
    SignedRequest, Stated, UserAgent, Visit, decode, encode,
};

/// The frozen events contain an id of the layout at that time.
fn id(number: u64) -> ClickId {
    if number == NUMBER {
        return ClickId::parse(FROZEN_ID).expect("click id");
    }
    let key = KeyId::new(0).expect("below 32");
    let ring =
        KeyRing::new(key, [(key, MacKey::new([5; 32]))]).expect("the active key is among the keys");
    ring.sign(ClickIdParts {
        time: Micros(number),
        node: NodeId(number as u16),
        lane: LaneId(1),
        seq: Seq(number),
        link: LinkId(number as u32),
    })
}

fn sample<'a>(texts: &'a [String; 4], number: u64) -> Visit<'a> {
    let [a, b, c, d] = texts;
    Visit {
        id: id(number),
        time: Micros(number),
        link: Link {
            id: LinkId(number as u32),
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

fn signed<'a>(a: &'a str, b: &'a str) -> SignedRequest<'a> {
    SignedRequest {
        method: "POST",
        path: a,
        query: b,
        headers: vec![("x-signature", a), ("content-type", b)],
        body: b.as_bytes(),
    }
}

fn conversion<'a>([a, b, c, d]: &'a [String; 4], number: u64) -> Conversion<'a> {
    let (kinds, statuses) = (ConversionKind::ALL, ConversionStatus::ALL);
    Conversion {
        time: Micros(number),
        advertiser: a,
        click: id(number),
        kind: kinds[number as usize % kinds.len()],
        kind_name: b,
        transaction: c,
        status: statuses[number as usize % statuses.len()],
        payout: Money {
            minor: -(number as i32 as i64),
            currency: Currency(*b"EUR"),
        },
        dialect: d,
        address: [number as u8; 16],
        stated: Stated(number as u8 & Stated::ALL.0),
        signed: Some(signed(a, b)),
        payout_as_sent: b,
    }
}

fn kyc_update<'a>([a, b, c, _]: &'a [String; 4], number: u64) -> KycUpdate<'a> {
    KycUpdate {
        time: Micros(number),
        happened: Micros(number / 2),
        provider: a,
        delivery: b,
        affiliate: c,
        status: KycStatus::ALL[number as usize % KycStatus::ALL.len()],
        tier: number as u8 % 4,
        signed: Some(signed(a, b)),
    }
}

fn rejection<'a>([a, b, c, d]: &'a [String; 4], number: u64) -> Rejection<'a> {
    Rejection {
        time: Micros(number),
        source: a,
        party: b,
        reason: number as u16,
        reason_name: c,
        detail: d,
        request: a,
        status: 403,
        address: [number as u8; 16],
    }
}

/// One event of each kind.
fn samples(texts: &[String; 4], number: u64) -> [Event<'_>; 5] {
    [
        Event::Click(sample(texts, number)),
        Event::Impression(sample(texts, number)),
        Event::Conversion(conversion(texts, number)),
        Event::KycUpdate(kyc_update(texts, number)),
        Event::Rejection(rejection(texts, number)),
    ]
}

fn encoded(event: &Event<'_>) -> Vec<u8> {
    let mut out = vec![0; MAX_EVENT_BYTES];
    let length = encode(event, &mut out).expect("the event fits");
    out.truncate(length);
    out
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
    digits
        .map(|pair| byte(pair).expect("hexadecimal"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn encoded_events_are_decoded(texts: [String; 4], number: u64, kind in 0..5_usize) {
        let event = samples(&texts, number)[kind].clone();
        let mut out = vec![0; MAX_EVENT_BYTES];
        let length = encode(&event, &mut out).expect("short texts fit");
        prop_assert_eq!(decode(FORMAT_VERSION, &out[..length]), Ok(event.clone()));
        prop_assert!(decode(FORMAT_VERSION, &out[..length - 1]).is_err());
        prop_assert_eq!(decode(FORMAT_VERSION, &out[..=length]), Err(DecodeError::TrailingBytes(1)));
        prop_assert!(encode(&event, &mut out[..length - 1]).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode(FORMAT_VERSION, &bytes);
    }
}

#[test]
fn version_1_is_frozen() {
    let bytes = encoded(&Event::Click(sample(&texts(), NUMBER)));
    assert_eq!(
        hex(&bytes),
        FROZEN_1,
        "the binary form of version 1 must never change; add a version"
    );
    assert!(decode(1, &bytes).is_ok());
    assert_eq!(decode(5, &bytes), Err(DecodeError::UnknownVersion(5)));
}

#[test]
fn version_4_adds_devices() {
    let texts = texts();
    for (device, place) in [(Device::Bot, 5), (Device::Tv, 6), (Device::Console, 7)] {
        let mut visit = sample(&texts, NUMBER);
        visit.agent.device = device;
        let frozen = FROZEN_1.replace("4b03026263", &format!("4b{place:02}026263"));
        let click = Event::Click(visit);
        let bytes = encoded(&click);
        assert_eq!(hex(&bytes), frozen, "{device:?}");
        assert_eq!(decode(FORMAT_VERSION, &bytes), Ok(click));
    }
}

#[test]
fn version_2_stays_readable() {
    let texts = texts();
    let [_, _, sale, check, refusal] = samples(&texts, NUMBER);
    let (Event::Conversion(mut sale), Event::KycUpdate(mut check)) = (sale, check) else {
        panic!("one of each kind, in this order")
    };
    (sale.stated, sale.signed, check.signed) = (Stated::ALL, None, None);
    sale.payout_as_sent = "";
    let events = [
        Event::Conversion(sale),
        Event::KycUpdate(check),
        refusal.clone(),
    ];
    for (event, frozen) in events.into_iter().zip(FROZEN_2) {
        assert_eq!(decode(2, &bytes(frozen)), Ok(event));
    }
    assert_eq!(
        hex(&encoded(&refusal)),
        FROZEN_2[2],
        "version 3 encodes it identically"
    );
}

#[test]
fn version_3_stays_readable() {
    let texts = texts();
    let [_, _, sale, check, refusal] = samples(&texts, NUMBER);
    let Event::Conversion(mut sale) = sale else {
        panic!("one of each kind, in this order")
    };
    sale.payout_as_sent = "";
    for (event, frozen) in [Event::Conversion(sale), check, refusal]
        .into_iter()
        .zip(FROZEN_3)
    {
        assert_eq!(decode(3, &bytes(frozen)), Ok(event));
    }
}

#[test]
fn version_4_is_frozen() {
    let texts = texts();
    let [click, _, sale, events @ ..] = samples(&texts, NUMBER);
    assert_eq!(
        hex(&encoded(&click)),
        FROZEN_1,
        "version 4 writes what version 1 knows identically"
    );
    let sale_of_4 = format!("{}026263", FROZEN_3[0]);
    assert_eq!(
        hex(&encoded(&sale)),
        sale_of_4,
        "the binary form of version 4 must never change; add a version"
    );
    for (event, frozen) in events.iter().zip(&FROZEN_3[1..]) {
        assert_eq!(
            hex(&encoded(event)),
            *frozen,
            "version 4 writes it as version 3 did"
        );
    }
}

fn texts() -> [String; 4] {
    ["a", "bc", "", "d"].map(String::from)
}

const NUMBER: u64 = 1_234_567;

const FROZEN_ID: &[u8] = b"------IHpcR0---HpcR-3hP6-B3TpTTVKlVv";

const FROZEN_1: &str = "000000000004d2d68701000012d6870012d68700c11ed5e7a057183b87ad4b87ad4b01610262630001648087ad4b87ad4bae02878787878787878787878787878787874e4f016187ad4b03026263000164016102626300016401618dda9601016102626300016401610262630001640161026263";

const FROZEN_2: [&str; 3] = [
    "0287ad4b01610000000004d2d68701000012d6870012d68700c11ed5e7a057183b0102626300028dda9601455552016487878787878787878787878787878787",
    "0387ad4bc3d6250161026263000203",
    "0487ad4b016102626387ad030001640161930387878787878787878787878787878787",
];

const FROZEN_3: [&str; 3] = [
    "0287ad4b01610000000004d2d68701000012d6870012d68700c11ed5e7a057183b0102626300028dda9601455552016487878787878787878787878787878787070104504f53540161026263020b782d7369676e617475726501610c636f6e74656e742d74797065026263026263",
    "0387ad4bc3d62501610262630002030104504f53540161026263020b782d7369676e617475726501610c636f6e74656e742d74797065026263026263",
    "0487ad4b016102626387ad030001640161930387878787878787878787878787878787",
];

#[test]
fn smallest_event_of_any_version_has_min_event_bytes() {
    // An identity check of version 2 whose numbers are all 0 and whose texts are all empty.
    let smallest = [3, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(smallest.len(), MIN_EVENT_BYTES);
    assert!(decode(2, &smallest).is_ok());
    // Each field has at least one byte.
    for version in 1..=FORMAT_VERSION {
        for kind in 0..=u8::MAX {
            for length in 0..MIN_EVENT_BYTES {
                let mut bytes = vec![0; length];
                bytes.iter_mut().take(1).for_each(|first| *first = kind);
                assert!(decode(version, &bytes).is_err(), "{bytes:?} of {version}");
            }
        }
    }
}

proptest! {
    #[test]
    fn shorter_bytes_are_no_event(
        bytes in prop::collection::vec(any::<u8>(), 0..MIN_EVENT_BYTES),
        version in 1..=FORMAT_VERSION,
    ) {
        prop_assert!(decode(version, &bytes).is_err());
    }
}
