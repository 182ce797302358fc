//! The write side of a lane: a worker encodes events directly into the mapped segment.

use crate::error::{AppendError, SyncFailed};
use crate::frame;
use crate::lane::{Lane, PreparedSegment};
use crate::reader::MAX_PAYLOAD_BYTES;
use crate::segment::FRAMES_OFFSET;
use crate::sync_signal::SyncRequest;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use storage::{Disk, Map as _, Storage};

/// The minimum time between a failed attempt to get another segment and the next attempt.
const SEGMENT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Appends events to one lane; each worker owns one.
pub struct LaneWriter<S: Storage = Disk> {
    lane: Arc<Lane<S>>,
    /// `None` while there is no space for a segment.
    active: Option<PreparedSegment<S>>,
    offset: usize,
    next_seq: u64,
    /// The last failed attempt to get a segment, on the storage's clock.
    last_failure: Option<(Duration, AppendError)>,
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
            offset: 0,
            next_seq,
            last_failure: None,
        }
    }

    /// The lane's number.
    #[must_use]
    pub fn lane(&self) -> u8 {
        self.lane.number
    }

    /// The sequence of the next accepted event.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Reserves `max_bytes`, but at least two segments, for this lane and limits the lane to them. Only
    /// one lane of a journal can have a quota.
    pub fn set_quota(&mut self, max_bytes: u64) {
        let least = 2 * u64::from(self.lane.segment_bytes);
        self.lane.set_quota(max_bytes.max(least));
    }

    /// Bytes of segments with unreleased events, without the unused part of the active segment.
    #[must_use]
    pub fn unreleased_bytes(&self) -> u64 {
        let segments = self.lane.segments.lock();
        let closed = segments.iter().rev().skip(1);
        let closed = closed.map(|segment| u64::from(segment.length)).sum::<u64>();
        closed + self.offset as u64
    }

    /// Appends one event and returns its sequence; the event is accepted then: a crash of this process
    /// can't lose it.
    ///
    /// `fill` encodes the event into at most `max_len` bytes and returns the used length, or `None` to
    /// append nothing.
    ///
    /// # Errors
    /// When there is no space or `fill` returned `None`; nothing was appended then.
    pub fn append(
        &mut self,
        max_len: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<u64, AppendError> {
        let max_frame_bytes = frame::frame_bytes(max_len);
        if max_len > MAX_PAYLOAD_BYTES
            || max_frame_bytes > self.lane.segment_bytes as usize - FRAMES_OFFSET as usize
        {
            return Err(AppendError::TooLong);
        }
        if self
            .active
            .as_ref()
            .is_none_or(|active| max_frame_bytes > active.segment.length as usize - self.offset)
        {
            self.roll()?;
        }
        let active = self.active.as_mut().ok_or(AppendError::Failed)?;
        let mut bytes = active.map.bytes();
        let buffer = &mut bytes[self.offset..self.offset + max_frame_bytes];
        let payload = &mut buffer[frame::HEAD_BYTES..frame::HEAD_BYTES + max_len];
        let len = match fill(payload) {
            Some(len) if (1..=max_len).contains(&len) => len,
            _ => {
                payload.fill(0);
                return Err(AppendError::Abandoned);
            }
        };
        let seq = self.next_seq;
        frame::complete(buffer, seq, len);
        drop(bytes);
        self.offset += frame::frame_bytes(len);
        self.next_seq += 1;
        let end = u32::try_from(self.offset).expect("segments are shorter than 4 GiB");
        active.segment.commit(end, seq);
        self.lane.committed.store(seq, Ordering::Release);
        Ok(seq)
    }

    /// Requests a sync and calls `done` once every event up to `seq` is durable, or with an error when
    /// that has become impossible. Concurrent callers share one sync.
    pub fn sync_through(
        &self,
        seq: u64,
        done: impl FnOnce(Result<(), SyncFailed>) + Send + 'static,
    ) {
        self.lane.notify_when_durable(seq, Box::new(done));
        self.lane.sync_signal.wake();
    }

    /// As [`LaneWriter::sync_through`], but leaves the sync to the next [`SyncRequest`], or else to the
    /// next sync of all lanes at the journal's interval.
    pub fn when_durable(
        &self,
        seq: u64,
        done: impl FnOnce(Result<(), SyncFailed>) + Send + 'static,
    ) {
        self.lane.notify_when_durable(seq, Box::new(done));
        self.lane.sync_signal.defer_sync();
    }

    /// A handle that requests deferred syncs.
    #[must_use]
    pub fn sync_request(&self) -> SyncRequest {
        SyncRequest(self.lane.sync_signal.clone())
    }

    /// Gets a first segment, so that a lack of space is reported when the journal is opened.
    pub(crate) fn open_first_segment(&mut self) -> Result<(), AppendError> {
        self.roll()
    }

    /// Continues in the next segment, usually the preallocated one.
    fn roll(&mut self) -> Result<(), AppendError> {
        if let Some((at, error)) = self.last_failure
            && self.lane.storage.now().saturating_sub(at) < SEGMENT_RETRY_INTERVAL
        {
            return Err(error);
        }
        let mut spare = self.lane.spare.lock();
        let next = spare.take().map_or_else(|| self.lane.prepare_segment(), Ok);
        drop(spare);
        match next {
            Ok(next) => {
                self.last_failure = None;
                self.lane.activate(next.segment.clone());
                self.active = Some(next);
                self.offset = FRAMES_OFFSET as usize;
                self.lane.sync_signal.wake();
                Ok(())
            }
            Err(error) => {
                self.last_failure = Some((self.lane.storage.now(), error));
                Err(error)
            }
        }
    }
}
