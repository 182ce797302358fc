//! What keeps a journal in shape: spare segments ahead of need, syncs, those who wait for them, and
//! the thread that sees to it.

use crate::error::SyncFailed;
use crate::lane::{Lane, lock};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};
use storage::Storage;

/// How the journal as a whole stands.
#[derive(Debug)]
pub struct Stats {
    max_bytes: u64,
    bytes: AtomicU64,
    segments: AtomicU64,
    syncs: AtomicU64,
    failed_syncs: AtomicU64,
    last_sync_micros: AtomicU64,
    window_micros: AtomicU64,
    /// Whether the disk had no room for the last segment that was wanted.
    disk_full: AtomicBool,
}

impl Stats {
    pub(crate) const fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            bytes: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            failed_syncs: AtomicU64::new(0),
            last_sync_micros: AtomicU64::new(0),
            window_micros: AtomicU64::new(0),
            disk_full: AtomicBool::new(false),
        }
    }

    /// Bytes of all segment files, preallocated space included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether events will soon be lost unless some are released: three quarters of the bytes that
    /// segments may take are taken, or the disk had no room for another.
    #[must_use]
    pub fn needs_room(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed) || self.bytes() >= self.max_bytes / 4 * 3
    }

    /// Segment files.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }

    /// Syncs of segment files since the journal was opened.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Syncs that failed since the journal was opened: what was accepted since is not durable.
    #[must_use]
    pub fn failed_syncs(&self) -> u64 {
        self.failed_syncs.load(Ordering::Relaxed)
    }

    /// How long the last sync took, in microseconds.
    #[must_use]
    pub fn last_sync_micros(&self) -> u64 {
        self.last_sync_micros.load(Ordering::Relaxed)
    }

    /// How long it took at most, in microseconds, until an event was durable that was accepted between the
    /// last two syncs of everything: what a power cut would have taken. 0 before there were two.
    #[must_use]
    pub fn window_micros(&self) -> u64 {
        self.window_micros.load(Ordering::Relaxed)
    }

    /// Counts a segment in, unless that would exceed the cap.
    pub(crate) fn reserve(&self, bytes: u64) -> bool {
        let fits = |now: u64| now.checked_add(bytes).filter(|sum| *sum <= self.max_bytes);
        let reserved = self
            .bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .is_ok();
        if reserved {
            self.segments.fetch_add(1, Ordering::Relaxed);
        }
        reserved
    }

    /// Counts a segment in that exists already.
    pub(crate) fn found(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.segments.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a segment out.
    pub(crate) fn unreserve(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.segments.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn disk_is_full(&self, full: bool) {
        self.disk_full.store(full, Ordering::Relaxed);
    }

    pub(crate) fn sync_failed(&self) {
        self.failed_syncs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.last_sync_micros.store(micros(took), Ordering::Relaxed);
    }

    fn was_durable_within(&self, window: Duration) {
        self.window_micros.store(micros(window), Ordering::Relaxed);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Wakes the keeper's thread, if one was started.
#[derive(Debug, Default)]
pub(crate) struct Wake(OnceLock<Thread>);

impl Wake {
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// What is to be done now and then so that the journal stays in shape, by whoever keeps the time.
pub struct Upkeep<S: Storage> {
    pub(crate) lanes: Vec<Arc<Lane<S>>>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) wake: Arc<Wake>,
}

impl<S: Storage> fmt::Debug for Upkeep<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upkeep")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> Upkeep<S> {
    /// How the journal stands, readable from anywhere.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Makes a spare segment for each lane that has none; without room the writer says so when it
    /// comes to that.
    pub fn spare(&self) {
        for lane in self.lanes.iter().filter(|lane| lane.written) {
            // The lock is held meanwhile: were the writer to make a segment of its own beside this
            // one, it would use them in another order than they are numbered.
            let mut spare = lock(&lane.spare);
            if spare.is_none() {
                *spare = lane.prepare().ok();
            }
        }
    }

    /// Syncs what was accepted: with `all` every lane, else those that somebody waits for.
    pub fn sync(&self, all: bool) {
        for lane in &self.lanes {
            if all || !lock(&lane.waiters).is_empty() {
                lane.sync();
            }
        }
    }

    /// Syncs a last time. Who waits for more is told that it is in vain.
    ///
    /// # Errors
    /// When a sync failed at any time since the journal was opened.
    pub fn finish(&self) -> Result<(), SyncFailed> {
        self.lanes.iter().for_each(|lane| lane.stop());
        let failed = |lane: &Arc<Lane<S>>| lane.sync_failed.load(Ordering::Acquire);
        if self.lanes.iter().any(failed) {
            Err(SyncFailed)
        } else {
            Ok(())
        }
    }
}

/// The thread that keeps the journal until it is stopped or dropped.
pub struct Keeper {
    stats: Arc<Stats>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), SyncFailed>>>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    pub(crate) fn start<S: Storage>(
        upkeep: Upkeep<S>,
        sync_interval: Duration,
    ) -> std::io::Result<Self> {
        let (stats, stop) = (upkeep.stats(), Arc::new(AtomicBool::new(false)));
        let stopping = stop.clone();
        let thread = thread::Builder::new()
            .name("journal-keeper".into())
            .spawn(move || keep(&upkeep, sync_interval, &stopping))?;
        Ok(Self {
            stats,
            stop,
            thread: Some(thread),
        })
    }

    /// How the journal stands, readable from anywhere.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Syncs everything that was accepted and ends the thread.
    ///
    /// # Errors
    /// When a sync failed at any time since the journal was opened.
    pub fn stop(mut self) -> Result<(), SyncFailed> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), SyncFailed> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().map_or(Ok(()), |thread| {
            thread.thread().unpark();
            thread.join().unwrap_or(Err(SyncFailed))
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

fn keep<S: Storage>(
    upkeep: &Upkeep<S>,
    sync_interval: Duration,
    stop: &AtomicBool,
) -> Result<(), SyncFailed> {
    let _ = upkeep.wake.0.set(thread::current());
    let mut last_sync = Instant::now();
    let mut begun = None;
    while !stop.load(Ordering::Acquire) {
        upkeep.spare();
        let all = last_sync.elapsed() >= sync_interval;
        let begins = Instant::now();
        upkeep.sync(all);
        if all {
            last_sync = Instant::now();
            // What came just after the sync before had begun had to wait for the end of this one.
            if let Some(before) = begun.replace(begins) {
                upkeep.stats.was_durable_within(last_sync - before);
            }
        }
        thread::park_timeout(sync_interval.saturating_sub(last_sync.elapsed()));
    }
    upkeep.finish()
}
