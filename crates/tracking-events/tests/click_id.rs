//! The guarantees of the click id: unforgeable, time-ordered, letters and digits, at most 40 characters.
#![allow(missing_docs)]

use domain::{LaneId, LinkId, Micros, NodeId, Seq};
use proptest::prelude::*;
use tracking_events::{
    CLICK_ID_CHARS, ClickId, ClickIdError, ClickIdParts, KeyId, KeyRing, MacKey, OLD_CLICK_ID_CHARS,
};

fn ring(active: u8, keys: &[(u8, u8)]) -> KeyRing {
    let keys = keys
        .iter()
        .map(|(id, fill)| (KeyId::new(*id).expect("below 32"), MacKey::new([*fill; 32])));
    KeyRing::new(KeyId::new(active).expect("below 32"), keys)
        .expect("the active key is among the keys")
}

fn parts() -> impl Strategy<Value = ClickIdParts> {
    (
        0..1_u64 << 48,
        any::<u16>(),
        any::<u8>(),
        0..1_u64 << 40,
        any::<u32>(),
    )
        .prop_map(|(millis, node, lane, seq, link)| ClickIdParts {
            time: Micros(millis * 1_000),
            node: NodeId(node),
            lane: LaneId(lane),
            seq: Seq(seq),
            link: LinkId(link),
        })
}

proptest! {
    #[test]
    fn verified_id_returns_the_signed_fields(parts in parts()) {
        let ring = ring(3, &[(3, 7)]);
        let signed = ring.sign(parts);
        let text = signed.to_string();
        prop_assert_eq!(text.len(), CLICK_ID_CHARS);
        prop_assert!(text.len() <= 40);
        prop_assert!(text.starts_with(|first: char| first.is_ascii_alphabetic()), "{}", text);
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{}", text);
        prop_assert!(signed.to_text().as_str() == text);
        let id = ClickId::parse(text.as_bytes()).expect("a signed id's text");
        prop_assert_eq!(id, signed);
        prop_assert_eq!(ring.verify(&id), Ok(parts));
    }

    #[test]
    fn every_altered_character_is_detected(parts in parts(), at in 0..CLICK_ID_CHARS, to in any::<u8>()) {
        let ring = ring(3, &[(3, 7)]);
        let mut text = ring.sign(parts).to_text().as_bytes().to_vec();
        prop_assume!(text[at] != to);
        text[at] = to;
        let verified = ClickId::parse(&text).and_then(|id| ring.verify(&id));
        prop_assert!(verified.is_err());
    }

    #[test]
    fn ids_sort_by_time(a in parts(), b in parts()) {
        let ring = ring(0, &[(0, 1)]);
        let order = ring.sign(a).to_string().cmp(&ring.sign(b).to_string());
        if a.time != b.time {
            prop_assert_eq!(order, a.time.cmp(&b.time));
        }
    }

    #[test]
    fn each_text_has_one_id(text in "[A-V][0-9A-Za-z]{37}|[-0-9A-Z_a-z]{36}") {
        if let Ok(id) = ClickId::parse(text.as_bytes()) {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(id) = ClickId::parse(&text) {
            prop_assert!(ring(0, &[(0, 1)]).verify(&id).is_err());
        }
    }
}

#[test]
fn old_keys_verify_after_rotation() {
    let parts = ClickIdParts {
        time: Micros(1_800_000_000_000_000),
        node: NodeId(1),
        lane: LaneId(0),
        seq: Seq(1),
        link: LinkId(1),
    };
    let old = ring(1, &[(1, 1)]).sign(parts);
    assert_eq!(ring(2, &[(1, 1), (2, 2)]).verify(&old), Ok(parts));
    assert_eq!(
        ring(2, &[(2, 2)]).verify(&old),
        Err(ClickIdError::UnknownKey(1))
    );
    assert_eq!(ring(1, &[(1, 9)]).verify(&old), Err(ClickIdError::Forged));
}

/// Key, byte of its secret, milliseconds, node, lane, sequence, link, text.
type OldId = (u8, u8, u64, u16, u8, u64, u32, &'static str);

/// Ids of earlier builds.
const OLD_IDS: [OldId; 4] = [
    (
        3,
        7,
        1_795_000_000_123,
        7,
        3,
        123_456,
        42,
        "-P6iK_tv--R2---0sZ-----e-uqFk4RoWeQj",
    ),
    (
        1,
        1,
        1_764_500_000_000,
        1,
        0,
        1,
        1,
        "-OfJOJo---3-------3----0-M9zpJeEtSgG",
    ),
    (3, 7, 0, 0, 0, 0, 0, "-------------------------pGntR6O-dgE"),
    (
        3,
        7,
        (1 << 48) - 1,
        u16::MAX,
        u8::MAX,
        (1 << 40) - 1,
        u32::MAX,
        "zzzzzzzzzzzzzzzzzzzzzzzz-tWQRP1MIxMV",
    ),
];

#[test]
fn old_ids_verify_and_keep_their_text() {
    for (key, fill, millis, node, lane, seq, link, text) in OLD_IDS {
        let parts = ClickIdParts {
            time: Micros(millis * 1_000),
            node: NodeId(node),
            lane: LaneId(lane),
            seq: Seq(seq),
            link: LinkId(link),
        };
        assert_eq!(text.len(), OLD_CLICK_ID_CHARS);
        let id = ClickId::parse(text.as_bytes()).expect("id of an earlier build");
        let ring_now = ring(9, &[(9, 9), (key, fill)]);
        assert_eq!(ring_now.verify(&id), Ok(parts), "{text}");
        assert_eq!(id.to_string(), text);
        let unknown = ring(9, &[(9, 9)]).verify(&id);
        assert_eq!(unknown, Err(ClickIdError::UnknownKey(key)));
        let altered = text.replace('-', "0");
        let altered = ClickId::parse(altered.as_bytes()).and_then(|id| ring_now.verify(&id));
        assert!(altered.is_err(), "{text}");
    }
    let old = OLD_IDS[0].7.to_owned();
    let now = ring(0, &[(0, 1)]).sign(ClickIdParts {
        time: Micros(1_795_000_001_000_000),
        node: NodeId(0),
        lane: LaneId(0),
        seq: Seq(0),
        link: LinkId(0),
    });
    assert!(old < now.to_string(), "old ids sort before the new form");
}
