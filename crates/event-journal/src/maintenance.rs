//! Periodic work of a journal: preallocated segments, syncs, and callbacks that wait for them.

use crate::error::SyncFailed;
use crate::lane::Lane;
use crate::stats::JournalStats;
use crate::sync_signal::SyncSignal;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use storage::Storage;

/// Periodic work of a journal; the sync thread does it, or the caller of [`open_manual`].
///
/// [`open_manual`]: crate::open_manual
pub struct JournalMaintenance<S: Storage> {
    pub(crate) lanes: Vec<Arc<Lane<S>>>,
    pub(crate) stats: Arc<JournalStats>,
    pub(crate) signal: Arc<SyncSignal>,
}

impl<S: Storage> fmt::Debug for JournalMaintenance<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalMaintenance")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> JournalMaintenance<S> {
    /// The journal's sizes and sync results.
    #[must_use]
    pub fn stats(&self) -> Arc<JournalStats> {
        self.stats.clone()
    }

    /// Creates a spare segment for each lane that has none. A failure is not reported here: the
    /// writer reports it when it needs the segment.
    pub fn preallocate_segments(&self) {
        for lane in self.lanes.iter().filter(|lane| lane.is_written) {
            // The lock is held during the creation. Otherwise the writer could create a segment of its
            // own concurrently and use the two in another order than their numbers.
            let mut spare = lane.spare.lock();
            if spare.is_none() {
                *spare = lane.prepare_segment().ok();
            }
        }
    }

    /// Syncs every lane if `all`, else only lanes with waiting callbacks.
    pub fn sync(&self, all: bool) {
        for lane in &self.lanes {
            if all || !lane.waiters.lock().is_empty() {
                lane.sync();
            }
        }
    }

    /// Syncs one last time. Callbacks that wait for later sequences get an error.
    ///
    /// # Errors
    /// When a sync failed at any time since the journal was opened.
    pub fn close(&self) -> Result<(), SyncFailed> {
        self.lanes.iter().for_each(|lane| lane.close());
        if self.has_sync_failed() {
            Err(SyncFailed)
        } else {
            Ok(())
        }
    }

    pub(crate) fn has_sync_failed(&self) -> bool {
        let failed = |lane: &Arc<Lane<S>>| lane.sync_failed.load(Ordering::Acquire);
        self.lanes.iter().any(failed)
    }
}
