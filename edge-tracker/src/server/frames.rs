//! Where in a stream of HTTP/2 frames a client is: between requests, or in the middle of a head.
//! Frames are checked and understood elsewhere.

/// What every HTTP/2 connection without TLS starts with (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// What has been seen of a client's frames.
#[derive(Debug)]
pub(super) struct Frames {
    header: [u8; HEADER],
    /// How much of a frame's header is there.
    known: usize,
    /// How much of a frame's payload is still to come; of the preface at first.
    rest: usize,
    /// Whether the payload is part of a request's head.
    of_head: bool,
    /// Whether another frame of the same head must follow.
    more: bool,
}

impl Frames {
    /// At the beginning of the preface.
    pub(super) const fn new() -> Self {
        Self {
            header: [0; HEADER],
            known: 0,
            rest: PREFACE.len(),
            of_head: false,
            more: false,
        }
    }

    /// Goes on by what was read.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, after) = bytes.split_at(bytes.len().min(self.wanted()));
            bytes = after;
            if self.rest > 0 {
                self.rest -= part.len();
            } else {
                self.header[self.known..][..part.len()].copy_from_slice(part);
                self.known += part.len();
                if self.known == HEADER {
                    self.begin();
                }
            }
        }
    }

    const fn wanted(&self) -> usize {
        if self.rest > 0 {
            self.rest
        } else {
            HEADER - self.known
        }
    }

    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.known = 0;
        self.rest = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.of_head = matches!(kind, HEADERS | CONTINUATION);
        self.more = self.of_head && flags & END_HEADERS == 0;
    }

    /// Whether no request's head has begun without having come whole.
    pub(super) const fn between(&self) -> bool {
        self.known == 0 && !self.more && !(self.of_head && self.rest > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [.., high, middle, low] = (payload as u32).to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER + payload, 0);
        frame
    }

    /// How many of `bytes`, passed one by one, leave the client between requests.
    fn between(bytes: &[u8]) -> Vec<usize> {
        let mut frames = Frames::new();
        let mut places = Vec::new();
        for (place, byte) in (1..).zip(bytes) {
            frames.pass(std::slice::from_ref(byte));
            if frames.between() {
                places.push(place);
            }
        }
        places
    }

    #[test]
    fn a_head_is_whole_with_the_last_byte_of_its_last_frame() {
        let preface = PREFACE.to_vec();
        let all = |frames: &[Vec<u8>]| [preface.clone(), frames.concat()].concat();
        let start = preface.len();
        let head = all(&[frame(HEADERS, END_HEADERS, 5)]);
        assert_eq!(between(&head)[start..], [head.len()]);
        let two = all(&[frame(HEADERS, 0, 5), frame(CONTINUATION, END_HEADERS, 3)]);
        assert_eq!(between(&two)[start..], [two.len()]);
        // A ping is nobody's request, whole or not.
        let ping = all(&[frame(6, 0, 8)]);
        assert_eq!(between(&ping).len(), start + 9);
        let mut frames = Frames::new();
        frames.pass(&two);
        assert!(frames.between());
    }
}
