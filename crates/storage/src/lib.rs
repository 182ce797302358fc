//! File-system abstraction for crash-safe code: files, directories, locks and a clock.
//!
//! It separates data that survives a process crash from data that survives a power loss. The trait,
//! the real disk and a failing model disk belong here; file contents never do.
//! Invariant: the only unsafe block is in `map.rs`.
#![deny(unsafe_code)]

mod disk;
mod files;
mod map;
#[cfg(any(test, feature = "model"))]
pub mod model;

pub use disk::Disk;
pub use files::{create_dir_all, read, replace};
pub use map::MappedFile;

use std::fmt::Debug;
use std::io;
use std::ops::DerefMut;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file-system operations that the journal and the block store need.
///
/// The guarantees are those of POSIX. Written bytes are visible to every process at once and survive
/// the writing process. Only synced bytes survive a power loss, and a file's name needs a sync of its
/// directory ([`Storage::sync_dir`]) in addition to the sync of its content.
pub trait Storage: Clone + Debug + Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// A file mapped into memory.
    type Map: Map;
    /// A file lock: released on drop and when the process ends.
    type Lock: Debug + Send + Sync + 'static;
    /// Whether operations may block the calling thread; then no event loop should run them itself.
    const IS_BLOCKING: bool;

    /// Creates one directory; [`create_dir_all`] creates its parents, too.
    ///
    /// # Errors
    /// When the system call fails; for an existing directory [`io::ErrorKind::AlreadyExists`].
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The paths in `dir`, sorted.
    ///
    /// # Errors
    /// When the directory does not exist or can't be read.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether a file or directory has this name.
    ///
    /// # Errors
    /// When the system can't look the name up.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// When the file does not exist, or the system call fails.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Creates an empty file for reading and writing; an existing file is truncated.
    ///
    /// # Errors
    /// When the system call fails.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Creates an empty file for reading and writing, unless the name is in use.
    ///
    /// # Errors
    /// When the name is in use, or the system call fails.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;

    /// Maps the first `len` bytes of `file` for writing; the file is at least that long.
    ///
    /// The caller guarantees that while the map lives no other code writes to these bytes and the file
    /// is not truncated.
    ///
    /// # Errors
    /// When the system call fails.
    fn map(&self, file: &Self::File, len: usize) -> io::Result<Self::Map>;

    /// Renames a file within its directory, replacing a file of the new name.
    ///
    /// # Errors
    /// When the file does not exist, or the system call fails.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When the file does not exist, or the system call fails.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` survive a power loss.
    ///
    /// # Errors
    /// When the disk fails.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks the file `path`, creating it when absent; `None` while another process holds the lock.
    ///
    /// # Errors
    /// When the system call fails.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Self::Lock>>;

    /// Monotonic time since an arbitrary moment.
    fn now(&self) -> Duration;

    /// A random number, unique in practice.
    ///
    /// # Errors
    /// When the system has no randomness.
    fn random(&self) -> io::Result<u64>;
}

/// An open file.
#[expect(clippy::len_without_is_empty, reason = "no caller needs is_empty")]
pub trait File: Debug + Send + Sync + 'static {
    /// The length in bytes.
    ///
    /// # Errors
    /// When the system call fails.
    fn len(&self) -> io::Result<u64>;

    /// Truncates the file to `len` bytes, or extends it with zeros.
    ///
    /// # Errors
    /// When the system call fails.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Extends the file to at least `len` bytes and allocates disk space for each of them.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when the disk has too little space, and other system errors.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Fills `bytes` from byte `at` on.
    ///
    /// # Errors
    /// When the file is too short, or the disk fails.
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;

    /// Writes `bytes` from byte `at` on.
    ///
    /// # Errors
    /// When the disk is full or fails; some of the bytes may be written then.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes content and length survive a power loss.
    ///
    /// # Errors
    /// When the disk fails. The content on disk is unknown then, and another sync does not write the
    /// bytes that this one should have written.
    fn sync(&self) -> io::Result<()>;
}

/// A file mapped into memory.
pub trait Map: Send + 'static {
    /// The mapped bytes; a store to them is in the file at once.
    fn bytes(&mut self) -> impl DerefMut<Target = [u8]>;
}
