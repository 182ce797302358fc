//! Messages between edges and aggregators.

use crate::input::Input;
use event_shipping::{
    AggregatorMessage, Batch, BatchHeader, BatchSpan, EdgeMessage, MAX_BATCH_MESSAGE_BYTES,
    MAX_CONTROL_MESSAGE_BYTES, MAX_LANES, MAX_RAW_BYTES, Message, Sealer, open,
};
use std::fmt::Debug;

/// A message's body, as either side parses it.
pub(crate) fn message(bytes: &[u8]) {
    if let Some(message) = read::<EdgeMessage>(bytes) {
        match message {
            EdgeMessage::Hello(hello) => assert!(hello.lanes.len() <= MAX_LANES),
            EdgeMessage::Batch(batch) => {
                let _ = batch.header.validate();
                let mut raw = Vec::new();
                open_within_limits(&batch.header, &batch.payload, &mut raw);
            }
        }
    }
    if let Some(AggregatorMessage::Welcome(welcome)) = read::<AggregatorMessage>(bytes) {
        assert!(welcome.lanes.len() <= MAX_LANES);
    }
}

fn read<M: Message + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::from_body(bytes).ok()?;
    assert!(message.limit() <= MAX_BATCH_MESSAGE_BYTES.max(MAX_CONTROL_MESSAGE_BYTES));
    assert!(bytes.len() <= message.limit());
    let frame = message.to_frame().expect("within its limit");
    let (length, body) = frame.split_first_chunk().expect("a length is in front");
    assert_eq!(u32::from_le_bytes(*length) as usize, body.len());
    // Numbers may be encoded longer than necessary, but never get longer by encoding.
    assert!(body.len() <= bytes.len());
    assert_eq!(M::from_body(body).as_ref(), Ok(&message));
    Some(message)
}

/// Opens a batch; it must not use more memory than its header states.
fn open_within_limits(header: &BatchHeader, payload: &[u8], raw: &mut Vec<u8>) -> bool {
    let before = raw.capacity();
    let opened = open(header, payload, raw).is_ok();
    assert!(raw.capacity() <= before.max(header.raw_bytes as usize));
    assert!(raw.capacity() <= before.max(MAX_RAW_BYTES));
    if opened {
        assert_eq!(raw.len(), header.raw_bytes as usize);
        header
            .validate()
            .expect("inconsistent batches are rejected");
    }
    opened
}

/// A header's numbers, then the payload: unchanged, or sealed and then altered.
pub(crate) fn batch(bytes: &[u8]) {
    let mut input = Input(bytes);
    let choice = input.u8();
    let span = BatchSpan {
        lane: input.u8(),
        journal: input.u64(),
        format_version: input.u16(),
        after: input.u64(),
        first: input.u64(),
        last: input.u64(),
        events: input.u32(),
    };
    let raw_bytes = input.u32();
    if choice & 1 == 0 {
        // As received: the checksum is valid, because the sender can compute it.
        let header = BatchHeader {
            lane: span.lane,
            journal: span.journal,
            format_version: span.format_version,
            after: span.after,
            first: span.first,
            last: span.last,
            events: span.events,
            raw_bytes: raw_bytes % (2 * MAX_RAW_BYTES as u32),
            crc: crc32c::crc32c(input.0),
            sealed_at: 0,
        };
        open_within_limits(&header, input.0, &mut Vec::new());
        return;
    }
    let mut sealer = Sealer::new().expect("compressor");
    let times = 1 + usize::from(choice >> 1) * 8;
    let raw = input.0.repeat(times);
    let Ok(sealed) = sealer.seal(&span, &raw, 5) else {
        return;
    };
    let mut opened = vec![1, 2, 3];
    assert!(open_within_limits(
        &sealed.header,
        &sealed.payload,
        &mut opened
    ));
    assert_eq!(opened, raw);
    let again = sealer.seal(&span, &raw, 5).expect("sealed before");
    assert_eq!(again, sealed, "a retry has the same bytes");
    message(&body(&EdgeMessage::Batch(sealed.clone())));
    altered(&sealed, raw_bytes as usize);
}

/// No altered byte and no other length is accepted.
fn altered(sealed: &Batch, noise: usize) {
    let mut payload = sealed.payload.to_vec();
    let at = noise / 8 % payload.len();
    payload[at] ^= 1 << (noise % 8);
    assert!(!open_within_limits(
        &sealed.header,
        &payload,
        &mut Vec::new()
    ));
    for raw_bytes in [sealed.header.raw_bytes - 1, sealed.header.raw_bytes + 1] {
        let header = BatchHeader {
            raw_bytes,
            ..sealed.header
        };
        assert!(!open_within_limits(
            &header,
            &sealed.payload,
            &mut Vec::new()
        ));
    }
}

fn body(message: &impl Message) -> Vec<u8> {
    message.to_frame().expect("within its limit")[4..].to_vec()
}

pub(crate) mod seeds {
    //! One message of each kind, and batches.

    use super::{AggregatorMessage, Batch, BatchSpan, EdgeMessage, Sealer, body};
    use event_shipping::{
        Ack, Hello, LaneHello, LaneState, PROTOCOL_VERSION, Refuse, VisitorSalt, Welcome,
    };

    fn sealed() -> Batch {
        let span = BatchSpan {
            lane: 1,
            journal: 7,
            format_version: 1,
            after: 4,
            first: 5,
            last: 9,
            events: 5,
        };
        let mut sealer = Sealer::new().expect("compressor");
        sealer
            .seal(&span, &b"frames ".repeat(40), 9)
            .expect("seals")
    }

    pub(crate) fn message() -> Vec<Vec<u8>> {
        let lanes = [0, 1].map(|lane| LaneHello {
            lane,
            journal: 7,
            acknowledged: 310,
            released: 300,
        });
        let states = [0, 1].map(|lane| LaneState {
            lane,
            journal: 7,
            received: 400,
            taken: 300,
        });
        vec![
            body(&EdgeMessage::Hello(Hello {
                protocol: PROTOCOL_VERSION,
                node: 3,
                software: "edge-tracker 0.1.0".into(),
                lanes: lanes.into(),
            })),
            body(&EdgeMessage::Batch(sealed())),
            body(&AggregatorMessage::Welcome(Welcome {
                lanes: states.into(),
                time_micros: 1_800_000_000_000_000,
                visitor_salt: Some(VisitorSalt {
                    period_micros: 86_400_000_000,
                    period: 20_833,
                    state: [3; 32],
                }),
            })),
            body(&AggregatorMessage::Ack(Ack {
                lane: 1,
                journal: 7,
                taken: 12,
            })),
            body(&AggregatorMessage::Refuse(Refuse {
                code: 6,
                message: "events are missing".into(),
            })),
        ]
    }

    pub(crate) fn batch() -> Vec<Vec<u8>> {
        let batch = sealed();
        let with = |choice: u8, raw_bytes: u32, rest: &[u8]| {
            let mut bytes = vec![choice, 1];
            bytes.extend(7_u64.to_le_bytes());
            bytes.extend(1_u16.to_le_bytes());
            for number in [4_u64, 5, 9] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(5_u32.to_le_bytes());
            bytes.extend(raw_bytes.to_le_bytes());
            bytes.extend_from_slice(rest);
            bytes
        };
        vec![
            with(0, batch.header.raw_bytes, &batch.payload),
            with(0, 4, &batch.payload),
            with(0, 1 << 20, b"not zstd"),
            with(1, 77, b"frames of some length"),
            with(0xff, 12_345, b"frames again and again"),
        ]
    }
}
