//! Sizes, quota and sync results of a journal, readable from any thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The start of the last full sync while no thread syncs the journal.
const NOT_MEASURED: u64 = u64::MAX;

/// Sizes and sync results of the whole journal.
#[derive(Debug)]
pub struct JournalStats {
    max_bytes: u64,
    bytes: AtomicU64,
    /// The part of `max_bytes` reserved for one lane, and how much of it that lane's segments use.
    quota_bytes: AtomicU64,
    quota_used: AtomicU64,
    segments: AtomicU64,
    syncs: AtomicU64,
    failed_syncs: AtomicU64,
    last_sync_micros: AtomicU64,
    /// From the start of the second-to-last full sync to the end of the last one.
    window_micros: AtomicU64,
    /// When the last successful full sync started, in microseconds since `origin`; `NOT_MEASURED`
    /// while no thread syncs the journal.
    last_sync_start_micros: AtomicU64,
    origin: Instant,
    /// Whether a sync failed, so that no event becomes durable any more.
    sync_failed: AtomicBool,
    /// Whether the disk was full when the last segment was to be created.
    disk_full: AtomicBool,
    /// Whether `max_bytes` was reached when the last segment was to be created.
    at_max_bytes: AtomicBool,
}

impl JournalStats {
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
            last_sync_start_micros: AtomicU64::new(NOT_MEASURED),
            origin: Instant::now(),
            sync_failed: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            at_max_bytes: AtomicBool::new(false),
        }
    }

    /// Bytes of all segment files, including preallocated space.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The most bytes that all segment files may have together.
    #[must_use]
    pub const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Whether events will soon be lost unless some are released: the segments use three quarters of
    /// the allowed bytes, or the disk was too full for another segment.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed) || self.bytes() >= self.max_bytes / 4 * 3
    }

    /// Whether the last attempt to create a segment found no space: events are lost once the present
    /// segments are full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed) || self.at_max_bytes.load(Ordering::Relaxed)
    }

    /// Whether a sync failed, so that no event accepted since becomes durable in this process.
    #[must_use]
    pub fn has_sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Relaxed)
    }

    /// The number of segment files.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }

    /// Syncs of segment files since the journal was opened.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Failed syncs since the journal was opened: events accepted since the first are not durable.
    #[must_use]
    pub fn failed_syncs(&self) -> u64 {
        self.failed_syncs.load(Ordering::Relaxed)
    }

    /// The duration of the last sync in microseconds.
    #[must_use]
    pub fn last_sync_micros(&self) -> u64 {
        self.last_sync_micros.load(Ordering::Relaxed)
    }

    /// How many microseconds of events a power loss could destroy.
    ///
    /// This is the larger of two times: the longest that an event accepted between the last two full
    /// syncs waited until it was durable, and the time since the last full sync started, which grows
    /// while a sync hangs. `u64::MAX` after a failed sync, because no event becomes durable any more.
    /// 0 for a journal without a sync thread.
    #[must_use]
    pub fn unsynced_window_micros(&self) -> u64 {
        self.window_at(Instant::now())
    }

    fn window_at(&self, now: Instant) -> u64 {
        if self.sync_failed.load(Ordering::Relaxed) {
            return u64::MAX;
        }
        let started = self.last_sync_start_micros.load(Ordering::Acquire);
        let since = self.micros_at(now).saturating_sub(started);
        self.window_micros.load(Ordering::Relaxed).max(since)
    }

    fn micros_at(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.origin))
    }

    /// Reserves `bytes` for one lane, whose segments use `used` of them already.
    pub(crate) fn set_quota(&self, bytes: u64, used: u64) {
        self.quota_used.store(used, Ordering::Release);
        self.quota_bytes.store(bytes, Ordering::Release);
    }

    /// Adds a segment of the lane with a quota, unless that would exceed the quota.
    pub(crate) fn reserve_in_quota(&self, bytes: u64) -> bool {
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

    /// Subtracts a segment of the lane with a quota.
    pub(crate) fn unreserve_in_quota(&self, bytes: u64) {
        // In this order other lanes never see more free bytes than there are.
        let fewer = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self
            .quota_used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        self.unreserve(bytes);
    }

    /// The unused bytes reserved for the lane with a quota.
    pub(crate) fn quota_remaining(&self) -> u64 {
        let quota = self.quota_bytes.load(Ordering::Acquire);
        quota.saturating_sub(self.quota_used.load(Ordering::Acquire))
    }

    /// Adds a segment, unless that would leave less than `keep_free` of the allowed bytes.
    pub(crate) fn reserve(&self, bytes: u64, keep_free: u64) -> bool {
        let max_bytes = self.max_bytes.saturating_sub(keep_free);
        let fits = |now: u64| now.checked_add(bytes).filter(|sum| *sum <= max_bytes);
        let reserved = self
            .bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .is_ok();
        self.at_max_bytes.store(!reserved, Ordering::Relaxed);
        if reserved {
            self.segments.fetch_add(1, Ordering::Relaxed);
        }
        reserved
    }

    /// Adds a segment that an earlier process created.
    pub(crate) fn add_recovered(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.segments.fetch_add(1, Ordering::Relaxed);
    }

    /// Subtracts a segment.
    pub(crate) fn unreserve(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.segments.fetch_sub(1, Ordering::Relaxed);
        self.at_max_bytes.store(false, Ordering::Relaxed);
    }

    pub(crate) fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, Ordering::Relaxed);
    }

    pub(crate) fn record_sync_failure(&self) {
        self.failed_syncs.fetch_add(1, Ordering::Relaxed);
        self.mark_sync_failed();
    }

    pub(crate) fn mark_sync_failed(&self) {
        self.sync_failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn record_sync(&self, duration: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.last_sync_micros
            .store(micros(duration), Ordering::Relaxed);
    }

    /// Measures the unsynced window from `now` on.
    pub(crate) fn start_measuring(&self, now: Instant) {
        self.last_sync_start_micros
            .store(self.micros_at(now), Ordering::Relaxed);
    }

    /// Records a successful sync of all lanes. An event accepted just after the start of the previous
    /// full sync had to wait until the end of this one.
    pub(crate) fn record_full_sync(&self, started: Instant, ended: Instant) {
        let previous = self.last_sync_start_micros.load(Ordering::Relaxed);
        let window = self.micros_at(ended).saturating_sub(previous);
        // In this order a concurrent reader never sees too short a window.
        self.window_micros.store(window, Ordering::Relaxed);
        self.last_sync_start_micros
            .store(self.micros_at(started), Ordering::Release);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsynced_window_grows_while_a_sync_hangs() {
        let stats = JournalStats::new(1);
        let at = |millis| stats.origin + Duration::from_millis(millis);
        assert_eq!(stats.window_at(at(5)), 0);
        stats.start_measuring(at(10));
        assert_eq!(stats.window_at(at(30)), 20_000);
        stats.record_full_sync(at(50), at(60));
        assert_eq!(stats.window_at(at(61)), 50_000);
        // The next sync hangs, then ends.
        assert_eq!(stats.window_at(at(5_050)), 5_000_000);
        stats.record_full_sync(at(100), at(5_100));
        assert_eq!(stats.window_at(at(5_101)), 5_050_000);
        stats.record_full_sync(at(5_150), at(5_160));
        stats.record_full_sync(at(5_200), at(5_210));
        assert_eq!(stats.window_at(at(5_211)), 60_000);
        stats.record_sync_failure();
        assert_eq!(stats.window_at(at(5_212)), u64::MAX);
    }

    #[test]
    fn fullness_follows_from_bytes_disk_and_refused_segments() {
        let stats = JournalStats::new(1_000);
        let fullness = || (stats.is_nearly_full(), stats.is_full());
        assert_eq!((stats.max_bytes(), fullness()), (1_000, (false, false)));
        assert!(stats.reserve(749, 0));
        assert_eq!(fullness(), (false, false));
        assert!(stats.reserve(1, 0));
        assert_eq!((stats.segments(), fullness()), (2, (true, false)));
        assert!(!stats.reserve(251, 0));
        assert_eq!(fullness(), (true, true));
        stats.unreserve(1);
        assert_eq!((stats.segments(), fullness()), (1, (false, false)));
        for is_full in [true, false] {
            stats.set_disk_full(is_full);
            assert_eq!(fullness(), (is_full, is_full));
        }
    }

    #[test]
    fn syncs_are_counted_and_a_failure_is_remembered() {
        let stats = JournalStats::new(1);
        for micros in [5, 7] {
            stats.record_sync(Duration::from_micros(micros));
            assert_eq!(stats.last_sync_micros(), micros);
        }
        assert_eq!((stats.failed_syncs(), stats.has_sync_failed()), (0, false));
        stats.record_sync_failure();
        stats.record_sync_failure();
        assert_eq!((stats.failed_syncs(), stats.has_sync_failed()), (2, true));
        assert_eq!(stats.syncs(), 2);
    }
}
