//! Reads bytes as numbers and pieces, so that a target can build a parser's input. Past the end everything is zero
//! or empty.

/// The remaining bytes of an input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// The next `len` bytes, or fewer at the end.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A piece: its length in one byte, then its bytes.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let len = self.u8();
        self.take(len.into())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Encodes a piece for [`Input::piece`]; it has at most 255 bytes.
pub(crate) fn piece(bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).expect("pieces of seeds are short");
    [&[len], bytes].concat()
}
