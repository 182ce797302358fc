//! The promises of the click id: unforgeable, time-ordered, URL-safe, 36 characters.
#![allow(missing_docs)]

use proptest::prelude::*;
use tracking_events::{
    CLICK_ID_CHARS, ClickId, ClickIdError, ClickIdParts, KeyId, KeyRing, LaneId, LinkId, MacKey,
    Micros, NodeId, Seq,
};

fn ring(active: u8, keys: &[(u8, u8)]) -> KeyRing {
    let keys = keys
        .iter()
        .map(|(id, fill)| (KeyId::new(*id).expect("below 32"), MacKey::new([*fill; 32])));
    KeyRing::new(KeyId::new(active).expect("below 32"), keys).expect("the active key is there")
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
    fn an_id_says_what_was_signed(parts in parts()) {
        let ring = ring(3, &[(3, 7)]);
        let text = ring.sign(parts).to_chars();
        prop_assert_eq!(text.len(), CLICK_ID_CHARS);
        prop_assert!(text.iter().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(c)));
        let id = ClickId::parse(&text).expect("our own text");
        prop_assert_eq!(ring.verify(&id), Ok(parts));
    }

    #[test]
    fn every_altered_character_is_detected(parts in parts(), at in 0..CLICK_ID_CHARS, to in any::<u8>()) {
        let ring = ring(3, &[(3, 7)]);
        let mut text = ring.sign(parts).to_chars();
        prop_assume!(text[at] != to);
        text[at] = to;
        let verified = ClickId::parse(&text).and_then(|id| ring.verify(&id));
        prop_assert!(verified.is_err());
    }

    #[test]
    fn ids_sort_by_time(a in parts(), b in parts()) {
        let ring = ring(0, &[(0, 1)]);
        let order = ring.sign(a).to_chars().cmp(&ring.sign(b).to_chars());
        if a.time != b.time {
            prop_assert_eq!(order, a.time.cmp(&b.time));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(id) = ClickId::parse(&text) {
            prop_assert!(ring(0, &[(0, 1)]).verify(&id).is_err());
        }
    }
}

#[test]
fn keys_rotate() {
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
