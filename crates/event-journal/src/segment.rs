//! One file of a lane: a header page, then frames.
//!
//! The header says below which sequence everything in the segment lies. It is on disk before the
//! first frame, so that after a power cut that lost frames no sequence is ever given out twice.

use crate::frame;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use storage::{File, Storage};

/// Where frames begin: one page in.
pub(crate) const START: u32 = 4_096;
const MAGIC: &[u8; 8] = b"FZSEGMT1";
/// The extension of a segment that nothing can be in yet.
pub(crate) const UNFINISHED: &str = "new";
const HEADER: usize = 40;
/// Not 0 once a sync of the segment failed; in a sector apart from the header's.
const GIVEN_UP: usize = 512;

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) journal: u64,
    /// The segment's number in its lane, from 1.
    pub(crate) number: u64,
    /// Every sequence in the segment is below this.
    pub(crate) limit: u64,
    pub(crate) format_version: u16,
    pub(crate) lane: u8,
}

/// A segment as reader, writer and keeper share it.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) file: F,
    /// The file's length in bytes.
    pub(crate) length: u32,
    /// Where the next frame will begin: everything before is committed.
    end: AtomicU32,
    /// The last sequence committed; 0 for none.
    last: AtomicU64,
    /// Whether the writer will never add to it again.
    pub(crate) closed: AtomicBool,
    /// Up to where it was synced.
    pub(crate) synced: AtomicU32,
    /// Damaged ranges to be skipped, in order.
    pub(crate) damage: Vec<(u32, u32)>,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.journal.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.limit.to_le_bytes());
        bytes[32..34].copy_from_slice(&self.format_version.to_le_bytes());
        bytes[34] = self.lane;
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        let crc = u32::from_le_bytes([bytes[36], bytes[37], bytes[38], bytes[39]]);
        if &bytes[..8] != MAGIC || crc != crc32c::crc32c(&bytes[..36]) {
            return None;
        }
        let header = Self {
            journal: number(8),
            number: number(16),
            limit: number(24),
            format_version: u16::from_le_bytes([bytes[32], bytes[33]]),
            lane: bytes[34],
        };
        // There are fewer segments than sequences.
        let possible = header.number.max(header.limit) <= frame::SEQ_LIMIT;
        possible.then_some(header)
    }
}

/// The path of segment `number` in `dir`.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.seg"))
}

/// The most frames that a segment of `length` bytes can hold.
pub(crate) const fn most_frames(length: u32) -> u64 {
    length.saturating_sub(START) as u64 / frame::SHORTEST as u64
}

impl<F: File> Segment<F> {
    /// Makes an empty segment with all its blocks allocated and its header on disk.
    /// Name and header survive a power cut then.
    pub(crate) fn create<S: Storage<File = F>>(
        storage: &S,
        dir: &Path,
        header: Header,
        length: u32,
    ) -> io::Result<(Self, S::Map)> {
        let path = path(dir, header.number);
        // Under its own name there is never a segment without a header.
        let unfinished = path.with_extension(UNFINISHED);
        let file = storage.create(&unfinished)?;
        let made = file
            .allocate(u64::from(length))
            .and_then(|()| file.write_all_at(&header.encode(), 0))
            .and_then(|()| file.sync())
            .and_then(|()| storage.rename(&unfinished, &path))
            .and_then(|()| storage.sync_dir(dir))
            .and_then(|()| storage.map(&file, length as usize));
        match made {
            Ok(map) => {
                let segment = Self::new(path, header, file, length, START, 0, Vec::new());
                Ok((segment, map))
            }
            Err(error) => {
                // What is left of a segment that never held anything is no loss.
                let _ = storage.remove(&unfinished);
                let _ = storage.remove(&path);
                Err(error)
            }
        }
    }

    /// Takes over a segment of an earlier process, as recovery found it.
    pub(crate) fn recovered(
        path: PathBuf,
        header: Header,
        file: F,
        length: u32,
        (end, last): (u32, u64),
        damage: Vec<(u32, u32)>,
    ) -> Self {
        let segment = Self::new(path, header, file, length, end, last, damage);
        segment.closed.store(true, Ordering::Release);
        segment
    }

    fn new(
        path: PathBuf,
        header: Header,
        file: F,
        length: u32,
        end: u32,
        last: u64,
        damage: Vec<(u32, u32)>,
    ) -> Self {
        Self {
            path,
            header,
            file,
            length,
            end: AtomicU32::new(end),
            last: AtomicU64::new(last),
            closed: AtomicBool::new(false),
            synced: AtomicU32::new(START),
            damage,
        }
    }

    /// Makes everything before `end`, up to sequence `last`, visible to readers.
    pub(crate) fn commit(&self, end: u32, last: u64) {
        self.last.store(last, Ordering::Relaxed);
        self.end.store(end, Ordering::Release);
    }

    pub(crate) fn end(&self) -> u32 {
        self.end.load(Ordering::Acquire)
    }

    /// The last sequence committed before the last call of [`Segment::end`]; 0 for none.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Whether everything committed is on disk; syncs if it is not.
    pub(crate) fn sync(&self) -> io::Result<bool> {
        let end = self.end();
        if end == self.synced.load(Ordering::Acquire) {
            return Ok(false);
        }
        self.file.sync().inspect_err(|_| self.give_up())?;
        self.synced.store(end, Ordering::Release);
        Ok(true)
    }

    /// Notes that the disk may hold less than the kernel shows, for this process and those after it:
    /// a later sync would say that all is well. The note is as lasting as what the kernel shows.
    fn give_up(&self) {
        if let Err(error) = self.file.write_all_at(&[1], GIVEN_UP as u64) {
            tracing::error!(file = %self.path.display(), %error, "a failed sync can't be noted");
        }
    }

    /// Writes anew what an earlier process could not sync.
    pub(crate) fn write_anew(&self, bytes: &[u8]) -> io::Result<()> {
        self.file
            .write_all_at(&bytes[START as usize..], u64::from(START))?;
        self.file.sync()?;
        self.synced.store(self.end(), Ordering::Release);
        self.file.write_all_at(&[0], GIVEN_UP as u64)
    }

    /// Where reading goes on when byte `at` begins a damaged range.
    pub(crate) fn past_damage(&self, at: u32) -> Option<u32> {
        self.damage
            .iter()
            .find(|(from, _)| *from == at)
            .map(|(_, to)| *to)
    }

    /// Where the undamaged run that holds byte `at` ends.
    pub(crate) fn run_end(&self, at: u32) -> u32 {
        let next = self
            .damage
            .iter()
            .map(|(from, _)| *from)
            .find(|from| *from > at);
        next.unwrap_or(u32::MAX).min(self.end())
    }
}

/// Whether a sync of the segment with these bytes failed, and nobody has mended that yet.
pub(crate) fn was_given_up(bytes: &[u8]) -> bool {
    bytes.get(GIVEN_UP).is_some_and(|mark| *mark != 0)
}
