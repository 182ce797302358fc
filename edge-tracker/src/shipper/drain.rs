//! The drain of a shipper: from its request on, events are sealed at once, and the shipper reports what remains.

use event_journal::EventCount;
use std::future::pending;
use tokio::sync::watch;

/// What an edge has not got acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Events and bytes in the journal that the aggregator has not acknowledged.
    pub count: EventCount,
    /// Why the shipper is not connected, as far as it knows.
    pub problem: Option<String>,
}

impl Remaining {
    /// Whether every event was acknowledged.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count.events == 0
    }
}

/// Requests the drain of a shipper, and shows its progress.
#[derive(Debug)]
pub struct DrainControl {
    requested: watch::Sender<bool>,
    remaining: watch::Receiver<Option<Remaining>>,
}

/// The shipper's side of a [`DrainControl`].
#[derive(Debug)]
pub struct DrainWatch {
    requested: watch::Receiver<bool>,
    remaining: watch::Sender<Option<Remaining>>,
    has_begun: bool,
}

/// Both sides of a drain.
#[must_use]
pub fn drain_channel() -> (DrainControl, DrainWatch) {
    let (request, requested) = watch::channel(false);
    let (report, remaining) = watch::channel(None);
    let control = DrainControl {
        requested: request,
        remaining,
    };
    let watch = DrainWatch {
        requested,
        remaining: report,
        has_begun: false,
    };
    (control, watch)
}

impl DrainControl {
    /// Requests the drain. Nothing may be appended to the journal from now on.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    /// What remains, as reported since the request; `None` before the first report.
    #[must_use]
    pub fn remaining(&self) -> watch::Receiver<Option<Remaining>> {
        self.remaining.clone()
    }
}

impl DrainWatch {
    /// Resolves once, when the drain begins.
    pub(super) async fn begins(&mut self) {
        if !self.has_begun
            && self
                .requested
                .wait_for(|requested| *requested)
                .await
                .is_ok()
        {
            self.has_begun = true;
            return;
        }
        pending().await
    }

    /// Whether the drain has begun.
    pub(super) fn has_begun(&mut self) -> bool {
        self.has_begun |= *self.requested.borrow();
        self.has_begun
    }

    pub(super) fn report(&self, remaining: Remaining) {
        self.remaining.send_if_modified(|before| {
            let differs = before.as_ref() != Some(&remaining);
            *before = Some(remaining);
            differs
        });
    }
}
