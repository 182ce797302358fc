//! Messages, framing and sealing, including input from hostile or broken peers.

use event_shipping::{
    Ack, AggregatorMessage, Batch, BatchHeader, BatchSpan, EdgeMessage, Hello, LaneHello,
    MAX_BATCH_MESSAGE_BYTES, MAX_CONTROL_MESSAGE_BYTES, MAX_LANES, MAX_RAW_BYTES, Message,
    OpenError, PROTOCOL_VERSION, ReadError, Refuse, RefuseCode, SEQUENCE_LIMIT, SealError, Sealer,
    WireError, open, read_message, write_message,
};
use proptest::prelude::*;

const SPAN: BatchSpan = BatchSpan {
    lane: 1,
    journal: 2,
    format_version: 1,
    after: 9,
    first: 10,
    last: 12,
    events: 3,
};

fn seal(raw: &[u8]) -> Batch {
    Sealer::new()
        .expect("compressor")
        .seal(&SPAN, raw, 77)
        .expect("within limits")
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}

fn read<M: Message>(bytes: &[u8], limit: usize) -> Result<Option<M>, ReadError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime");
    runtime.block_on(async { read_message(&mut &bytes[..], limit).await })
}

fn open_to_vec(header: &BatchHeader, payload: &[u8]) -> Result<Vec<u8>, OpenError> {
    // The remains of another batch must not appear in the result.
    let mut raw = vec![1; 10];
    open(header, payload, &mut raw).map(|()| raw)
}

proptest! {
    #[test]
    fn sealed_batch_survives_encoding_and_opens(raw in prop::collection::vec(any::<u8>(), 1..5_000)) {
        let message = EdgeMessage::Batch(seal(&raw));
        let frame = message.to_frame().expect("within limits");
        let back: EdgeMessage = read(&frame, MAX_BATCH_MESSAGE_BYTES).expect("valid").expect("one");
        prop_assert_eq!(&back, &message);
        let EdgeMessage::Batch(batch) = back else { unreachable!("a batch was sent") };
        prop_assert_eq!(open_to_vec(&batch.header, &batch.payload).expect("opens"), raw);
    }

    #[test]
    fn arbitrary_bytes_never_panic_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = EdgeMessage::from_body(&bytes);
        let _ = AggregatorMessage::from_body(&bytes);
        let _ = read::<EdgeMessage>(&bytes, MAX_CONTROL_MESSAGE_BYTES);
    }

    #[test]
    fn flipped_payload_bit_fails_the_checksum(at in 0..100_usize, bit in 0..8_u8) {
        let batch = seal(&noise(300));
        let mut payload = batch.payload.to_vec();
        payload[at] ^= 1 << bit;
        let seen = matches!(open_to_vec(&batch.header, &payload), Err(OpenError::Checksum { .. }));
        prop_assert!(seen);
    }
}

#[test]
fn sealing_is_deterministic() {
    let mut sealer = Sealer::new().expect("compressor");
    let raw = noise(10_000);
    let first = sealer.seal(&SPAN, &raw, 1).expect("seals");
    sealer.seal(&SPAN, b"something else", 1).expect("seals");
    assert_eq!(sealer.seal(&SPAN, &raw, 1).expect("seals"), first);
}

#[test]
fn longest_incompressible_batch_fits_a_message() {
    let raw = noise(MAX_RAW_BYTES);
    let message = EdgeMessage::Batch(seal(&raw));
    let frame = message.to_frame().expect("fits");
    assert_eq!(
        read::<EdgeMessage>(&frame, MAX_BATCH_MESSAGE_BYTES).expect("valid"),
        Some(message)
    );
    let mut sealer = Sealer::new().expect("compressor");
    let longer = sealer.seal(&SPAN, &noise(MAX_RAW_BYTES + 1), 0);
    assert!(matches!(longer, Err(SealError::TooLong(_))));
}

#[test]
fn decompression_never_exceeds_the_header_length() {
    let batch = seal(&vec![0; MAX_RAW_BYTES]);
    let header = BatchHeader {
        raw_bytes: 1_000,
        ..batch.header
    };
    assert!(matches!(
        open_to_vec(&header, &batch.payload),
        Err(OpenError::Decompress(_))
    ));
    let header = BatchHeader {
        raw_bytes: u32::MAX,
        ..batch.header
    };
    assert!(matches!(
        open_to_vec(&header, &batch.payload),
        Err(OpenError::Header(_))
    ));
    let shorter = seal(&[0; 10]);
    let header = BatchHeader {
        raw_bytes: 11,
        ..shorter.header
    };
    assert!(matches!(
        open_to_vec(&header, &shorter.payload),
        Err(OpenError::Length { .. })
    ));
}

#[test]
fn contradictory_headers_are_rejected() {
    let sound = seal(b"frames").header;
    assert!(sound.validate().is_ok());
    for header in [
        BatchHeader { after: 10, ..sound },
        BatchHeader { last: 9, ..sound },
        BatchHeader { events: 0, ..sound },
        BatchHeader { events: 4, ..sound },
        BatchHeader {
            raw_bytes: 0,
            ..sound
        },
    ] {
        assert!(header.validate().is_err(), "{header:?}");
    }
}

#[test]
fn length_is_checked_before_the_body_is_read() {
    let frame = u32::MAX.to_le_bytes();
    let rejected = read::<EdgeMessage>(&frame, MAX_BATCH_MESSAGE_BYTES);
    assert!(matches!(
        rejected,
        Err(ReadError::Wire(WireError::TooLong { .. }))
    ));
}

#[test]
fn truncated_message_is_an_error() {
    let frame = EdgeMessage::Batch(seal(b"frames"))
        .to_frame()
        .expect("fits");
    assert!(matches!(
        read::<EdgeMessage>(&[], MAX_BATCH_MESSAGE_BYTES),
        Ok(None)
    ));
    for length in 1..frame.len() {
        let cut = read::<EdgeMessage>(&frame[..length], MAX_BATCH_MESSAGE_BYTES);
        assert!(matches!(cut, Err(ReadError::Io(_))), "{length} bytes");
    }
}

#[test]
fn trailing_bytes_are_rejected() {
    let frame = AggregatorMessage::Ack(Ack {
        lane: 1,
        journal: 2,
        taken: 3,
    })
    .to_frame()
    .expect("fits");
    let mut body = frame[4..].to_vec();
    body.push(0);
    assert_eq!(
        AggregatorMessage::from_body(&body),
        Err(WireError::TrailingBytes(1))
    );
}

#[test]
fn control_messages_keep_their_own_limit() {
    let hello = |lanes, software: String| {
        let lanes = vec![
            LaneHello {
                lane: 0,
                journal: u64::MAX,
                acknowledged: SEQUENCE_LIMIT - 1,
                released: SEQUENCE_LIMIT - 1,
            };
            lanes
        ];
        EdgeMessage::Hello(Hello {
            protocol: PROTOCOL_VERSION,
            node: 1,
            software,
            lanes,
        })
    };
    assert!(hello(MAX_LANES, String::new()).to_frame().is_ok());
    let lanes = hello(MAX_LANES + 1, String::new()).to_frame();
    assert_eq!(lanes, Err(WireError::TooManyLanes(MAX_LANES + 1)));
    let long = "x".repeat(MAX_CONTROL_MESSAGE_BYTES);
    assert!(matches!(
        hello(1, long.clone()).to_frame(),
        Err(WireError::TooLong { .. })
    ));
    // The same message from a peer that ignores its limits.
    let body = [&[0, 1, 1][..], &[0x80, 0x80, 0x04], long.as_bytes(), &[0]].concat();
    assert!(matches!(
        EdgeMessage::from_body(&body),
        Err(WireError::TooLong { .. })
    ));
}

#[test]
fn impossible_sequences_are_rejected() {
    assert_eq!(SEQUENCE_LIMIT, event_journal::SEQ_LIMIT);
    let hello = |acknowledged, released| {
        let lanes = vec![LaneHello {
            lane: 0,
            journal: 1,
            acknowledged,
            released,
        }];
        EdgeMessage::Hello(Hello {
            protocol: PROTOCOL_VERSION,
            node: 1,
            software: String::new(),
            lanes,
        })
    };
    assert!(hello(9, 9).to_frame().is_ok());
    for (acknowledged, released) in [(SEQUENCE_LIMIT, 0), (u64::MAX, u64::MAX), (9, 10)] {
        let rejected = hello(acknowledged, released).to_frame();
        assert!(
            matches!(rejected, Err(WireError::Sequences { .. })),
            "{rejected:?}"
        );
    }
}

#[test]
fn consecutive_messages_are_read_from_a_stream() {
    let messages = [
        AggregatorMessage::Ack(Ack {
            lane: 1,
            journal: 2,
            taken: 3,
        }),
        AggregatorMessage::Refuse(Refuse {
            code: RefuseCode::Gap.number(),
            message: "reconnect".into(),
        }),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let mut bytes = Vec::new();
        for message in &messages {
            write_message(&mut bytes, message).await.expect("written");
        }
        let mut stream = &bytes[..];
        for message in &messages {
            let read =
                read_message::<AggregatorMessage>(&mut stream, MAX_CONTROL_MESSAGE_BYTES).await;
            assert_eq!(read.expect("valid").as_ref(), Some(message));
        }
    });
}

#[test]
fn refuse_codes_keep_their_numbers() {
    for code in RefuseCode::ALL {
        assert_eq!(RefuseCode::from_number(code.number()), Some(*code));
    }
    assert_eq!(RefuseCode::from_number(0), None);
    assert_eq!(RefuseCode::Gap.number(), 6);
}
