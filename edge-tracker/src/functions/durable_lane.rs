//! The durable lanes of accepted reports and of rejections, with group commit: each entry is durable before its
//! response, and simultaneous entries share one sync. A write does not request the sync: the sending thread does so
//! when it has no more entries, or the journal's interval causes it. One sync per entry would dominate the cost of an
//! entry.

use super::rejections::RejectionLane;
use event_journal::{AppendError, LaneWriter, SyncFailed, SyncRequest};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;
use tracking_events::{Event, MAX_EVENT_BYTES, Rejection};

/// A disk that takes longer is considered broken.
const SYNC_TIMEOUT: Duration = Duration::from_secs(3);

/// Appends events that must survive a power loss.
#[derive(Debug, Clone)]
pub struct DurableLane {
    lane: Arc<Mutex<LaneWriter>>,
    rejections: Arc<Mutex<RejectionLane>>,
    sync: SyncRequest,
    /// Read while a lane is locked.
    is_closed: Arc<AtomicBool>,
}

/// How a rejection was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RejectionRecord {
    /// Counted, and durable in the journal.
    Logged,
    /// Counted only: the quota of rejections leaves no room for it.
    Counted,
}

type SyncReceiver = oneshot::Receiver<Result<(), SyncFailed>>;

/// Why an event is not durable; its sender must retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum NotDurable {
    #[error("the event is longer than an event may be")]
    TooLong,
    #[error("the journal has no room: {0}")]
    NoRoom(AppendError),
    #[error("the journal can't be synced")]
    SyncFailed,
    #[error("the journal was not synced in time")]
    TooSlow,
    #[error("the edge is drained and accepts no more reports")]
    Drained,
}

impl DurableLane {
    /// Appends accepted reports to `lane`, which no other writer uses, and rejections to another lane.
    #[must_use]
    pub fn new(lane: LaneWriter, rejections: RejectionLane) -> Self {
        Self {
            sync: lane.sync_request(),
            lane: Arc::new(Mutex::new(lane)),
            rejections: Arc::new(Mutex::new(rejections)),
            is_closed: Arc::default(),
        }
    }

    /// Nothing is appended once this returns; waiting writes still become durable.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        // Writers that did not see it hold their lock; later ones see it.
        drop(self.lane.lock());
        drop(self.rejections.lock());
    }

    fn require_open(&self) -> Result<(), NotDurable> {
        match self.is_closed.load(Ordering::Relaxed) {
            true => Err(NotDurable::Drained),
            false => Ok(()),
        }
    }

    /// Requests the sync that writes wait for, without blocking; false when no write waits.
    pub(super) fn request_sync(&self) -> bool {
        self.sync.send()
    }

    /// Returns when the event is durable, after a [`DurableLane::request_sync`]. After an error the event may still be
    /// durable.
    pub(super) async fn write(&self, event: &Event<'_>) -> Result<(), NotDurable> {
        let synced = {
            let mut lane = self.lane.lock();
            self.require_open()?;
            append(&mut lane, event)?
        };
        wait_until_durable(synced).await
    }

    /// Counts a rejection, and returns when it is durable unless the quota excludes it.
    pub(super) async fn reject(
        &self,
        rejection: Rejection<'_>,
    ) -> Result<RejectionRecord, NotDurable> {
        match self.append_rejection(rejection)? {
            Some(synced) => wait_until_durable(synced)
                .await
                .map(|()| RejectionRecord::Logged),
            None => Ok(RejectionRecord::Counted),
        }
    }

    fn append_rejection(
        &self,
        rejection: Rejection<'_>,
    ) -> Result<Option<SyncReceiver>, NotDurable> {
        let reason = rejection.reason_name;
        let rejections = &mut *self.rejections.lock();
        self.require_open()?;
        let appended = if rejections.admits() {
            append(&mut rejections.lane, &Event::Rejection(rejection)).map(Some)
        } else {
            Ok(None)
        };
        let appended = match appended {
            // The journal may be full before the quota is used up.
            Err(NotDurable::NoRoom(_)) => Ok(None),
            other => other,
        };
        rejections.count(reason, matches!(appended, Ok(Some(_))));
        appended
    }
}

fn append(lane: &mut LaneWriter, event: &Event<'_>) -> Result<SyncReceiver, NotDurable> {
    let appended = lane.append(MAX_EVENT_BYTES, |room| {
        tracking_events::encode(event, room).ok()
    });
    let seq = appended.map_err(|error| match error {
        AppendError::Abandoned | AppendError::TooLong => NotDurable::TooLong,
        other => NotDurable::NoRoom(other),
    })?;
    let (done, synced) = oneshot::channel();
    lane.when_durable(seq, |outcome| {
        // The waiting request may have been cancelled.
        let _ = done.send(outcome);
    });
    Ok(synced)
}

async fn wait_until_durable(synced: SyncReceiver) -> Result<(), NotDurable> {
    match tokio::time::timeout(SYNC_TIMEOUT, synced).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(_) => Err(NotDurable::SyncFailed),
        Err(_) => Err(NotDurable::TooSlow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use domain::Micros;
    use event_journal::{ManualJournal, OpenJournal, Options, open, open_manual};
    use std::path::Path;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use storage::Disk;
    use tracking_events::{FORMAT_VERSION, Rejection};

    const EVENT: Event<'_> = Event::Rejection(Rejection {
        time: Micros(1),
        source: "postback",
        party: "acme",
        reason: 103,
        reason_name: "not_authentic",
        detail: "",
        request: "",
        status: 403,
        address: [0; 16],
    });

    fn options(dir: &Path) -> Options {
        Options {
            dir: dir.into(),
            lanes: 2,
            format_version: FORMAT_VERSION,
            segment_bytes: 1 << 20,
            max_bytes: 4 << 20,
            // So long that only requests cause a sync.
            sync_interval: Duration::from_secs(60),
        }
    }

    fn lane(mut writers: Vec<LaneWriter>) -> DurableLane {
        let rejections = writers.pop().expect("two");
        let metric = Metrics::new().rejections;
        let rejections = RejectionLane::new(rejections, 2 << 20, metric);
        DurableLane::new(writers.pop().expect("one"), rejections)
    }

    /// Starts two writes.
    fn start_writes<'l>(
        lane: &'l DurableLane,
    ) -> [Pin<Box<impl Future<Output = Result<(), NotDurable>> + 'l>>; 2] {
        let mut cx = Context::from_waker(Waker::noop());
        [(); 2].map(|()| {
            let mut writes = Box::pin(lane.write(&EVENT));
            assert_eq!(writes.as_mut().poll(&mut cx), Poll::Pending);
            writes
        })
    }

    #[tokio::test]
    async fn writes_share_one_sync() {
        let dir = tempfile::tempdir().expect("temporary directory");
        // Only this test syncs.
        let ManualJournal {
            writers,
            maintenance,
            ..
        } = open_manual(Disk, &options(dir.path())).expect("opened");
        let lane = lane(writers);
        let before = maintenance.stats().syncs();
        let writes = start_writes(&lane);
        maintenance.sync(false);
        for write in writes {
            assert_eq!(write.await, Ok(()));
        }
        assert_eq!(maintenance.stats().syncs(), before + 1);
    }

    #[tokio::test]
    async fn sync_is_requested_when_no_more_writes_arrive() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let OpenJournal {
            writers,
            sync_thread: _sync_thread,
            ..
        } = open(&options(dir.path())).expect("opened");
        let lane = lane(writers);
        for _ in 0..3 {
            let writes = start_writes(&lane);
            assert!(lane.request_sync(), "a write does not request the sync");
            assert!(!lane.request_sync(), "one request is enough");
            for write in writes {
                assert_eq!(write.await, Ok(()));
            }
        }
    }
}
