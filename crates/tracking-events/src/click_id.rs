//! The click id: time, node, lane, sequence and link with a keyed MAC, as a text of letters and digits.
//!
//! | bytes | field |
//! |---|---|
//! | 0..6 | milliseconds since 1970 |
//! | 6..8 | node |
//! | 8 | lane |
//! | 9..14 | sequence in the lane (its low 40 bits) |
//! | 14..18 | link |
//! | 18 | layout version (3 bits) and key id (5 bits) |
//! | 19..27 | SipHash-2-4 of bytes 0..19 under the key |
//!
//! The layout version decides the text form, so that each id has exactly one permanent text.
//! Invariant: texts sort by time, and every altered character is detected.

mod text;

pub use text::{CLICK_ID_CHARS, ClickIdText, OLD_CLICK_ID_CHARS};

use domain::{LaneId, LinkId, Micros, NodeId, Seq};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;
use std::fmt;
use thiserror::Error;

const ID_BYTES: usize = 27;
const SIGNED_BYTES: usize = 19;
/// The byte of the layout version and the key id.
const LAYOUT_OFFSET: usize = 18;
/// The layout of ids in the old text form; they are read but no longer created.
const OLD_LAYOUT: u8 = 0;
const LAYOUT: u8 = 1;
/// Separates these keys from other uses of the same secret.
const KEY_CONTEXT: &str = "FanzFiliate edge 2026-11 click id key v1";
const SEQ_MASK: u64 = (1 << 40) - 1;

/// The signed id of a click or impression. An id from outside may be forged until [`KeyRing::verify`]
/// has accepted it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClickId([u8; ID_BYTES]);

/// The fields of a click id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClickIdParts {
    /// The time of the click with a resolution of one millisecond.
    pub time: Micros,
    /// The edge node.
    pub node: NodeId,
    /// The lane of the event.
    pub lane: LaneId,
    /// The sequence of the event; only the low 40 bits are stored.
    pub seq: Seq,
    /// The link.
    pub link: LinkId,
}

/// The number of a signing key, 0 to 31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u8);

/// A key that signs click ids with SipHash-2-4 (Aumasson and Bernstein, 2012), a 64-bit MAC designed for
/// short messages. It has no text form, so that it can't reach a log.
#[derive(Clone)]
pub struct MacKey(SipHasher24);

/// The keys of a fleet: one key signs and all verify, so that keys can be rotated.
#[derive(Clone)]
pub struct KeyRing {
    active: KeyId,
    signing: MacKey,
    keys: [Option<MacKey>; 32],
}

/// A key id above 31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("key id {0} is out of range: 0 to 31")]
pub struct InvalidKeyId(pub u8);

/// The active key is not among the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the active key {0} is not among the keys")]
pub struct MissingKey(pub u8);

/// Why a text is not a valid click id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ClickIdError {
    /// Neither of the two text forms.
    #[error(
        "a click id has {CLICK_ID_CHARS} letters and digits and starts with a letter, or has {OLD_CLICK_ID_CHARS} characters of A-Z, a-z, 0-9, '-' and '_'"
    )]
    Malformed,
    /// A layout that this build does not know.
    #[error("click id layout {0} is unknown")]
    UnknownLayout(u8),
    /// A signing key that this node does not have.
    #[error("click id key {0} is unknown")]
    UnknownKey(u8),
    /// The signature does not match.
    #[error("the click id is forged or altered")]
    Forged,
}

impl KeyId {
    /// # Errors
    /// When `id` is above 31.
    pub const fn new(id: u8) -> Result<Self, InvalidKeyId> {
        if id < 32 {
            Ok(Self(id))
        } else {
            Err(InvalidKeyId(id))
        }
    }
}

impl MacKey {
    /// Derives the key from a secret.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::derive_key(KEY_CONTEXT, &secret)[..16]);
        Self(SipHasher24::new_with_key(&key))
    }

    fn mac(&self, id: &[u8; ID_BYTES]) -> [u8; ID_BYTES - SIGNED_BYTES] {
        self.0.hash(&id[..SIGNED_BYTES]).to_le_bytes()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(…)")
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

impl KeyRing {
    /// A ring that signs with `active` and verifies with all `keys`.
    ///
    /// # Errors
    /// When `active` is not among `keys`.
    pub fn new(
        active: KeyId,
        keys: impl IntoIterator<Item = (KeyId, MacKey)>,
    ) -> Result<Self, MissingKey> {
        let mut ring: [Option<MacKey>; 32] = [const { None }; 32];
        for (id, key) in keys {
            ring[usize::from(id.0)] = Some(key);
        }
        let signing = ring[usize::from(active.0)]
            .clone()
            .ok_or(MissingKey(active.0))?;
        Ok(Self {
            active,
            signing,
            keys: ring,
        })
    }

    /// Creates the id of a click.
    #[must_use]
    pub fn sign(&self, parts: ClickIdParts) -> ClickId {
        let mut id = [0; ID_BYTES];
        id[0..6].copy_from_slice(&parts.time.millis().to_be_bytes()[2..]);
        id[6..8].copy_from_slice(&parts.node.0.to_be_bytes());
        id[8] = parts.lane.0;
        id[9..14].copy_from_slice(&(parts.seq.0 & SEQ_MASK).to_be_bytes()[3..]);
        id[14..18].copy_from_slice(&parts.link.0.to_be_bytes());
        id[LAYOUT_OFFSET] = LAYOUT << 5 | self.active.0;
        let mac = self.signing.mac(&id);
        id[SIGNED_BYTES..].copy_from_slice(&mac);
        ClickId(id)
    }

    /// Verifies the signature in constant time and returns the fields.
    ///
    /// # Errors
    /// When the layout or key is unknown, or the signature does not match.
    pub fn verify(&self, id: &ClickId) -> Result<ClickIdParts, ClickIdError> {
        let (layout, key) = (id.layout(), id.0[LAYOUT_OFFSET] & 31);
        if layout > LAYOUT {
            return Err(ClickIdError::UnknownLayout(layout));
        }
        let secret = self.keys[usize::from(key)]
            .as_ref()
            .ok_or(ClickIdError::UnknownKey(key))?;
        let differing = secret
            .mac(&id.0)
            .iter()
            .zip(&id.0[SIGNED_BYTES..])
            .fold(0, |seen, (a, b)| seen | (a ^ b));
        if std::hint::black_box(differing) != 0 {
            return Err(ClickIdError::Forged);
        }
        Ok(id.parts())
    }
}

impl ClickId {
    /// The bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }

    /// Parses either text form without verifying the signature.
    ///
    /// # Errors
    /// When `text` is not the text of an id.
    pub fn parse(text: &[u8]) -> Result<Self, ClickIdError> {
        let id = match text.len() {
            CLICK_ID_CHARS => text::read(text).map(Self).filter(|id| !id.is_old()),
            OLD_CLICK_ID_CHARS => text::read_old(text).map(Self).filter(Self::is_old),
            _ => None,
        };
        id.ok_or(ClickIdError::Malformed)
    }

    /// The text form: ASCII letters and digits, with `-` and `_` in ids of the old layout.
    #[must_use]
    pub fn to_text(&self) -> ClickIdText {
        if self.is_old() {
            ClickIdText::old(&self.0)
        } else {
            ClickIdText::new(&self.0)
        }
    }

    const fn layout(&self) -> u8 {
        self.0[LAYOUT_OFFSET] >> 5
    }

    const fn is_old(&self) -> bool {
        self.layout() == OLD_LAYOUT
    }

    /// The fields of the id; they can be forged unless [`KeyRing::verify`] has accepted the id.
    #[must_use]
    pub fn parts(&self) -> ClickIdParts {
        let number = |range: std::ops::Range<usize>| {
            self.0[range]
                .iter()
                .fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        ClickIdParts {
            time: Micros(number(0..6) * 1_000),
            node: NodeId(u16::from_be_bytes([self.0[6], self.0[7]])),
            lane: LaneId(self.0[8]),
            seq: Seq(number(9..14)),
            link: LinkId(u32::from_be_bytes([
                self.0[14], self.0[15], self.0[16], self.0[17],
            ])),
        }
    }
}

impl fmt::Display for ClickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_text().as_str())
    }
}

impl fmt::Debug for ClickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClickId({self})")
    }
}
