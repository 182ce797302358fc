//! Memory-mapped files: the only unsafe code.

use crate::Map;
use memmap2::{MmapMut, MmapOptions};
use std::fs::File;
use std::io;
use std::ops::DerefMut;

/// The first bytes of a file of the real disk.
#[derive(Debug)]
pub struct Mapped(MmapMut);

impl Mapped {
    /// Maps the first `len` bytes of `file` and asks for their pages ahead of time.
    #[allow(unsafe_code)]
    pub(crate) fn new(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: a mapped file must not be changed behind the map's back. Those who map keep to what
        // `Storage::map` says: they alone write to these bytes, in a folder that they hold the lock of,
        // and read them through `read_at` only. Blocks are allocated beforehand, so that a full disk
        // can't turn a store into SIGBUS.
        unsafe { MmapOptions::new().len(len).populate().map_mut(file) }.map(Self)
    }
}

impl Map for Mapped {
    fn bytes(&mut self) -> impl DerefMut<Target = [u8]> {
        &mut self.0[..]
    }
}
