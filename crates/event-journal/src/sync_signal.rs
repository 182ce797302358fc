//! Wakes the sync thread, at once or when a deferred sync is requested.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};

/// Wakes the sync thread, if one was started.
#[derive(Debug, Default)]
pub(crate) struct SyncSignal {
    thread: OnceLock<Thread>,
    /// Whether a callback waits for a sync that has not been requested yet.
    deferred: AtomicBool,
}

impl SyncSignal {
    /// Makes the calling thread the one to be woken.
    pub(crate) fn register_current_thread(&self) {
        let _ = self.thread.set(thread::current());
    }

    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Leaves the sync to a [`SyncRequest`]. The caller registers its callback first, so that no
    /// request comes too early for it.
    pub(crate) fn defer_sync(&self) {
        self.deferred.store(true, Ordering::Release);
    }
}

/// Requests the deferred sync of a journal, from any thread and without blocking.
#[derive(Debug, Clone)]
pub struct SyncRequest(pub(crate) Arc<SyncSignal>);

impl SyncRequest {
    /// Requests the sync if a callback waits for it; returns whether one does.
    pub fn send(&self) -> bool {
        let deferred = self.0.deferred.swap(false, Ordering::AcqRel);
        if deferred {
            self.0.wake();
        }
        deferred
    }
}
