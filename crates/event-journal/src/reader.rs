//! The read side of a lane: the shipper reads committed frames in order and releases them.

use crate::checkpoint::{BatchBoundary, Checkpoint, MAX_BOUNDARIES};
use crate::error::ReadError;
use crate::frame;
use crate::ids::LaneStart;
use crate::lane::Lane;
use crate::segment::{FRAMES_OFFSET, Segment};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use storage::{Disk, File as _, Storage};

/// The maximum number of bytes per read from a segment; more than the longest frame.
const CHUNK_BYTES: u32 = 256 << 10;

/// The maximum event length, chosen so that every frame fits into a chunk.
pub(crate) const MAX_PAYLOAD_BYTES: usize = CHUNK_BYTES as usize / 2;

/// Consecutive frames of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRun {
    /// The last sequence before `first`, or 0; no event lies between the two.
    pub after: u64,
    /// The first sequence.
    pub first: u64,
    /// The last sequence.
    pub last: u64,
    /// The number of events.
    pub events: u32,
    /// The events' format version.
    pub format_version: u16,
}

/// Reads one lane and releases its events, so that segments can be deleted.
pub struct LaneReader<S: Storage = Disk> {
    pub(crate) lane: Arc<Lane<S>>,
    checkpoint: Checkpoint,
    /// Whether the stored checkpoint is older than `checkpoint`.
    checkpoint_outdated: bool,
    /// The number of the segment being read (0 before the first) and the offset in it.
    segment_number: u64,
    at: u32,
    /// Events up to this sequence were read or skipped.
    after: u64,
    /// The last sequence of the deleted segments; 0 for none.
    pub(crate) deleted_through: u64,
    chunk: Vec<u8>,
}

impl<S: Storage> fmt::Debug for LaneReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneReader")
            .field("lane", &self.lane.number)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> LaneReader<S> {
    pub(crate) fn new(lane: Arc<Lane<S>>, checkpoint: Checkpoint) -> Self {
        let after = checkpoint.released;
        Self {
            lane,
            checkpoint,
            checkpoint_outdated: false,
            segment_number: 0,
            at: FRAMES_OFFSET,
            after,
            deleted_through: 0,
            chunk: Vec::new(),
        }
    }

    /// The lane's number.
    #[must_use]
    pub fn lane(&self) -> u8 {
        self.lane.number
    }

    /// Continues reading after this sequence.
    pub fn seek(&mut self, after: u64) {
        (self.segment_number, self.at, self.after) = (0, FRAMES_OFFSET, after);
    }

    /// Bytes of unread frames. After a seek, frames before the new position are counted until reading
    /// passes them.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let segments = self.lane.segments.lock();
        let unread = |segment: &Arc<Segment<S::File>>| {
            let from = if segment.header.number == self.segment_number {
                self.at
            } else {
                FRAMES_OFFSET
            };
            u64::from(segment.end().saturating_sub(from))
        };
        segments
            .iter()
            .filter(|s| s.header.number >= self.segment_number)
            .map(unread)
            .sum()
    }

    /// Appends committed frames of one format version to `frames` until it holds at least `max_bytes`;
    /// `None` when no unread frame is committed.
    ///
    /// # Errors
    /// When a segment can't be read or has changed.
    pub fn read(
        &mut self,
        max_bytes: usize,
        frames: &mut Vec<u8>,
    ) -> Result<Option<FrameRun>, ReadError> {
        self.read_up_to(u64::MAX, max_bytes, frames)
    }

    const fn position(&self) -> (u64, u32, u64) {
        (self.segment_number, self.at, self.after)
    }

    const fn restore(&mut self, position: (u64, u32, u64)) {
        (self.segment_number, self.at, self.after) = position;
    }

    fn read_through(
        &mut self,
        through: u64,
        max_bytes: usize,
        frames: &mut Vec<u8>,
    ) -> Result<Option<FrameRun>, ReadError> {
        let mut run = None;
        let full = frames.len() + max_bytes;
        while let Some((segment, closed)) = self.current_segment() {
            let version = segment.header.format_version;
            let format_differs = run.is_some_and(|run: FrameRun| run.format_version != version);
            // A segment without unread frames is skipped.
            if segment.end() <= self.at || (closed && segment.last() <= self.after) {
                if !closed {
                    break;
                }
                (self.segment_number, self.at) = (segment.header.number + 1, FRAMES_OFFSET);
                continue;
            }
            if format_differs || frames.len() >= full || self.after >= through {
                break;
            }
            if !self.read_chunk(&segment, through, full, &mut run, frames)? {
                break;
            }
        }
        Ok(run)
    }

    /// Appends frames of the undamaged range at the current offset; false at a frame beyond `through`.
    fn read_chunk(
        &mut self,
        segment: &Segment<S::File>,
        through: u64,
        full: usize,
        run: &mut Option<FrameRun>,
        frames: &mut Vec<u8>,
    ) -> Result<bool, ReadError> {
        if let Some(past) = segment.skip_damage(self.at) {
            self.at = past;
            return Ok(true);
        }
        let end = segment
            .undamaged_end(self.at)
            .min(self.at.saturating_add(CHUNK_BYTES));
        self.chunk.resize((end - self.at) as usize, 0);
        let io = |cause| ReadError::Io {
            path: segment.path.clone(),
            cause,
        };
        segment
            .file
            .read_exact_at(&mut self.chunk, u64::from(self.at))
            .map_err(io)?;
        let mut from = 0;
        while frames.len() < full && self.after != through {
            let Ok(frame) = frame::parse(&self.chunk, from) else {
                break;
            };
            let space = frame::frame_bytes(frame.payload.len());
            if frame.seq > through {
                return Ok(false);
            }
            if frame.seq > self.after {
                frames.extend_from_slice(&self.chunk[from..from + space]);
                let version = segment.header.format_version;
                let run = run.get_or_insert(FrameRun {
                    after: self.after,
                    first: frame.seq,
                    last: frame.seq,
                    events: 0,
                    format_version: version,
                });
                run.last = frame.seq;
                run.events += 1;
                self.after = frame.seq;
            }
            from += space;
        }
        if from == 0 {
            let offset = u64::from(self.at);
            return Err(ReadError::Changed {
                path: segment.path.clone(),
                offset,
            });
        }
        self.at += u32::try_from(from).expect("at most a chunk");
        Ok(true)
    }

    /// The segment to read from, and whether it was closed before the caller reads its end.
    fn current_segment(&mut self) -> Option<(Arc<Segment<S::File>>, bool)> {
        let segments = self.lane.segments.lock();
        let segment = segments
            .iter()
            .find(|segment| segment.header.number >= self.segment_number)?;
        let closed = segment.closed.load(Ordering::Acquire);
        if segment.header.number != self.segment_number {
            (self.segment_number, self.at) = (segment.header.number, FRAMES_OFFSET);
        }
        Some((segment.clone(), closed))
    }

    /// As [`LaneReader::read`], but stops after the sequence `through`.
    ///
    /// # Errors
    /// As [`LaneReader::read`].
    pub fn read_up_to(
        &mut self,
        through: u64,
        max_bytes: usize,
        frames: &mut Vec<u8>,
    ) -> Result<Option<FrameRun>, ReadError> {
        let (before, len) = (self.position(), frames.len());
        let read = self.read_through(through, max_bytes, frames);
        if read.is_err() {
            // Frames read before the failure are read again, so that none is skipped.
            self.restore(before);
            frames.truncate(len);
        }
        read
    }

    /// Appends exactly the frames of the batch and continues after them. On failure nothing is appended
    /// and the position does not change.
    ///
    /// # Errors
    /// When the journal no longer holds exactly these events, or can't be read.
    pub fn read_exact(
        &mut self,
        boundary: &BatchBoundary,
        frames: &mut Vec<u8>,
    ) -> Result<FrameRun, ReadError> {
        let (before, len) = (self.position(), frames.len());
        self.seek(boundary.after);
        let read = self.read_through(boundary.last, usize::MAX - frames.len(), frames);
        let exact = |run: &FrameRun| {
            (run.after, run.first, run.last) == (boundary.after, boundary.first, boundary.last)
        };
        let gone = ReadError::Gone {
            first: boundary.first,
            last: boundary.last,
        };
        let run = read.and_then(|run| run.filter(exact).ok_or(gone));
        if run.is_err() {
            self.restore(before);
            frames.truncate(len);
        }
        run
    }

    /// The lane's state when this process opened it.
    #[must_use]
    pub fn start(&self) -> LaneStart {
        let first_own = self.lane.first_own_seq();
        let segments = self.lane.segments.lock();
        let lasts = segments.iter().map(|segment| segment.last());
        LaneStart {
            lane: self.lane.number,
            first_own,
            last_found: lasts.filter(|last| *last < first_own).max().unwrap_or(0),
            acknowledged: self.checkpoint.acknowledged,
        }
    }

    /// The last committed sequence, of this process or an earlier one.
    #[must_use]
    pub fn last_committed(&self) -> u64 {
        self.lane.committed.load(Ordering::Acquire)
    }

    /// The last sequence acknowledged by an aggregator; never below the released sequence.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.checkpoint.acknowledged
    }

    /// Records durably against a crash that an aggregator has every event up to `through`: an
    /// aggregator that lost its data must not get these events again.
    pub fn acknowledge(&mut self, through: u64) {
        // A peer may send sequences that were never assigned.
        let through = through.min(self.lane.highest_assigned_seq());
        let acknowledged = self.checkpoint.acknowledged.max(through);
        if acknowledged != self.checkpoint.acknowledged {
            self.checkpoint.acknowledged = acknowledged;
            self.store_checkpoint();
        }
    }

    /// The last released sequence.
    #[must_use]
    pub const fn released(&self) -> u64 {
        self.checkpoint.released
    }

    /// Releases every event up to `through` and deletes segments without later events.
    ///
    /// The checkpoint is written before a segment is deleted, and when the reader is dropped. After a
    /// crash before that, reading continues a little earlier, with events that still exist.
    pub fn release(&mut self, through: u64) {
        // A peer may send sequences that were never assigned.
        let through = through.min(self.lane.highest_assigned_seq());
        let released = self.checkpoint.released.max(through);
        self.checkpoint_outdated |= released != self.checkpoint.released;
        self.checkpoint.released = released;
        self.checkpoint.acknowledged = self.checkpoint.acknowledged.max(through);
        // The newest segment is kept because its header limits the assigned sequences. The checkpoint
        // holds them too, but a power loss may destroy it.
        let Some(newest) = self.lane.segments.lock().last().map(|it| it.header.number) else {
            return;
        };
        let deletable = |segment: &Arc<Segment<S::File>>| {
            segment.closed.load(Ordering::Acquire)
                && segment.last() <= through
                && segment.header.number < newest
        };
        if !self.lane.segments.lock().iter().any(deletable) {
            return;
        }
        self.store_checkpoint();
        let deleted_through = &mut self.deleted_through;
        self.lane.segments.lock().retain(|segment| {
            let deletable = deletable(segment);
            if deletable {
                *deleted_through = segment.last();
                delete_segment(&self.lane, segment);
            }
            !deletable
        });
    }

    /// The boundaries of sealed batches that are not released, of this process and earlier ones, in
    /// order.
    #[must_use]
    pub fn batch_boundaries(&self) -> &[BatchBoundary] {
        &self.checkpoint.boundaries
    }

    /// Stores the boundaries of a sealed batch, so that it can be sealed identically after a restart.
    ///
    /// Later boundaries that overlap it are dropped. A checkpoint holds some thousands of boundaries;
    /// beyond that a batch may get other boundaries after a restart.
    pub fn record_boundary(&mut self, boundary: BatchBoundary) {
        let boundaries = &mut self.checkpoint.boundaries;
        if boundaries
            .binary_search_by_key(&boundary.first, |it| it.first)
            .is_ok_and(|at| boundaries[at] == boundary)
        {
            return;
        }
        boundaries.retain(|it| it.last <= boundary.after);
        if boundaries.len() == MAX_BOUNDARIES {
            return;
        }
        boundaries.push(boundary);
        self.store_checkpoint();
    }

    /// Writes the checkpoint. A failure only costs repeated work after a restart.
    fn store_checkpoint(&mut self) {
        let released = self.checkpoint.released;
        self.checkpoint
            .boundaries
            .retain(|boundary| boundary.last > released);
        self.checkpoint_outdated = false;
        if let Err(error) = self.checkpoint.store(&self.lane.storage, &self.lane.dir) {
            tracing::warn!(lane = self.lane.number, %error, "failed to write journal checkpoint");
        }
    }
}

impl<S: Storage> Drop for LaneReader<S> {
    fn drop(&mut self) {
        if self.checkpoint_outdated {
            self.store_checkpoint();
        }
    }
}

pub(crate) fn delete_segment<S: Storage>(lane: &Lane<S>, segment: &Segment<S::File>) {
    if let Err(error) = lane.storage.remove(&segment.path) {
        tracing::warn!(file = %segment.path.display(), %error, "failed to delete journal segment");
        return;
    }
    lane.unreserve(u64::from(segment.length));
}
