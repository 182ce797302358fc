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

/// Stands for the beginning of a sync where nobody sees to them.
const UNKEPT: u64 = u64::MAX;

/// How the journal as a whole stands.
#[derive(Debug)]
pub struct Stats {
    max_bytes: u64,
    bytes: AtomicU64,
    /// What of `max_bytes` is one lane's alone, and what of that its segments take.
    quota_bytes: AtomicU64,
    quota_used: AtomicU64,
    segments: AtomicU64,
    syncs: AtomicU64,
    failed_syncs: AtomicU64,
    last_sync_micros: AtomicU64,
    /// Between the last two syncs of everything.
    window_micros: AtomicU64,
    /// When the last sync of everything that succeeded began, in microseconds since `origin`; `UNKEPT`
    /// while no thread keeps the journal.
    begun_micros: AtomicU64,
    origin: Instant,
    /// Whether nothing becomes durable any more, since a sync failed.
    broken: AtomicBool,
    /// Whether the disk had no room for the last segment that was wanted.
    disk_full: AtomicBool,
    /// Whether `max_bytes` had no room for it.
    at_cap: AtomicBool,
}

impl Stats {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            bytes: AtomicU64::new(0),
            quota_bytes: AtomicU64::new(0),
            quota_used: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            failed_syncs: AtomicU64::new(0),
            last_sync_micros: AtomicU64::new(0),
            window_micros: AtomicU64::new(0),
            begun_micros: AtomicU64::new(UNKEPT),
            origin: Instant::now(),
            broken: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            at_cap: AtomicBool::new(false),
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

    /// Whether there was no room for the last segment that was wanted: once the present ones are full,
    /// events are lost.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed) || self.at_cap.load(Ordering::Relaxed)
    }

    /// Whether a sync failed, so that nothing accepted since becomes durable in this process.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
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

    /// How much a power cut could take, in microseconds of events: how long it took at most until one was
    /// durable that was accepted between the last two syncs of everything, or how long ago the last one
    /// began, when that is more since the next one does not end. `u64::MAX` once a sync failed: nothing
    /// becomes durable any more. 0 when the journal is kept by no thread of its own.
    #[must_use]
    pub fn window_micros(&self) -> u64 {
        self.window_at(Instant::now())
    }

    fn window_at(&self, now: Instant) -> u64 {
        if self.broken.load(Ordering::Relaxed) {
            return u64::MAX;
        }
        let begun = self.begun_micros.load(Ordering::Acquire);
        let since = self.micros_at(now).saturating_sub(begun);
        self.window_micros.load(Ordering::Relaxed).max(since)
    }

    fn micros_at(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.origin))
    }

    /// Leaves `bytes`, of which `used` are taken already, to one lane alone.
    pub(crate) fn set_quota(&self, bytes: u64, used: u64) {
        self.quota_used.store(used, Ordering::Release);
        self.quota_bytes.store(bytes, Ordering::Release);
    }

    /// Counts a segment of the lane with a quota in, unless that would exceed the quota.
    pub(crate) fn reserve_of_quota(&self, bytes: u64) -> bool {
        let quota = self.quota_bytes.load(Ordering::Acquire);
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= quota);
        if !self.reserve(bytes, 0) {
            return false;
        }
        let reserved = self
            .quota_used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .is_ok();
        if !reserved {
            self.unreserve(bytes);
        }
        reserved
    }

    /// Counts a segment of the lane with a quota out.
    pub(crate) fn unreserve_of_quota(&self, bytes: u64) {
        // In this order other lanes never see more room than there is.
        let fewer = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self
            .quota_used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        self.unreserve(bytes);
    }

    /// What is kept free for the lane with a quota.
    pub(crate) fn quota_left(&self) -> u64 {
        let quota = self.quota_bytes.load(Ordering::Acquire);
        quota.saturating_sub(self.quota_used.load(Ordering::Acquire))
    }

    /// Counts a segment in, unless that would exceed the cap or leave less than `kept_free` of it.
    pub(crate) fn reserve(&self, bytes: u64, kept_free: u64) -> bool {
        let max_bytes = self.max_bytes.saturating_sub(kept_free);
        let fits = |now: u64| now.checked_add(bytes).filter(|sum| *sum <= max_bytes);
        let reserved = self
            .bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .is_ok();
        self.at_cap.store(!reserved, Ordering::Relaxed);
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
        self.at_cap.store(false, Ordering::Relaxed);
    }

    pub(crate) fn disk_is_full(&self, full: bool) {
        self.disk_full.store(full, Ordering::Relaxed);
    }

    pub(crate) fn sync_failed(&self) {
        self.failed_syncs.fetch_add(1, Ordering::Relaxed);
        self.nothing_becomes_durable();
    }

    fn nothing_becomes_durable(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.last_sync_micros.store(micros(took), Ordering::Relaxed);
    }

    /// A thread keeps the journal from `now` on.
    fn is_kept(&self, now: Instant) {
        self.begun_micros
            .store(self.micros_at(now), Ordering::Relaxed);
    }

    /// Everything was synced. What came just after the sync before had begun had to wait for the end of
    /// this one.
    fn was_durable(&self, begun: Instant, ended: Instant) {
        let before = self.begun_micros.load(Ordering::Relaxed);
        let window = self.micros_at(ended).saturating_sub(before);
        // In this order: who reads between the two is not told too little.
        self.window_micros.store(window, Ordering::Relaxed);
        self.begun_micros
            .store(self.micros_at(begun), Ordering::Release);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Wakes the keeper's thread, if one was started.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    thread: OnceLock<Thread>,
    /// Whether somebody waits for a sync that nobody has asked for.
    put_off: AtomicBool,
}

/// Asks a journal's keeper for the sync that was put off, from any thread and without waiting itself.
#[derive(Debug, Clone)]
pub struct SyncRequest(pub(crate) Arc<Wake>);

impl SyncRequest {
    /// Asks for it, if anybody waits; false when nobody does.
    pub fn send(&self) -> bool {
        let put_off = self.0.put_off.swap(false, Ordering::AcqRel);
        if put_off {
            self.0.wake();
        }
        put_off
    }
}

impl Wake {
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Leaves it to a [`SyncRequest`]; called by who waits already, so that none comes too early.
    pub(crate) fn put_off(&self) {
        self.put_off.store(true, Ordering::Release);
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
        if self.has_failed() {
            Err(SyncFailed)
        } else {
            Ok(())
        }
    }

    fn has_failed(&self) -> bool {
        let failed = |lane: &Arc<Lane<S>>| lane.sync_failed.load(Ordering::Acquire);
        self.lanes.iter().any(failed)
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
    let _ = upkeep.wake.thread.set(thread::current());
    let mut last_sync = Instant::now();
    upkeep.stats.is_kept(last_sync);
    while !stop.load(Ordering::Acquire) {
        upkeep.spare();
        let all = last_sync.elapsed() >= sync_interval;
        let begins = Instant::now();
        upkeep.sync(all);
        if all {
            last_sync = Instant::now();
            if upkeep.has_failed() {
                // Perhaps already at the start, of what an earlier run left.
                upkeep.stats.nothing_becomes_durable();
            } else {
                upkeep.stats.was_durable(begins, last_sync);
            }
        }
        thread::park_timeout(sync_interval.saturating_sub(last_sync.elapsed()));
    }
    upkeep.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_while_a_sync_hangs_and_has_no_end_once_one_failed() {
        let stats = Stats::new(1);
        let at = |millis| stats.origin + Duration::from_millis(millis);
        assert_eq!(stats.window_at(at(5)), 0);
        stats.is_kept(at(10));
        assert_eq!(stats.window_at(at(30)), 20_000);
        stats.was_durable(at(50), at(60));
        assert_eq!(stats.window_at(at(61)), 50_000);
        // The next sync does not end, and then it does.
        assert_eq!(stats.window_at(at(5_050)), 5_000_000);
        stats.was_durable(at(100), at(5_100));
        assert_eq!(stats.window_at(at(5_101)), 5_050_000);
        stats.was_durable(at(5_150), at(5_160));
        stats.was_durable(at(5_200), at(5_210));
        assert_eq!(stats.window_at(at(5_211)), 60_000);
        stats.sync_failed();
        assert_eq!(stats.window_at(at(5_212)), u64::MAX);
    }
}
