//! Percent-encodes bytes of a request target that the HTTP parser refuses although the request line is
//! unambiguous, as the client should have done.
//!
//! Spaces and control characters stay refused: they end a target or a line, and another server on the path may
//! parse the request differently (RFC 9112, section 3).

use bytes::{BufMut as _, BytesMut};
use std::ops::Range;

/// The part of a request that was read last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    #[default]
    Method,
    Target,
    After,
}

/// The target of the next request on a connection without bodies.
#[derive(Debug, Default)]
pub(super) struct RequestTarget {
    part: Part,
}

impl RequestTarget {
    /// The next bytes begin a request.
    pub(super) const fn begin(&mut self) {
        self.part = Part::Method;
    }

    /// The next `bytes` with the target percent-encoded; nothing when it needs no change. Of several requests in
    /// `bytes` only the first is escaped: no client sends more at once.
    pub(super) fn escape(&mut self, bytes: &[u8]) -> Option<BytesMut> {
        let target = self.find(bytes);
        if !bytes[target.clone()].iter().copied().any(needs_escape) {
            return None;
        }
        let mut escaped = BytesMut::with_capacity(bytes.len() + 2 * target.len());
        escaped.extend_from_slice(&bytes[..target.start]);
        for byte in &bytes[target.clone()] {
            if needs_escape(*byte) {
                escaped.extend_from_slice(percent_encoding::percent_encode_byte(*byte).as_bytes());
            } else {
                escaped.put_u8(*byte);
            }
        }
        escaped.extend_from_slice(&bytes[target.end..]);
        Some(escaped)
    }

    /// Where in `bytes` the target is.
    fn find(&mut self, bytes: &[u8]) -> Range<usize> {
        let mut start = 0;
        if self.part == Part::Method {
            let Some(space) = bytes.iter().position(|byte| *byte == b' ') else {
                return 0..0;
            };
            start = space + 1;
            self.part = Part::Target;
        }
        if self.part == Part::After {
            return 0..0;
        }
        let ends = |byte: &u8| matches!(byte, b' ' | b'\n');
        match bytes[start..].iter().position(ends) {
            Some(length) => {
                self.part = Part::After;
                start..start + length
            }
            None => start..bytes.len(),
        }
    }
}

/// Whether the parser refuses the byte, always or in some part of a target.
const fn needs_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests after escaping, read in these pieces.
    fn escaped(pieces: &[&[u8]]) -> String {
        let mut target = RequestTarget::default();
        let mut out = Vec::new();
        for piece in pieces {
            let escaped = target.escape(piece);
            out.extend_from_slice(escaped.as_deref().unwrap_or(piece));
            if out.ends_with(b"\n\r\n") {
                target.begin();
            }
        }
        out.escape_ascii().to_string()
    }

    #[test]
    fn only_targets_are_escaped_wherever_split() {
        const REQUEST: &[u8] =
            b"GET /c/a?x=\xe4\"<>`&y={|}^\\ HTTP/1.1\r\nX-\xe4: \"<\xe4>\"\r\n\r\n";
        const ESCAPED: &str = "GET /c/a?x=%E4%22%3C%3E%60&y={|}^\\\\ HTTP/1.1\\r\\n\
                              X-\\xe4: \\\"<\\xe4>\\\"\\r\\n\\r\\n";
        for at in 0..REQUEST.len() {
            let (start, end) = REQUEST.split_at(at);
            assert_eq!(escaped(&[start, end]), ESCAPED, "split at {at}");
        }
        assert_eq!(escaped(&[REQUEST, REQUEST]), [ESCAPED, ESCAPED].concat());
        let line_by_line = escaped(&[b"\r\n", b"GET", b" ", b"\xe4", b"\r\n", b"\xe4"]);
        assert_eq!(line_by_line, "\\r\\nGET %E4\\r\\n\\xe4");
    }
}
