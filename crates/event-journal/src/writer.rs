//! The worker's end of a lane: events are encoded straight into the mapped segment.

use crate::error::{AppendError, SyncFailed};
use crate::frame;
use crate::keeper::SyncRequest;
use crate::lane::{Lane, Prepared, lock};
use crate::reader::MAX_PAYLOAD;
use crate::segment::START;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use storage::{Disk, Map as _, Storage};

/// After a failed attempt to get another segment, no other is made for so long.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Appends to one lane; it belongs to one worker.
pub struct LaneWriter<S: Storage = Disk> {
    lane: Arc<Lane<S>>,
    /// None while there is no room for a segment.
    active: Option<Prepared<S>>,
    at: usize,
    next_seq: u64,
    /// When, as the storage's clock has it.
    refused: Option<(Duration, AppendError)>,
}

impl<S: Storage> fmt::Debug for LaneWriter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneWriter")
            .field("lane", &self.lane.number)
            .field("next_seq", &self.next_seq)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> LaneWriter<S> {
    pub(crate) const fn new(lane: Arc<Lane<S>>, next_seq: u64) -> Self {
        Self {
            lane,
            active: None,
            at: 0,
            next_seq,
            refused: None,
        }
    }

    /// The lane's number.
    #[must_use]
    pub fn lane(&self) -> u8 {
        self.lane.number
    }

    /// The sequence that the next event accepted will have.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Gives the lane a share of the journal: its segments take at most `max_bytes`, which is at least two
    /// segments, and no other lane takes that room. One lane of a journal can have one.
    pub fn set_quota(&mut self, max_bytes: u64) {
        let least = 2 * u64::from(self.lane.segment_bytes);
        self.lane.set_quota(max_bytes.max(least));
    }

    /// Bytes of segments that hold events which are not released; the unwritten rest of the last one is
    /// left out.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let segments = lock(&self.lane.segments);
        let closed = segments.iter().rev().skip(1);
        let closed = closed.map(|segment| u64::from(segment.length)).sum::<u64>();
        closed + self.at as u64
    }

    /// Appends the event that `fill` writes into at most `max_len` bytes, returning how many it
    /// used, or `None` to leave it. When this returns a sequence the event is accepted: the crash
    /// of this process can't lose it.
    ///
    /// # Errors
    /// When there is no room or `fill` gave up; nothing was appended then.
    pub fn append(
        &mut self,
        max_len: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<u64, AppendError> {
        let most = frame::frame_bytes(max_len);
        if max_len > MAX_PAYLOAD || most > self.lane.segment_bytes as usize - START as usize {
            return Err(AppendError::TooLong);
        }
        if self
            .active
            .as_ref()
            .is_none_or(|active| most > active.segment.length as usize - self.at)
        {
            self.roll()?;
        }
        let active = self.active.as_mut().ok_or(AppendError::Failed)?;
        let mut bytes = active.map.bytes();
        let room = &mut bytes[self.at..self.at + most];
        let payload = &mut room[frame::HEAD..frame::HEAD + max_len];
        let len = match fill(payload) {
            Some(len) if (1..=max_len).contains(&len) => len,
            _ => {
                payload.fill(0);
                return Err(AppendError::Abandoned);
            }
        };
        let seq = self.next_seq;
        frame::complete(room, seq, len);
        drop(bytes);
        self.at += frame::frame_bytes(len);
        self.next_seq += 1;
        let end = u32::try_from(self.at).expect("segments are shorter than 4 GiB");
        active.segment.commit(end, seq);
        self.lane.committed.store(seq, Ordering::Release);
        Ok(seq)
    }

    /// Calls `done` once everything up to `seq` is durable, or with an error when that can't come
    /// about any more; many callers share one sync.
    pub fn sync_through(
        &self,
        seq: u64,
        done: impl FnOnce(Result<(), SyncFailed>) + Send + 'static,
    ) {
        self.lane.wait_for(seq, Box::new(done));
        self.lane.keeper.wake();
    }

    /// As [`LaneWriter::sync_through`], but puts the sync off until a [`SyncRequest`] asks for it, or else to
    /// that of everything, after the journal's interval.
    pub fn when_durable(
        &self,
        seq: u64,
        done: impl FnOnce(Result<(), SyncFailed>) + Send + 'static,
    ) {
        self.lane.wait_for(seq, Box::new(done));
        self.lane.keeper.put_off();
    }

    /// Asks for syncs that were put off.
    #[must_use]
    pub fn sync_request(&self) -> SyncRequest {
        SyncRequest(self.lane.keeper.clone())
    }

    /// Takes a first segment, so that opening has room for one or has said that there is none.
    pub(crate) fn begin(&mut self) -> Result<(), AppendError> {
        self.roll()
    }

    /// Goes on in the next segment: usually the spare that the keeper has made ready.
    fn roll(&mut self) -> Result<(), AppendError> {
        if let Some((at, error)) = self.refused
            && self.lane.storage.now().saturating_sub(at) < RETRY_AFTER
        {
            return Err(error);
        }
        let mut spare = lock(&self.lane.spare);
        let next = spare.take().map_or_else(|| self.lane.prepare(), Ok);
        drop(spare);
        match next {
            Ok(next) => {
                self.refused = None;
                self.lane.begin(next.segment.clone());
                self.active = Some(next);
                self.at = START as usize;
                self.lane.keeper.wake();
                Ok(())
            }
            Err(error) => {
                self.refused = Some((self.lane.storage.now(), error));
                Err(error)
            }
        }
    }
}
