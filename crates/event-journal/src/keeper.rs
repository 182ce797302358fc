//! The thread that keeps a journal in shape: spare segments ahead of need, syncs, and those who
//! wait for them.

use crate::error::SyncFailed;
use crate::lane::{Lane, lock};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How the journal as a whole stands.
#[derive(Debug)]
pub struct Stats {
    max_bytes: u64,
    bytes: AtomicU64,
    segments: AtomicU64,
    syncs: AtomicU64,
    last_sync_micros: AtomicU64,
}

impl Stats {
    pub(crate) const fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            bytes: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            last_sync_micros: AtomicU64::new(0),
        }
    }

    /// Bytes of all segment files, preallocated space included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
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

    /// How long the last sync took, in microseconds.
    #[must_use]
    pub fn last_sync_micros(&self) -> u64 {
        self.last_sync_micros.load(Ordering::Relaxed)
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

    pub(crate) fn synced(&self, took: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.last_sync_micros.store(micros, Ordering::Relaxed);
    }
}

/// Keeps the journal until stopped or dropped, and then syncs it a last time.
pub struct Keeper {
    lanes: Arc<[Arc<Lane>]>,
    stats: Arc<Stats>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    pub(crate) fn start(
        lanes: Arc<[Arc<Lane>]>,
        stats: Arc<Stats>,
        sync_interval: Duration,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new()
            .name("journal-keeper".into())
            .spawn({
                let (lanes, stop) = (lanes.clone(), stop.clone());
                move || keep(&lanes, sync_interval, &stop)
            })?;
        Ok(Self {
            lanes,
            stats,
            stop,
            thread: Some(thread),
        })
    }

    pub(crate) fn thread(&self) -> Thread {
        self.thread
            .as_ref()
            .expect("it runs until the keeper is stopped")
            .thread()
            .clone()
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
        self.finish();
        let failed = self
            .lanes
            .iter()
            .any(|lane| lane.sync_failed.load(Ordering::Acquire));
        if failed { Err(SyncFailed) } else { Ok(()) }
    }

    fn finish(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.finish();
    }
}

fn keep(lanes: &[Arc<Lane>], sync_interval: Duration, stop: &AtomicBool) {
    let mut last_sync = Instant::now();
    loop {
        let stopping = stop.load(Ordering::Acquire);
        if !stopping {
            lanes
                .iter()
                .filter(|lane| lane.written)
                .for_each(|lane| keep_spare(lane));
        }
        let all = last_sync.elapsed() >= sync_interval;
        if stopping {
            lanes.iter().for_each(|lane| lane.stop());
            return;
        }
        for lane in lanes {
            if all || !lock(&lane.waiters).is_empty() {
                lane.sync();
            }
        }
        if all {
            last_sync = Instant::now();
        }
        thread::park_timeout(sync_interval.saturating_sub(last_sync.elapsed()));
    }
}

/// Makes a spare when there is none; without room the writer says so when it comes to that.
///
/// The lock is held meanwhile: were the writer to make a segment of its own beside this one, it
/// would use them in another order than they are numbered.
fn keep_spare(lane: &Lane) {
    let mut spare = lock(&lane.spare);
    if spare.is_none() {
        *spare = lane.prepare().ok();
    }
}
