//! Bytes of a request target that the parser of HTTP refuses although the line is clear: they are
//! percent-encoded while they are read, as the client should have done.
//!
//! Spaces and control characters stay refused: they end a target or a line, and another server on the way
//! may have read the request otherwise (RFC 9112, section 3).

use bytes::{BufMut as _, BytesMut};
use std::ops::Range;

/// How far the bytes that were read reach.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Method,
    Target,
    Behind,
}

/// The target of the next request on a connection without bodies.
#[derive(Debug, Default)]
pub(super) struct RequestTarget {
    place: Place,
}

impl RequestTarget {
    /// The bytes read so far end with a whole head: the next ones begin a request.
    pub(super) const fn begin(&mut self) {
        self.place = Place::Method;
    }

    /// The next `bytes` with those of a target percent-encoded; nothing where they can stay. Of several
    /// requests in them only the first is looked at: no client sends more at once.
    pub(super) fn mend(&mut self, bytes: &[u8]) -> Option<BytesMut> {
        let target = self.find(bytes);
        if !bytes[target.clone()].iter().copied().any(is_unfit) {
            return None;
        }
        let mut mended = BytesMut::with_capacity(bytes.len() + 2 * target.len());
        mended.extend_from_slice(&bytes[..target.start]);
        for byte in &bytes[target.clone()] {
            if is_unfit(*byte) {
                mended.extend_from_slice(percent_encoding::percent_encode_byte(*byte).as_bytes());
            } else {
                mended.put_u8(*byte);
            }
        }
        mended.extend_from_slice(&bytes[target.end..]);
        Some(mended)
    }

    /// Where in `bytes` the target is.
    fn find(&mut self, bytes: &[u8]) -> Range<usize> {
        let mut start = 0;
        if self.place == Place::Method {
            let Some(space) = bytes.iter().position(|byte| *byte == b' ') else {
                return 0..0;
            };
            start = space + 1;
            self.place = Place::Target;
        }
        if self.place == Place::Behind {
            return 0..0;
        }
        let ends = |byte: &u8| matches!(byte, b' ' | b'\n');
        match bytes[start..].iter().position(ends) {
            Some(length) => {
                self.place = Place::Behind;
                start..start + length
            }
            None => start..bytes.len(),
        }
    }
}

/// Whether the parser refuses the byte, or does so in one part of a target or in some company.
const fn is_unfit(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of requests that come in these pieces.
    fn mended(pieces: &[&[u8]]) -> String {
        let mut target = RequestTarget::default();
        let mut out = Vec::new();
        for piece in pieces {
            let mended = target.mend(piece);
            out.extend_from_slice(mended.as_deref().unwrap_or(piece));
            if out.ends_with(b"\n\r\n") {
                target.begin();
            }
        }
        out.escape_ascii().to_string()
    }

    #[test]
    fn only_targets_are_encoded_however_they_are_split() {
        const REQUEST: &[u8] =
            b"GET /c/a?x=\xe4\"<>`&y={|}^\\ HTTP/1.1\r\nX-\xe4: \"<\xe4>\"\r\n\r\n";
        const MENDED: &str = "GET /c/a?x=%E4%22%3C%3E%60&y={|}^\\\\ HTTP/1.1\\r\\n\
                              X-\\xe4: \\\"<\\xe4>\\\"\\r\\n\\r\\n";
        for at in 0..REQUEST.len() {
            let (start, end) = REQUEST.split_at(at);
            assert_eq!(mended(&[start, end]), MENDED, "split at {at}");
        }
        assert_eq!(mended(&[REQUEST, REQUEST]), [MENDED, MENDED].concat());
        let line_by_line = mended(&[b"\r\n", b"GET", b" ", b"\xe4", b"\r\n", b"\xe4"]);
        assert_eq!(line_by_line, "\\r\\nGET %E4\\r\\n\\xe4");
    }
}
