//! Memory-mapped files: the only unsafe code.

use memmap2::{MmapMut, MmapOptions};
use std::fs::File;
use std::io;

/// Maps the first `len` bytes of `file` for writing and asks for its pages ahead of time.
///
/// The caller keeps to this: the file is longer than `len`, lies in a spool that this process holds
/// the lock of, and is neither truncated nor mapped a second time while the map lives.
#[allow(unsafe_code)]
pub(crate) fn writable(file: &File, len: usize) -> io::Result<MmapMut> {
    // SAFETY: a mapped file must not be changed behind the map's back. Segments are created with
    // `create_new` inside a folder whose lock we hold, are never truncated, and are read through
    // `read_at` only, so the map is the one writer of its pages. Blocks are allocated beforehand,
    // so that a full disk can't turn a store into SIGBUS.
    unsafe { MmapOptions::new().len(len).populate().map_mut(file) }
}
