//! The text forms of a click id: blocks in base 62, and base64 for ids of the old layout.
//!
//! Invariant: fixed lengths and alphabets in ASCII order, so that texts sort as the bytes do.

use super::ID_BYTES;
use data_encoding::Encoding;
use std::sync::LazyLock;

/// The length of a click id as text.
pub const CLICK_ID_CHARS: usize = 38;
/// The length of a click id of the old layout as text.
pub const OLD_CLICK_ID_CHARS: usize = 36;

/// The number of bytes and characters of each block: 62 to the power of the characters exceeds every
/// value of the bytes.
const BLOCKS: [(usize, usize); 4] = [(8, 11), (8, 11), (8, 11), (3, 5)];
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The first digit is at most 21; adding this offset makes it a letter.
const FIRST_DIGIT_OFFSET: u8 = 10;

/// The encoding of the old layout: base64 with the alphabet in ASCII order.
static OLD_ALPHABET: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = data_encoding::Specification::new();
    spec.symbols
        .push_str("-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz");
    spec.encoding()
        .expect("64 distinct ASCII symbols are an encoding")
});

/// A click id as text, without allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClickIdText {
    chars: [u8; CLICK_ID_CHARS],
    len: usize,
}

impl ClickIdText {
    pub(super) fn new(id: &[u8; ID_BYTES]) -> Self {
        let mut chars = [0; CLICK_ID_CHARS];
        let (mut bytes, mut remaining) = (&id[..], &mut chars[..]);
        for (from, to) in BLOCKS {
            let (block, rest) = bytes.split_at(from);
            let (digits, free) = remaining.split_at_mut(to);
            write_block(block, digits);
            (bytes, remaining) = (rest, free);
        }
        chars[0] = DIGITS[usize::from(digit(chars[0]).unwrap_or_default() + FIRST_DIGIT_OFFSET)];
        Self {
            chars,
            len: CLICK_ID_CHARS,
        }
    }

    pub(super) fn old(id: &[u8; ID_BYTES]) -> Self {
        let mut chars = [0; CLICK_ID_CHARS];
        OLD_ALPHABET.encode_mut(id, &mut chars[..OLD_CLICK_ID_CHARS]);
        Self {
            chars,
            len: OLD_CLICK_ID_CHARS,
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("both alphabets are ASCII")
    }

    /// The text as ASCII bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.chars[..self.len]
    }
}

impl AsRef<[u8]> for ClickIdText {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Parses the text form of [`ClickIdText::new`].
pub(super) fn read(text: &[u8]) -> Option<[u8; ID_BYTES]> {
    let mut id = [0; ID_BYTES];
    let (mut remaining, mut at) = (&mut id[..], 0);
    for (to, from) in BLOCKS {
        let (block, free) = remaining.split_at_mut(to);
        let offset = if at == 0 { FIRST_DIGIT_OFFSET } else { 0 };
        read_block(text.get(at..at + from)?, offset, block)?;
        (remaining, at) = (free, at + from);
    }
    Some(id)
}

/// Parses the text form of [`ClickIdText::old`].
pub(super) fn read_old(text: &[u8]) -> Option<[u8; ID_BYTES]> {
    let mut id = [0; ID_BYTES];
    OLD_ALPHABET.decode_mut(text, &mut id).ok()?;
    Some(id)
}

fn write_block(bytes: &[u8], digits: &mut [u8]) {
    let mut value = bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(value % 62) as usize];
        value /= 62;
    }
}

/// Reads a block whose first digit was increased by `offset`. A value that exceeds the bytes is
/// rejected, so that no two texts are the same id.
fn read_block(digits: &[u8], offset: u8, bytes: &mut [u8]) -> Option<()> {
    let (first, rest) = digits.split_first()?;
    let mut value = u64::from(digit(*first)?.checked_sub(offset)?);
    for byte in rest {
        value = value
            .checked_mul(62)?
            .checked_add(u64::from(digit(*byte)?))?;
    }
    let value = value.to_be_bytes();
    let (above, kept) = value.split_at(value.len() - bytes.len());
    bytes.copy_from_slice(kept);
    above.iter().all(|byte| *byte == 0).then_some(())
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'Z' => Some(byte - b'A' + 10),
        b'a'..=b'z' => Some(byte - b'a' + 36),
        _ => None,
    }
}
