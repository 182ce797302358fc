//! The lane of accepted reports, and that of rejections: each entry is durable before it is answered; who come at once share one
//! sync. Who writes does not ask for it: that comes when a thread that entries come from has nothing else to do
//! for now, or else soon, by the clock. A sync for each would cost more than all else that an entry costs.

use super::rejections::RejectionLane;
use event_journal::{AppendError, LaneWriter, SyncFailed, SyncRequest};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;
use tracking_events::{Event, MAX_EVENT_BYTES, Rejection};

/// A disk that takes longer is taken for broken.
const SYNC_WITHIN: Duration = Duration::from_secs(3);

/// Takes events that must survive a power cut.
#[derive(Debug, Clone)]
pub struct Ledger {
    lane: Arc<Mutex<LaneWriter>>,
    rejections: Arc<Mutex<RejectionLane>>,
    sync: SyncRequest,
}

/// What became of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    /// It is counted and durable in the journal.
    Logged,
    /// It is counted: its quota of the journal leaves no room for it.
    Counted,
}

type Synced = oneshot::Receiver<Result<(), SyncFailed>>;

/// Why an event is not durable; who sent it is to send it again.
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
}

impl Ledger {
    /// Writes accepted reports to `lane`, which is no one else's, and rejections to another.
    #[must_use]
    pub fn new(lane: LaneWriter, rejections: RejectionLane) -> Self {
        Self {
            sync: lane.sync_request(),
            lane: Arc::new(Mutex::new(lane)),
            rejections: Arc::new(Mutex::new(rejections)),
        }
    }

    /// Asks for the sync that somebody waits for; false when nobody does. Waits for nobody.
    pub(super) fn sync(&self) -> bool {
        self.sync.send()
    }

    /// Returns when the event is durable, after a [`Ledger::sync`]. It may be so although this returns an error.
    pub(super) async fn write(&self, event: &Event<'_>) -> Result<(), NotDurable> {
        let synced = {
            let mut lane = self.lane.lock().unwrap_or_else(PoisonError::into_inner);
            append(&mut lane, event)?
        };
        durable(synced).await
    }

    /// Counts a rejection, and returns when it is durable, too, unless the quota leaves it out.
    pub(super) async fn reject(&self, rejection: Rejection<'_>) -> Result<Recorded, NotDurable> {
        match self.append_rejection(rejection)? {
            Some(synced) => durable(synced).await.map(|()| Recorded::Logged),
            None => Ok(Recorded::Counted),
        }
    }

    fn append_rejection(&self, rejection: Rejection<'_>) -> Result<Option<Synced>, NotDurable> {
        let reason = rejection.reason_name;
        let rejections = &mut *self
            .rejections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let appended = if rejections.admits() {
            append(&mut rejections.lane, &Event::Rejection(rejection)).map(Some)
        } else {
            Ok(None)
        };
        let appended = match appended {
            // The journal may be full before the quota is.
            Err(NotDurable::NoRoom(_)) => Ok(None),
            other => other,
        };
        rejections.count(reason, matches!(appended, Ok(Some(_))));
        appended
    }
}

fn append(lane: &mut LaneWriter, event: &Event<'_>) -> Result<Synced, NotDurable> {
    let appended = lane.append(MAX_EVENT_BYTES, |room| {
        tracking_events::encode(event, room).ok()
    });
    let seq = appended.map_err(|error| match error {
        AppendError::Abandoned | AppendError::TooLong => NotDurable::TooLong,
        other => NotDurable::NoRoom(other),
    })?;
    let (done, synced) = oneshot::channel();
    lane.when_durable(seq, |outcome| {
        // Who waited may have gone.
        let _ = done.send(outcome);
    });
    Ok(synced)
}

async fn durable(synced: Synced) -> Result<(), NotDurable> {
    match tokio::time::timeout(SYNC_WITHIN, synced).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(_) => Err(NotDurable::SyncFailed),
        Err(_) => Err(NotDurable::TooSlow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use event_journal::{ManualJournal, OpenJournal, Options, open, open_manual};
    use std::path::Path;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use storage::Disk;
    use tracking_events::{FORMAT_VERSION, Micros, Rejection};

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
            // So long that nothing is synced unless somebody asks.
            sync_interval: Duration::from_secs(60),
        }
    }

    fn ledger(mut writers: Vec<LaneWriter>) -> Ledger {
        let rejections = writers.pop().expect("two");
        let metric = Metrics::new().rejections;
        let rejections = RejectionLane::new(rejections, 2 << 20, metric);
        Ledger::new(writers.pop().expect("one"), rejections)
    }

    /// Begins to write twice.
    fn begin<'l>(
        ledger: &'l Ledger,
    ) -> [Pin<Box<impl Future<Output = Result<(), NotDurable>> + 'l>>; 2] {
        let mut cx = Context::from_waker(Waker::noop());
        [(); 2].map(|()| {
            let mut writes = Box::pin(ledger.write(&EVENT));
            assert_eq!(writes.as_mut().poll(&mut cx), Poll::Pending);
            writes
        })
    }

    #[tokio::test]
    async fn who_writes_waits_for_the_sync_that_all_share() {
        let dir = tempfile::tempdir().expect("a folder");
        // Nobody but this test syncs.
        let ManualJournal {
            writers,
            maintenance,
            ..
        } = open_manual(Disk, &options(dir.path())).expect("opened");
        let ledger = ledger(writers);
        let before = maintenance.stats().syncs();
        let writes = begin(&ledger);
        maintenance.sync(false);
        for write in writes {
            assert_eq!(write.await, Ok(()));
        }
        assert_eq!(maintenance.stats().syncs(), before + 1);
    }

    #[tokio::test]
    async fn a_sync_is_asked_for_when_nobody_more_comes() {
        let dir = tempfile::tempdir().expect("a folder");
        let OpenJournal {
            writers,
            sync_thread: _sync_thread,
            ..
        } = open(&options(dir.path())).expect("opened");
        let ledger = ledger(writers);
        for _ in 0..3 {
            let writes = begin(&ledger);
            assert!(ledger.sync(), "who writes does not ask");
            assert!(!ledger.sync(), "once is enough");
            for write in writes {
                assert_eq!(write.await, Ok(()));
            }
        }
    }
}
