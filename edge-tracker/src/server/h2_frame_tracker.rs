//! Tracks whether a stream of HTTP/2 frames is between requests or in the middle of a request's head. Frames are
//! validated elsewhere.

/// The connection preface (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// The position in a client's frames.
#[derive(Debug)]
pub(super) struct H2FrameTracker {
    header: [u8; FRAME_HEADER_BYTES],
    /// Received bytes of the frame's header.
    header_len: usize,
    /// Remaining bytes of the frame's payload, or of the preface at first.
    remaining: usize,
    /// Whether the payload is part of a request's head.
    of_head: bool,
    /// Whether another frame of the same head must follow.
    continues: bool,
}

impl H2FrameTracker {
    /// Starts at the preface.
    pub(super) const fn new() -> Self {
        Self {
            header: [0; FRAME_HEADER_BYTES],
            header_len: 0,
            remaining: PREFACE.len(),
            of_head: false,
            continues: false,
        }
    }

    /// Moves the position behind `bytes`.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, after) = bytes.split_at(bytes.len().min(self.wanted()));
            bytes = after;
            if self.remaining > 0 {
                self.remaining -= part.len();
            } else {
                self.header[self.header_len..][..part.len()].copy_from_slice(part);
                self.header_len += part.len();
                if self.header_len == FRAME_HEADER_BYTES {
                    self.begin_frame();
                }
            }
        }
    }

    const fn wanted(&self) -> usize {
        if self.remaining > 0 {
            self.remaining
        } else {
            FRAME_HEADER_BYTES - self.header_len
        }
    }

    fn begin_frame(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.header_len = 0;
        self.remaining = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.of_head = matches!(kind, HEADERS | CONTINUATION);
        self.continues = self.of_head && flags & END_HEADERS == 0;
    }

    /// Whether no request's head is incomplete.
    pub(super) const fn is_between_heads(&self) -> bool {
        self.header_len == 0 && !self.continues && !(self.of_head && self.remaining > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [.., high, middle, low] = (payload as u32).to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(FRAME_HEADER_BYTES + payload, 0);
        frame
    }

    /// Positions in `bytes`, fed one by one, that are between requests.
    fn positions_between(bytes: &[u8]) -> Vec<usize> {
        let mut frames = H2FrameTracker::new();
        let mut positions = Vec::new();
        for (position, byte) in (1..).zip(bytes) {
            frames.advance(std::slice::from_ref(byte));
            if frames.is_between_heads() {
                positions.push(position);
            }
        }
        positions
    }

    #[test]
    fn head_ends_with_last_byte_of_last_frame() {
        let preface = PREFACE.to_vec();
        let all = |frames: &[Vec<u8>]| [preface.clone(), frames.concat()].concat();
        let start = preface.len();
        let head = all(&[frame(HEADERS, END_HEADERS, 5)]);
        assert_eq!(positions_between(&head)[start..], [head.len()]);
        let two = all(&[frame(HEADERS, 0, 5), frame(CONTINUATION, END_HEADERS, 3)]);
        assert_eq!(positions_between(&two)[start..], [two.len()]);
        // A ping belongs to no request, complete or not.
        let ping = all(&[frame(6, 0, 8)]);
        assert_eq!(positions_between(&ping).len(), start + 9);
        let mut frames = H2FrameTracker::new();
        frames.advance(&two);
        assert!(frames.is_between_heads());
    }
}
