//! Memory-mapped files of the real disk: the only unsafe code.

use crate::Map;
use memmap2::{MmapMut, MmapOptions};
use std::fs::File;
use std::io;
use std::ops::DerefMut;

/// The first bytes of a file on the real disk, mapped for writing.
#[derive(Debug)]
pub struct MappedFile(MmapMut);

impl MappedFile {
    /// Maps the first `len` bytes of `file` and populates their pages ahead of time.
    #[allow(unsafe_code)]
    pub(crate) fn new(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: a mapped file must not be changed except through the map. Callers keep the contract of
        // `Storage::map`: only they write to these bytes, in a directory whose lock they hold, and they
        // read them through `read_exact_at` only. Disk space is allocated beforehand, so a full disk
        // can't turn a store into SIGBUS.
        unsafe { MmapOptions::new().len(len).populate().map_mut(file) }.map(Self)
    }
}

impl Map for MappedFile {
    fn bytes(&mut self) -> impl DerefMut<Target = [u8]> {
        &mut self.0[..]
    }
}
