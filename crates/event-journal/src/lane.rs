//! What writer, reader and keeper of one lane share.

use crate::error::{AppendError, SyncFailed};
use crate::frame;
use crate::keeper::{Stats, Wake};
use crate::segment::{self, Header, Segment};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use storage::Storage;

/// Called once a sequence is durable, or can't become so.
pub(crate) type Done = Box<dyn FnOnce(Result<(), SyncFailed>) + Send>;

pub(crate) struct Lane<S: Storage> {
    pub(crate) storage: S,
    pub(crate) number: u8,
    pub(crate) dir: PathBuf,
    pub(crate) journal: u64,
    pub(crate) format_version: u16,
    pub(crate) segment_bytes: u32,
    pub(crate) stats: Arc<Stats>,
    /// In order; the last one is written to.
    pub(crate) segments: Mutex<Vec<Arc<Segment<S::File>>>>,
    /// The segment to be written next.
    pub(crate) spare: Mutex<Option<Prepared<S>>>,
    /// The last sequence committed.
    pub(crate) committed: AtomicU64,
    /// Every segment prepared from now on must have a limit above this.
    limit: AtomicU64,
    next_number: AtomicU64,
    pub(crate) waiters: Mutex<Vec<(u64, Done)>>,
    pub(crate) sync_failed: AtomicBool,
    /// Whether the keeper has ended and nobody will be told any more.
    stopped: AtomicBool,
    /// Held by everything that may write, so that no other process can meanwhile.
    _lock: Arc<S::Lock>,
    pub(crate) keeper: Arc<Wake>,
    /// Whether a worker writes to this lane, or it is left over from a run with more workers.
    pub(crate) written: bool,
    /// Whether its segments take room that is this lane's alone.
    has_quota: AtomicBool,
}

/// A segment ready to be written to.
pub(crate) struct Prepared<S: Storage> {
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
        stats: Arc<Stats>,
        segments: Vec<Segment<S::File>>,
        next: (u64, u64),
        lock: Arc<S::Lock>,
        keeper: Arc<Wake>,
        written: bool,
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
            limit: AtomicU64::new(next_seq),
            next_number: AtomicU64::new(next_number),
            waiters: Mutex::default(),
            sync_failed: AtomicBool::new(sync_failed),
            stopped: AtomicBool::new(false),
            _lock: lock,
            keeper,
            written,
            has_quota: AtomicBool::new(false),
        }
    }

    /// From now on the lane's segments take at most `bytes`, which no other lane takes.
    pub(crate) fn set_quota(&self, bytes: u64) {
        // While this is held no other segment is made.
        let spare = lock(&self.spare);
        let length = |segment: &Segment<S::File>| u64::from(segment.length);
        let used = lock(&self.segments)
            .iter()
            .map(|it| length(it))
            .sum::<u64>();
        let used = used + spare.as_ref().map_or(0, |spare| length(&spare.segment));
        self.has_quota.store(true, Ordering::Release);
        self.stats.set_quota(bytes, used);
    }

    fn reserve(&self, bytes: u64) -> bool {
        if self.has_quota.load(Ordering::Acquire) {
            self.stats.reserve_of_quota(bytes)
        } else {
            self.stats.reserve(bytes, self.stats.quota_left())
        }
    }

    /// Counts one of the lane's segments out.
    pub(crate) fn unreserve(&self, bytes: u64) {
        if self.has_quota.load(Ordering::Acquire) {
            self.stats.unreserve_of_quota(bytes);
        } else {
            self.stats.unreserve(bytes);
        }
    }

    /// The first sequence that this process gives out.
    pub(crate) fn first_own(&self) -> u64 {
        self.limit.load(Ordering::Acquire)
    }

    /// No sequence above this was ever given out.
    pub(crate) fn given_out(&self) -> u64 {
        let before = self.limit.load(Ordering::Acquire).saturating_sub(1);
        before.max(self.committed.load(Ordering::Acquire))
    }

    /// Lets `done` wait for `seq`.
    pub(crate) fn wait_for(&self, seq: u64, done: Done) {
        let mut waiters = lock(&self.waiters);
        if self.stopped.load(Ordering::Acquire) {
            drop(waiters);
            done(Err(SyncFailed));
        } else {
            waiters.push((seq, done));
        }
    }

    /// Syncs a last time; who still waits then waits in vain, and is told.
    pub(crate) fn stop(&self) {
        self.sync();
        let waiters = {
            let mut waiters = lock(&self.waiters);
            self.stopped.store(true, Ordering::Release);
            std::mem::take(&mut *waiters)
        };
        waiters
            .into_iter()
            .for_each(|(_, done)| done(Err(SyncFailed)));
    }

    /// Makes the next segment, if there is room for it.
    pub(crate) fn prepare(&self) -> Result<Prepared<S>, AppendError> {
        if !self.reserve(u64::from(self.segment_bytes)) {
            return Err(AppendError::SpoolFull);
        }
        let created = self.create();
        let full = created.as_ref().is_err_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        });
        self.stats.disk_is_full(full);
        created.map_err(|error| {
            self.unreserve(u64::from(self.segment_bytes));
            tracing::warn!(lane = self.number, %error, "can't make a journal segment");
            if full {
                AppendError::DiskFull
            } else {
                AppendError::Failed
            }
        })
    }

    fn create(&self) -> io::Result<Prepared<S>> {
        // What the segment now written may still take, and then all that the new one can take.
        let frames = segment::most_frames(self.segment_bytes);
        let floor = self
            .limit
            .load(Ordering::Acquire)
            .max(self.committed.load(Ordering::Acquire) + 1);
        let limit = floor + 2 * frames;
        if limit > frame::SEQ_LIMIT {
            return Err(io::Error::other("no sequences are left"));
        }
        let header = Header {
            journal: self.journal,
            number: self.next_number.fetch_add(1, Ordering::AcqRel),
            limit,
            format_version: self.format_version,
            lane: self.number,
        };
        let (segment, map) = Segment::create(&self.storage, &self.dir, header, self.segment_bytes)?;
        Ok(Prepared {
            segment: Arc::new(segment),
            map,
        })
    }

    /// Puts a prepared segment behind the one that was written to, which is closed.
    pub(crate) fn begin(&self, segment: Arc<Segment<S::File>>) {
        let mut segments = lock(&self.segments);
        if let Some(last) = segments.last() {
            last.closed.store(true, Ordering::Release);
        }
        segments.push(segment);
    }

    /// Syncs everything committed and tells those who wait for it.
    pub(crate) fn sync(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiters));
        let committed = self.committed.load(Ordering::Acquire);
        let segments = lock(&self.segments).clone();
        for segment in &segments {
            let started = self.storage.now();
            match segment.sync() {
                Ok(true) => self
                    .stats
                    .synced(self.storage.now().saturating_sub(started)),
                Ok(false) => {}
                Err(error) => {
                    // What the kernel holds after a failed sync is unknown, for ever.
                    tracing::error!(lane = self.number, %error, "the journal can't be synced");
                    self.sync_failed.store(true, Ordering::Release);
                    self.stats.sync_failed();
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
                lock(&self.waiters).push((seq, done));
            }
        }
    }
}

/// Locks; a panic elsewhere leaves nothing half done under any of these locks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
