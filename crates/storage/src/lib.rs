//! Files as those need them who promise that nothing is lost: what survives a crash of the process,
//! what survives a power cut, and a clock.
//!
//! The trait, the real disk and the model of one belong here. What is in a file never does. The one
//! unsafe block is in `map.rs`.
#![deny(unsafe_code)]

mod disk;
mod files;
mod map;
#[cfg(any(test, feature = "model"))]
pub mod model;

pub use disk::Disk;
pub use files::{create_dir, read, replace};
pub use map::Mapped;

use std::fmt::Debug;
use std::io;
use std::ops::DerefMut;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the journal and the block store ask of a file system.
///
/// As POSIX has it: what was written is seen by everybody at once and survives the process; only what
/// was synced survives a power cut, names (with [`Storage::sync_dir`]) apart from content.
pub trait Storage: Clone + Debug + Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// A file mapped into memory.
    type Map: Map;
    /// Held for as long as it lives, and let go when the process ends.
    type Lock: Debug + Send + Sync + 'static;
    /// Whether operations may keep a thread waiting, so that no event loop should do them itself.
    const WAITS: bool;

    /// Makes one folder; [`create_dir`] makes all that lie above it too.
    ///
    /// # Errors
    /// When the system refuses; an existing folder is [`io::ErrorKind::AlreadyExists`].
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// The paths in `dir`, sorted.
    ///
    /// # Errors
    /// When there is no such folder or it can't be read.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether something has this name.
    ///
    /// # Errors
    /// When that can't be told.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// When there is none, or the system refuses.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Makes an empty file for reading and writing in the place of what has this name.
    ///
    /// # Errors
    /// When the system refuses.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Makes an empty file for reading and writing.
    ///
    /// # Errors
    /// When something has this name already, or the system refuses.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;

    /// Maps the first `len` bytes of `file` for writing; the file is at least that long.
    ///
    /// The caller keeps to this: nobody else writes to these bytes, and the file is not made shorter,
    /// while the map lives.
    ///
    /// # Errors
    /// When the system refuses.
    fn map(&self, file: &Self::File, len: usize) -> io::Result<Self::Map>;

    /// Gives a file another name in the same folder, in the place of what had it.
    ///
    /// # Errors
    /// When there is none, or the system refuses.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When there is none, or the system refuses.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` survive a power cut.
    ///
    /// # Errors
    /// When the disk fails.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the lock of that name, making the file; `None` while another has it.
    ///
    /// # Errors
    /// When the system refuses.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Self::Lock>>;

    /// Time passed since some moment, never going back.
    fn now(&self) -> Duration;

    /// A number that nobody else has.
    ///
    /// # Errors
    /// When the system has no randomness.
    fn random(&self) -> io::Result<u64>;
}

/// An open file.
#[expect(clippy::len_without_is_empty, reason = "nobody asks")]
pub trait File: Debug + Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// When the system refuses.
    fn len(&self) -> io::Result<u64>;

    /// Makes it this long, cutting it or adding zeros.
    ///
    /// # Errors
    /// When the system refuses.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes it at least this long, with room on disk for every byte.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] and whatever else the system says.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Fills `bytes` from byte `at` on.
    ///
    /// # Errors
    /// When the file ends before, or the disk fails.
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;

    /// Puts `bytes` at byte `at`.
    ///
    /// # Errors
    /// When there is no room, or the disk fails; a part may be written then.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes content and length survive a power cut.
    ///
    /// # Errors
    /// When the disk fails. What is on disk is unknown then, and syncing again does not write what
    /// was to be written before.
    fn sync(&self) -> io::Result<()>;
}

/// A file mapped into memory.
pub trait Map: Send + 'static {
    /// Its bytes. What is put there is in the file at once.
    fn bytes(&mut self) -> impl DerefMut<Target = [u8]>;
}
