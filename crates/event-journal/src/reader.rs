//! The shipper's end of a lane: committed frames in order, and what may be deleted.

use crate::checkpoint::{Checkpoint, MAX_SEALS, Seal};
use crate::error::ReadError;
use crate::frame;
use crate::ids::LaneStart;
use crate::lane::{Lane, lock};
use crate::segment::{START, Segment};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use storage::{Disk, File as _, Storage};

/// How much is read from a segment at once; more than the longest frame.
const CHUNK: u32 = 256 << 10;

/// No event is longer, so that every frame fits into a chunk.
pub(crate) const MAX_PAYLOAD: usize = CHUNK as usize / 2;

/// Whole frames that follow each other in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The last sequence before `first`, or 0: nothing lies between the two.
    pub after: u64,
    /// The first sequence.
    pub first: u64,
    /// The last sequence.
    pub last: u64,
    /// How many events.
    pub events: u32,
    /// The version of the events' form.
    pub format_version: u16,
}

/// Reads one lane and lets it delete what is no longer needed.
pub struct LaneReader<S: Storage = Disk> {
    lane: Arc<Lane<S>>,
    checkpoint: Checkpoint,
    /// Whether the checkpoint was released further than it was written.
    ahead: bool,
    /// The segment being read (0 before the first) and where.
    number: u64,
    at: u32,
    /// Everything up to here was read or is to be left out.
    after: u64,
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
            ahead: false,
            number: 0,
            at: START,
            after,
            chunk: Vec::new(),
        }
    }

    /// The lane's number.
    #[must_use]
    pub fn lane(&self) -> u8 {
        self.lane.number
    }

    /// Reading goes on after this sequence.
    pub fn seek(&mut self, after: u64) {
        (self.number, self.at, self.after) = (0, START, after);
    }

    /// Bytes of frames that were not read yet; those before a sequence sought are among them until
    /// they are passed.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let segments = lock(&self.lane.segments);
        let unread = |segment: &Arc<Segment<S::File>>| {
            let from = if segment.header.number == self.number {
                self.at
            } else {
                START
            };
            u64::from(segment.end().saturating_sub(from))
        };
        segments
            .iter()
            .filter(|s| s.header.number >= self.number)
            .map(unread)
            .sum()
    }

    /// Appends frames to `frames` until that holds at least `max_bytes` or nothing more is
    /// committed; `None` when nothing was. All are of one format version.
    ///
    /// # Errors
    /// When a segment can't be read or has changed.
    pub fn read(
        &mut self,
        max_bytes: usize,
        frames: &mut Vec<u8>,
    ) -> Result<Option<Run>, ReadError> {
        self.read_up_to(u64::MAX, max_bytes, frames)
    }

    const fn position(&self) -> (u64, u32, u64) {
        (self.number, self.at, self.after)
    }

    const fn restore(&mut self, position: (u64, u32, u64)) {
        (self.number, self.at, self.after) = position;
    }

    fn read_through(
        &mut self,
        through: u64,
        max_bytes: usize,
        frames: &mut Vec<u8>,
    ) -> Result<Option<Run>, ReadError> {
        let mut run = None;
        let full = frames.len() + max_bytes;
        while let Some((segment, closed)) = self.segment() {
            let version = segment.header.format_version;
            let format_differs = run.is_some_and(|run: Run| run.format_version != version);
            // A segment without anything new is passed over without reading it.
            if segment.end() <= self.at || (closed && segment.last() <= self.after) {
                if !closed {
                    break;
                }
                (self.number, self.at) = (segment.header.number + 1, START);
                continue;
            }
            if format_differs || frames.len() >= full || self.after >= through {
                break;
            }
            if !self.take(&segment, through, full, &mut run, frames)? {
                break;
            }
        }
        Ok(run)
    }

    /// Appends frames of the undamaged run at the current position; false when one beyond
    /// `through` was met.
    fn take(
        &mut self,
        segment: &Segment<S::File>,
        through: u64,
        full: usize,
        run: &mut Option<Run>,
        frames: &mut Vec<u8>,
    ) -> Result<bool, ReadError> {
        if let Some(past) = segment.past_damage(self.at) {
            self.at = past;
            return Ok(true);
        }
        let end = segment.run_end(self.at).min(self.at.saturating_add(CHUNK));
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
        while from < self.chunk.len() && frames.len() < full && self.after < through {
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
                let run = run.get_or_insert(Run {
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
        if from == 0 && self.after < through && frames.len() < full {
            let offset = u64::from(self.at);
            return Err(ReadError::Changed {
                path: segment.path.clone(),
                offset,
            });
        }
        self.at += u32::try_from(from).expect("at most a chunk");
        Ok(true)
    }

    /// The segment to read from, and whether it was closed before its end is looked at.
    fn segment(&mut self) -> Option<(Arc<Segment<S::File>>, bool)> {
        let segments = lock(&self.lane.segments);
        let segment = segments
            .iter()
            .find(|segment| segment.header.number >= self.number)?;
        let closed = segment.closed.load(Ordering::Acquire);
        if segment.header.number != self.number {
            (self.number, self.at) = (segment.header.number, START);
        }
        Some((segment.clone(), closed))
    }

    /// As [`LaneReader::read`], but leaves everything above `through`.
    ///
    /// # Errors
    /// As [`LaneReader::read`].
    pub fn read_up_to(
        &mut self,
        through: u64,
        max_bytes: usize,
        frames: &mut Vec<u8>,
    ) -> Result<Option<Run>, ReadError> {
        let (before, len) = (self.position(), frames.len());
        let read = self.read_through(through, max_bytes, frames);
        if read.is_err() {
            // What was read before the failure is read again: nothing may be passed over.
            self.restore(before);
            frames.truncate(len);
        }
        read
    }

    /// Appends exactly the frames of `seal` and goes on after them; on failure nothing is appended
    /// and reading goes on where it was.
    ///
    /// # Errors
    /// When the journal does not hold exactly these events any more, or can't be read.
    pub fn read_exact(&mut self, seal: &Seal, frames: &mut Vec<u8>) -> Result<Run, ReadError> {
        let (before, len) = (self.position(), frames.len());
        self.seek(seal.after);
        let read = self.read_through(seal.last, usize::MAX - frames.len(), frames);
        let exact =
            |run: &Run| (run.after, run.first, run.last) == (seal.after, seal.first, seal.last);
        let gone = ReadError::Gone {
            first: seal.first,
            last: seal.last,
        };
        let run = read.and_then(|run| run.filter(exact).ok_or(gone));
        if run.is_err() {
            self.restore(before);
            frames.truncate(len);
        }
        run
    }

    /// How this process found the lane.
    #[must_use]
    pub fn start(&self) -> LaneStart {
        let first_own = self.lane.first_own();
        let segments = lock(&self.lane.segments);
        let lasts = segments.iter().map(|segment| segment.last());
        LaneStart {
            lane: self.lane.number,
            first_own,
            last_found: lasts.filter(|last| *last < first_own).max().unwrap_or(0),
            acknowledged: self.checkpoint.acknowledged,
        }
    }

    /// The last sequence that was given out, by this process or before it.
    #[must_use]
    pub fn last_committed(&self) -> u64 {
        self.lane.committed.load(Ordering::Acquire)
    }

    /// Up to where an aggregator has acknowledged the lane; never below what was released.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.checkpoint.acknowledged
    }

    /// An aggregator has everything up to `through`. That is written down at once: after a crash an
    /// aggregator that lost its memory must not be sent these events again.
    pub fn acknowledge(&mut self, through: u64) {
        // A peer may speak of sequences that were never given out.
        let through = through.min(self.lane.given_out());
        if through > self.checkpoint.acknowledged {
            self.checkpoint.acknowledged = through;
            self.store();
        }
    }

    /// Up to where the lane was released.
    #[must_use]
    pub const fn released(&self) -> u64 {
        self.checkpoint.released
    }

    /// Everything up to `through` is no longer needed: segments that hold nothing else are deleted.
    ///
    /// The checkpoint is written before something is deleted, and when the reader is dropped; after a
    /// crash in between, reading goes on a little earlier, with events that are still there.
    pub fn release(&mut self, through: u64) {
        // A peer may speak of sequences that were never given out.
        let through = through.min(self.lane.given_out());
        self.ahead |= through > self.checkpoint.released;
        self.checkpoint.released = self.checkpoint.released.max(through);
        self.checkpoint.acknowledged = self.checkpoint.acknowledged.max(through);
        // The last one's header bounds the sequences given out. The checkpoint tells them too, but a
        // power cut may take it.
        let Some(newest) = lock(&self.lane.segments).last().map(|it| it.header.number) else {
            return;
        };
        let needless = |segment: &Arc<Segment<S::File>>| {
            segment.closed.load(Ordering::Acquire)
                && segment.last() <= through
                && segment.header.number < newest
        };
        if !lock(&self.lane.segments).iter().any(needless) {
            return;
        }
        self.store();
        lock(&self.lane.segments).retain(|segment| {
            let needless = needless(segment);
            if needless {
                delete(&self.lane, segment);
            }
            !needless
        });
    }

    /// The boundaries of batches sealed after what is released, in this process or before it, in
    /// their order.
    #[must_use]
    pub fn seals(&self) -> &[Seal] {
        &self.checkpoint.seals
    }

    /// Writes down that a batch with these boundaries is sealed, so that it can be sealed alike after
    /// a restart. What was to follow in its place is forgotten, and beyond some thousands of seals
    /// without a release no more are remembered: those batches are then sealed anew.
    pub fn remember_seal(&mut self, seal: Seal) {
        let seals = &mut self.checkpoint.seals;
        if seals
            .binary_search_by_key(&seal.first, |it| it.first)
            .is_ok_and(|at| seals[at] == seal)
        {
            return;
        }
        seals.retain(|it| it.last <= seal.after);
        if seals.len() == MAX_SEALS {
            return;
        }
        seals.push(seal);
        self.store();
    }

    /// A checkpoint that can't be written costs nothing but work after a restart.
    fn store(&mut self) {
        let released = self.checkpoint.released;
        self.checkpoint.seals.retain(|seal| seal.last > released);
        self.ahead = false;
        if let Err(error) = self.checkpoint.store(&self.lane.storage, &self.lane.dir) {
            tracing::warn!(lane = self.lane.number, %error, "a checkpoint can't be written");
        }
    }
}

impl<S: Storage> Drop for LaneReader<S> {
    fn drop(&mut self) {
        if self.ahead {
            self.store();
        }
    }
}

pub(crate) fn delete<S: Storage>(lane: &Lane<S>, segment: &Segment<S::File>) {
    if let Err(error) = lane.storage.remove(&segment.path) {
        tracing::warn!(file = %segment.path.display(), %error, "a segment can't be deleted");
        return;
    }
    lane.unreserve(u64::from(segment.length));
}
