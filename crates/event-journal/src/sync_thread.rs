//! The thread that does a journal's periodic work.

use crate::error::SyncFailed;
use crate::maintenance::JournalMaintenance;
use crate::stats::JournalStats;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use storage::Storage;

/// The thread that syncs the journal and preallocates segments until it is stopped or dropped.
pub struct SyncThread {
    stats: Arc<JournalStats>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), SyncFailed>>>,
}

impl fmt::Debug for SyncThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncThread")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl SyncThread {
    pub(crate) fn start<S: Storage>(
        maintenance: JournalMaintenance<S>,
        sync_interval: Duration,
    ) -> std::io::Result<Self> {
        let (stats, stop) = (maintenance.stats(), Arc::new(AtomicBool::new(false)));
        let stopping = stop.clone();
        let thread = thread::Builder::new()
            .name("journal-sync".into())
            .spawn(move || run(&maintenance, sync_interval, &stopping))?;
        Ok(Self {
            stats,
            stop,
            thread: Some(thread),
        })
    }

    /// The journal's sizes and sync results.
    #[must_use]
    pub fn stats(&self) -> Arc<JournalStats> {
        self.stats.clone()
    }

    /// Syncs every accepted event and ends the thread.
    ///
    /// # Errors
    /// When a sync failed at any time since the journal was opened.
    pub fn stop(mut self) -> Result<(), SyncFailed> {
        self.join()
    }

    fn join(&mut self) -> Result<(), SyncFailed> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().map_or(Ok(()), |thread| {
            thread.thread().unpark();
            thread.join().unwrap_or(Err(SyncFailed))
        })
    }
}

impl Drop for SyncThread {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

fn run<S: Storage>(
    maintenance: &JournalMaintenance<S>,
    sync_interval: Duration,
    stop: &AtomicBool,
) -> Result<(), SyncFailed> {
    maintenance.signal.register_current_thread();
    let mut last_sync = Instant::now();
    maintenance.stats.start_measuring(last_sync);
    while !stop.load(Ordering::Acquire) {
        maintenance.preallocate_segments();
        let all = last_sync.elapsed() >= sync_interval;
        let started = Instant::now();
        maintenance.sync(all);
        if all {
            last_sync = Instant::now();
            if maintenance.has_sync_failed() {
                // The failure may date from recovery: events of an earlier process that can't be synced.
                maintenance.stats.mark_sync_failed();
            } else {
                maintenance.stats.record_full_sync(started, last_sync);
            }
        }
        thread::park_timeout(sync_interval.saturating_sub(last_sync.elapsed()));
    }
    maintenance.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, open_manual};
    use storage::model::{Fault, ModelDisk};

    #[test]
    fn stop_reports_a_failed_sync() {
        let disk = ModelDisk::new(1);
        let options = Options {
            dir: "/spool".into(),
            lanes: 1,
            format_version: 1,
            segment_bytes: 64 << 10,
            max_bytes: 1 << 20,
            sync_interval: Duration::from_secs(3_600),
        };
        for is_faulty in [false, true] {
            let mut journal = open_manual(disk.clone(), &options).expect("opens");
            journal.writers[0].append(10, |_| Some(10)).expect("space");
            let next = disk.operations();
            if is_faulty {
                (next..next + 100).for_each(|at| disk.inject_fault_at(at, Fault::IoError));
            }
            let interval = options.sync_interval;
            let thread = SyncThread::start(journal.maintenance, interval).expect("starts");
            assert_eq!(thread.stop().is_err(), is_faulty);
        }
    }
}
