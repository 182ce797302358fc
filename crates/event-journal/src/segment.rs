//! One file of a lane: a header page, then frames.
//!
//! The header holds an upper limit of the sequences in the segment. It is on disk before the first
//! frame, so that no sequence is assigned twice even when a power loss destroys frames.

use crate::frame;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use storage::{File, Storage};

/// The offset of the first frame: one page.
pub(crate) const FRAMES_OFFSET: u32 = 4_096;
const MAGIC: &[u8; 8] = b"FZSEGMT1";
/// The extension of a segment under creation, which holds no frames yet.
pub(crate) const UNFINISHED_EXTENSION: &str = "new";
const HEADER_BYTES: usize = 40;
/// The offset of a byte that is not 0 after a failed sync of the segment. It lies in another sector
/// than the header.
const SYNC_FAILED_OFFSET: usize = 512;

/// The first fields of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) journal: u64,
    /// The segment's number in its lane, from 1.
    pub(crate) number: u64,
    /// Every sequence in the segment is below this.
    pub(crate) limit: u64,
    pub(crate) format_version: u16,
    pub(crate) lane: u8,
}

/// A segment, shared by reader, writer and sync thread.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    pub(crate) file: F,
    /// The file's length in bytes.
    pub(crate) length: u32,
    /// The offset of the next frame; every frame before it is committed.
    end: AtomicU32,
    /// The last sequence committed; 0 for none.
    last: AtomicU64,
    /// The first sequence, in a segment of an earlier process; 0 in others.
    pub(crate) recovered_first: u64,
    /// Whether the writer has finished the segment.
    pub(crate) closed: AtomicBool,
    /// The offset up to which the segment was synced.
    pub(crate) synced: AtomicU32,
    /// Damaged byte ranges that readers skip, in order.
    pub(crate) damage: Vec<(u32, u32)>,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
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
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
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
        // A lane has fewer segments than sequences.
        let possible = header.number.max(header.limit) <= frame::SEQ_LIMIT;
        possible.then_some(header)
    }
}

/// The path of segment `number` in `dir`.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.seg"))
}

/// The maximum number of frames in a segment of `length` bytes.
pub(crate) const fn max_frames(length: u32) -> u64 {
    length.saturating_sub(FRAMES_OFFSET) as u64 / frame::MIN_FRAME_BYTES as u64
}

impl<F: File> Segment<F> {
    /// Creates an empty segment with allocated disk space and a durable name and header.
    pub(crate) fn create<S: Storage<File = F>>(
        storage: &S,
        dir: &Path,
        header: SegmentHeader,
        length: u32,
    ) -> io::Result<(Self, S::Map)> {
        let path = path(dir, header.number);
        // A file with the final name always has a header.
        let unfinished = path.with_extension(UNFINISHED_EXTENSION);
        let file = storage.create(&unfinished)?;
        let created = file
            .allocate(u64::from(length))
            .and_then(|()| file.write_all_at(&header.encode(), 0))
            .and_then(|()| file.sync())
            .and_then(|()| storage.rename(&unfinished, &path))
            .and_then(|()| storage.sync_dir(dir))
            .and_then(|()| storage.map(&file, length as usize));
        match created {
            Ok(map) => {
                let segment = Self::new(path, header, file, length, FRAMES_OFFSET, 0, Vec::new());
                Ok((segment, map))
            }
            Err(error) => {
                // The segment never held an event, so removing the file loses nothing.
                let _ = storage.remove(&unfinished);
                let _ = storage.remove(&path);
                Err(error)
            }
        }
    }

    /// A closed segment of an earlier process, as recovery found it.
    pub(crate) fn recovered(
        path: PathBuf,
        header: SegmentHeader,
        file: F,
        length: u32,
        (end, first, last): (u32, u64, u64),
        damage: Vec<(u32, u32)>,
    ) -> Self {
        let mut segment = Self::new(path, header, file, length, end, last, damage);
        segment.recovered_first = first;
        segment.closed.store(true, Ordering::Release);
        segment
    }

    fn new(
        path: PathBuf,
        header: SegmentHeader,
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
            recovered_first: 0,
            closed: AtomicBool::new(false),
            synced: AtomicU32::new(FRAMES_OFFSET),
            damage,
        }
    }

    /// Makes frames before the offset `end`, up to sequence `last`, visible to readers.
    pub(crate) fn commit(&self, end: u32, last: u64) {
        self.last.store(last, Ordering::Relaxed);
        self.end.store(end, Ordering::Release);
    }

    pub(crate) fn end(&self) -> u32 {
        self.end.load(Ordering::Acquire)
    }

    /// The last committed sequence, at least as recent as the last result of [`Segment::end`]; 0 for none.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Syncs committed frames; false when every one was synced already.
    pub(crate) fn sync(&self) -> io::Result<bool> {
        let end = self.end();
        if end == self.synced.load(Ordering::Acquire) {
            return Ok(false);
        }
        self.file.sync().inspect_err(|_| self.mark_sync_failed())?;
        self.synced.store(end, Ordering::Release);
        Ok(true)
    }

    /// Records in the file that the disk may lack bytes that the page cache shows, for this process and
    /// later ones: a later sync would succeed without writing them. The mark lives as long as the page
    /// cache's content.
    fn mark_sync_failed(&self) {
        if let Err(error) = self.file.write_all_at(&[1], SYNC_FAILED_OFFSET as u64) {
            tracing::error!(file = %self.path.display(), %error, "failed to mark segment after a failed sync");
        }
    }

    /// Rewrites and syncs frames that an earlier process failed to sync.
    pub(crate) fn rewrite_and_sync(&self, bytes: &[u8]) -> io::Result<()> {
        self.file
            .write_all_at(&bytes[FRAMES_OFFSET as usize..], u64::from(FRAMES_OFFSET))?;
        self.file.sync()?;
        self.synced.store(self.end(), Ordering::Release);
        self.file.write_all_at(&[0], SYNC_FAILED_OFFSET as u64)
    }

    /// The end of the damaged range that starts at offset `at`.
    pub(crate) fn skip_damage(&self, at: u32) -> Option<u32> {
        self.damage
            .iter()
            .find(|(from, _)| *from == at)
            .map(|(_, to)| *to)
    }

    /// The end of the undamaged range that contains offset `at`.
    pub(crate) fn undamaged_end(&self, at: u32) -> u32 {
        let next = self
            .damage
            .iter()
            .map(|(from, _)| *from)
            .find(|from| *from > at);
        next.unwrap_or(u32::MAX).min(self.end())
    }
}

/// Whether a sync of the segment with these bytes failed and its frames were not rewritten since.
pub(crate) fn has_failed_sync(bytes: &[u8]) -> bool {
    bytes.get(SYNC_FAILED_OFFSET).is_some_and(|mark| *mark != 0)
}
