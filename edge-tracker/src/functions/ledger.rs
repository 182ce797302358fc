//! The lane of what is money: each entry is durable before it is answered; who come at once share one
//! sync.

use event_journal::{AppendError, LaneWriter};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;
use tracking_events::{Event, MAX_EVENT_BYTES};

/// A disk that takes longer is taken for broken.
const SYNC_WITHIN: Duration = Duration::from_secs(3);

/// Takes events that must survive a power cut.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Mutex<LaneWriter>>);

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
    /// Writes to `lane`, which is nobody else's.
    #[must_use]
    pub fn new(lane: LaneWriter) -> Self {
        Self(Arc::new(Mutex::new(lane)))
    }

    /// Returns when the event is durable. It may be so although this returns an error.
    pub(super) async fn write(&self, event: &Event<'_>) -> Result<(), NotDurable> {
        let synced = self.append(event)?;
        match tokio::time::timeout(SYNC_WITHIN, synced).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(_) => Err(NotDurable::SyncFailed),
            Err(_) => Err(NotDurable::TooSlow),
        }
    }

    fn append(
        &self,
        event: &Event<'_>,
    ) -> Result<oneshot::Receiver<Result<(), event_journal::SyncFailed>>, NotDurable> {
        let mut lane = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let appended = lane.append(MAX_EVENT_BYTES, |room| {
            tracking_events::encode(event, room).ok()
        });
        let seq = appended.map_err(|error| match error {
            AppendError::Abandoned | AppendError::TooLong => NotDurable::TooLong,
            other => NotDurable::NoRoom(other),
        })?;
        let (done, synced) = oneshot::channel();
        lane.sync_through(seq, |outcome| {
            // Who waited may have gone.
            let _ = done.send(outcome);
        });
        Ok(synced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_journal::{Options, Unkept, open_on};
    use std::pin::pin;
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

    #[tokio::test]
    async fn who_writes_waits_for_the_sync_that_all_share() {
        let dir = tempfile::tempdir().expect("a folder");
        let options = Options {
            dir: dir.path().into(),
            lanes: 1,
            format_version: FORMAT_VERSION,
            segment_bytes: 1 << 20,
            max_bytes: 4 << 20,
            sync_interval: Duration::from_secs(60),
        };
        // Nobody but this test syncs.
        let Unkept {
            mut writers,
            upkeep,
            ..
        } = open_on(Disk, &options).expect("opened");
        let ledger = Ledger::new(writers.pop().expect("one"));
        let (mut first, mut second) = (pin!(ledger.write(&EVENT)), pin!(ledger.write(&EVENT)));
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(first.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(second.as_mut().poll(&mut cx), Poll::Pending);
        let before = upkeep.stats().syncs();
        upkeep.sync(false);
        assert_eq!(first.await, Ok(()));
        assert_eq!(second.await, Ok(()));
        assert_eq!(upkeep.stats().syncs(), before + 1);
    }
}
