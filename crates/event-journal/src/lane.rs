//! The state of one lane that its writer, its reader and the sync thread share.

use crate::error::{AppendError, SyncFailed};
use crate::frame;
use crate::segment::{self, Segment, SegmentHeader};
use crate::stats::JournalStats;
use crate::sync_signal::SyncSignal;
use parking_lot::Mutex;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use storage::Storage;

/// Called once a sequence is durable, or with an error when it can't become durable.
pub(crate) type DurableCallback = Box<dyn FnOnce(Result<(), SyncFailed>) + Send>;

pub(crate) struct Lane<S: Storage> {
    pub(crate) storage: S,
    pub(crate) number: u8,
    pub(crate) dir: PathBuf,
    pub(crate) journal: u64,
    pub(crate) format_version: u16,
    pub(crate) segment_bytes: u32,
    pub(crate) stats: Arc<JournalStats>,
    /// In order; the last one is the active segment.
    pub(crate) segments: Mutex<Vec<Arc<Segment<S::File>>>>,
    /// The preallocated next segment.
    pub(crate) spare: Mutex<Option<PreparedSegment<S>>>,
    /// The last sequence committed.
    pub(crate) committed: AtomicU64,
    /// Later segments must have a limit above this.
    seq_limit: AtomicU64,
    next_number: AtomicU64,
    pub(crate) waiters: Mutex<Vec<(u64, DurableCallback)>>,
    pub(crate) sync_failed: AtomicBool,
    /// Whether syncs have ended, so that no further callback can wait.
    closed: AtomicBool,
    /// Held by every object that may write, so that no other process opens the journal.
    _lock: Arc<S::Lock>,
    pub(crate) sync_signal: Arc<SyncSignal>,
    /// Whether a worker writes to this lane; false for a lane of an earlier process with more workers.
    pub(crate) is_written: bool,
    /// Whether part of the journal's bytes is reserved for this lane.
    has_quota: AtomicBool,
}

/// A segment ready for writing.
pub(crate) struct PreparedSegment<S: Storage> {
    pub(crate) segment: Arc<Segment<S::File>>,
    pub(crate) map: S::Map,
}

impl<S: Storage> Lane<S> {
    #[expect(
        clippy::too_many_arguments,
        reason = "made in one place, from what recovery found"
    )]
    pub(crate) fn new(
        storage: S,
        number: u8,
        dir: PathBuf,
        journal: u64,
        format_version: u16,
        segment_bytes: u32,
        stats: Arc<JournalStats>,
        segments: Vec<Segment<S::File>>,
        next: (u64, u64),
        lock: Arc<S::Lock>,
        sync_signal: Arc<SyncSignal>,
        is_written: bool,
        sync_failed: bool,
    ) -> Self {
        let (next_seq, next_number) = next;
        Self {
            storage,
            number,
            dir,
            journal,
            format_version,
            segment_bytes,
            stats,
            committed: AtomicU64::new(segments.last().map_or(0, Segment::last)),
            segments: Mutex::new(segments.into_iter().map(Arc::new).collect()),
            spare: Mutex::new(None),
            seq_limit: AtomicU64::new(next_seq),
            next_number: AtomicU64::new(next_number),
            waiters: Mutex::default(),
            sync_failed: AtomicBool::new(sync_failed),
            closed: AtomicBool::new(false),
            _lock: lock,
            sync_signal,
            is_written,
            has_quota: AtomicBool::new(false),
        }
    }

    /// Reserves `bytes` for the lane's segments and limits them to that.
    pub(crate) fn set_quota(&self, bytes: u64) {
        // Holding this lock prevents the creation of another segment.
        let spare = self.spare.lock();
        let length = |segment: &Segment<S::File>| u64::from(segment.length);
        let used = self
            .segments
            .lock()
            .iter()
            .map(|it| length(it))
            .sum::<u64>();
        let used = used + spare.as_ref().map_or(0, |spare| length(&spare.segment));
        self.has_quota.store(true, Ordering::Release);
        self.stats.set_quota(bytes, used);
    }

    fn reserve(&self, bytes: u64) -> bool {
        if self.has_quota.load(Ordering::Acquire) {
            self.stats.reserve_in_quota(bytes)
        } else {
            self.stats.reserve(bytes, self.stats.quota_remaining())
        }
    }

    /// Subtracts one of the lane's segments.
    pub(crate) fn unreserve(&self, bytes: u64) {
        if self.has_quota.load(Ordering::Acquire) {
            self.stats.unreserve_in_quota(bytes);
        } else {
            self.stats.unreserve(bytes);
        }
    }

    /// The first sequence that this process assigns.
    pub(crate) fn first_own_seq(&self) -> u64 {
        self.seq_limit.load(Ordering::Acquire)
    }

    /// No sequence above this was ever assigned.
    pub(crate) fn highest_assigned_seq(&self) -> u64 {
        let before = self.seq_limit.load(Ordering::Acquire).saturating_sub(1);
        before.max(self.committed.load(Ordering::Acquire))
    }

    /// Calls `done` once `seq` is durable, or with an error when it can't become durable.
    pub(crate) fn notify_when_durable(&self, seq: u64, done: DurableCallback) {
        let mut waiters = self.waiters.lock();
        if self.closed.load(Ordering::Acquire) {
            drop(waiters);
            done(Err(SyncFailed));
        } else {
            waiters.push((seq, done));
        }
    }

    /// Syncs one last time; callbacks that still wait then get an error.
    pub(crate) fn close(&self) {
        self.sync();
        let waiters = {
            let mut waiters = self.waiters.lock();
            self.closed.store(true, Ordering::Release);
            std::mem::take(&mut *waiters)
        };
        waiters
            .into_iter()
            .for_each(|(_, done)| done(Err(SyncFailed)));
    }

    /// Creates the next segment, if there is space for it.
    pub(crate) fn prepare_segment(&self) -> Result<PreparedSegment<S>, AppendError> {
        if !self.reserve(u64::from(self.segment_bytes)) {
            return Err(AppendError::SpoolFull);
        }
        let created = self.create_segment();
        let full = created.as_ref().is_err_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        });
        self.stats.set_disk_full(full);
        created.map_err(|error| {
            self.unreserve(u64::from(self.segment_bytes));
            tracing::warn!(lane = self.number, %error, "failed to create journal segment");
            if full {
                AppendError::DiskFull
            } else {
                AppendError::Failed
            }
        })
    }

    fn create_segment(&self) -> io::Result<PreparedSegment<S>> {
        // Room for the remaining frames of the active segment, then for all frames of the new one.
        let frames = segment::max_frames(self.segment_bytes);
        let floor = self
            .seq_limit
            .load(Ordering::Acquire)
            .max(self.committed.load(Ordering::Acquire) + 1);
        let seq_limit = floor + 2 * frames;
        if seq_limit > frame::SEQ_LIMIT {
            return Err(io::Error::other("the lane has no sequences left"));
        }
        let header = SegmentHeader {
            journal: self.journal,
            number: self.next_number.fetch_add(1, Ordering::AcqRel),
            limit: seq_limit,
            format_version: self.format_version,
            lane: self.number,
        };
        let (segment, map) = Segment::create(&self.storage, &self.dir, header, self.segment_bytes)?;
        Ok(PreparedSegment {
            segment: Arc::new(segment),
            map,
        })
    }

    /// Closes the active segment and makes `segment` the active one.
    pub(crate) fn activate(&self, segment: Arc<Segment<S::File>>) {
        let mut segments = self.segments.lock();
        if let Some(last) = segments.last() {
            last.closed.store(true, Ordering::Release);
        }
        segments.push(segment);
    }

    /// Syncs every committed event and calls the waiting callbacks.
    pub(crate) fn sync(&self) {
        let waiting = std::mem::take(&mut *self.waiters.lock());
        let committed = self.committed.load(Ordering::Acquire);
        let segments = self.segments.lock().clone();
        for segment in &segments {
            let started = self.storage.now();
            match segment.sync() {
                Ok(true) => self
                    .stats
                    .record_sync(self.storage.now().saturating_sub(started)),
                Ok(false) => {}
                Err(error) => {
                    // The state of the page cache after a failed sync is unknown permanently.
                    tracing::error!(lane = self.number, %error, "failed to sync journal; replace the disk, then restart");
                    self.sync_failed.store(true, Ordering::Release);
                    self.stats.record_sync_failure();
                }
            }
        }
        let failed = self.sync_failed.load(Ordering::Acquire);
        for (seq, done) in waiting {
            if failed {
                done(Err(SyncFailed));
            } else if seq <= committed {
                done(Ok(()));
            } else {
                self.waiters.lock().push((seq, done));
            }
        }
    }
}
