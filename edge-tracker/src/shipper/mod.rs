//! Ships the journal's events to the aggregator, and releases events that are in ClickHouse.
//!
//! Sealing, connecting and handling acknowledgements belong here; the content of events never does.

mod certificates;
mod drain;
mod lane;
mod progress;
mod quic;
mod session;
mod spans;
mod spool;

pub use certificates::{Certificates, Credentials};
pub use drain::{DrainControl, DrainWatch, Remaining, drain_channel};
pub use progress::ShippingProgress;
pub use quic::Quic;
pub use spool::Spool;

use crate::metrics::Metrics;
use daemon::backoff::Backoff;
use domain::{Micros, NodeId};
use event_shipping::{Refuse, RefuseCode, VisitorSalt, Welcome};
use session::SessionEnd;
use std::future::Future;
use std::time::Duration;
use storage::{Disk, Storage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use trusted_clock::SystemTimes;

const RECONNECT: Backoff = Backoff::doubling(Duration::from_millis(100), Duration::from_secs(5));
/// Another process ships the same journal: reconnecting soon would only end its connection in turn.
const SUPERSEDED: &str = "superseded";

/// The shipper of a node.
#[derive(Debug)]
pub struct Shipper<S: Storage = Disk, D = Quic> {
    /// This node.
    pub node: NodeId,
    /// Opens connections to the aggregator.
    pub dial: D,
    /// The events to be shipped.
    pub spool: Spool<S>,
    /// The node's metrics.
    pub metrics: Metrics,
    /// Receives the fleet's state with each welcome.
    pub fleet: watch::Sender<Option<FleetState>>,
    /// Requests that everything is shipped, and receives what remains.
    pub drain: DrainWatch,
}

/// The state of the fleet in a welcome.
#[derive(Debug, Clone, Copy)]
pub struct FleetState {
    /// The aggregator's time, if it trusts its clock.
    pub time: Option<Micros>,
    /// When it was received.
    pub received: SystemTimes,
    /// The visitor salt of the current period.
    pub visitor_salt: Option<VisitorSalt>,
}

impl FleetState {
    /// The state in a welcome that is received now.
    #[must_use]
    pub fn of(welcome: &Welcome) -> Self {
        Self {
            time: (welcome.time_micros > 0).then_some(Micros(welcome.time_micros)),
            received: SystemTimes::now(),
            visitor_salt: welcome.visitor_salt,
        }
    }
}

/// Opens connections to the aggregator.
pub trait Dial: Send {
    /// The outgoing stream.
    type Send: AsyncWrite + Unpin + Send + 'static;
    /// The incoming stream.
    type Receive: AsyncRead + Unpin + Send + 'static;

    /// The aggregator's address, for the log.
    fn peer(&self) -> &str;

    /// Opens a stream in each direction.
    fn dial(&mut self) -> impl Future<Output = Result<(Self::Send, Self::Receive), Reason>> + Send;

    /// Resolves when the last connection is to be replaced by a new one.
    fn replaced(&self) -> impl Future<Output = ()> + Send + use<Self> {
        std::future::pending()
    }

    /// Closes the last connection, even with messages in progress.
    fn close(&mut self);

    /// Waits until the aggregator was notified.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;
}

impl<S: Storage, D: Dial> Shipper<S, D> {
    /// Ships until `stop` turns true, reconnecting with growing pauses whenever it must.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0_u32;
        let mut problem = None;
        while !*stop.borrow() {
            self.report_remaining(problem.as_deref());
            let dialled = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                // Reports at once what remains.
                () = self.drain.begins() => continue,
                dialled = self.dial.dial() => dialled,
            };
            let reason = match dialled {
                Ok(streams) => {
                    let replaced = self.dial.replaced();
                    let ended = tokio::select! {
                        biased;
                        ended = session::run(&mut self, streams, stop.clone()) => ended,
                        () = replaced => SessionEnd {
                            welcomed: true,
                            reason: Reason::new("certificates", "certificates were replaced; reconnecting"),
                        },
                    };
                    self.metrics.connected.set(0);
                    self.spool.disconnected();
                    self.dial.close();
                    if let SessionEnd { welcomed: true, .. } = ended {
                        failures = 0;
                    }
                    ended.reason
                }
                Err(reason) => reason,
            };
            if *stop.borrow() {
                break;
            }
            failures = match reason.label {
                SUPERSEDED => u32::MAX,
                _ => failures.saturating_add(1),
            };
            let pause = RECONNECT.pause(failures);
            self.metrics
                .disconnects
                .with_label_values(&[reason.label])
                .inc();
            tracing::warn!(aggregator = self.dial.peer(), reason = %reason.detail, retry_in = ?pause, "not shipping; events are kept in the journal");
            self.report_remaining(Some(&reason.detail));
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                () = self.drain.begins() => {}
                () = tokio::time::sleep(pause) => {}
            }
            problem = Some(reason.detail);
        }
        self.dial.finish().await;
    }

    /// While the edge is drained, reports what remains, and the `problem` while there is no connection.
    fn report_remaining(&mut self, problem: Option<&str>) {
        if self.drain.has_begun() {
            self.spool.seal_at_once();
            self.drain.report(Remaining {
                count: self.spool.remaining(),
                problem: problem.map(ToOwned::to_owned),
            });
        }
    }
}

/// Why a connection failed or ended.
#[derive(Debug)]
pub struct Reason {
    label: &'static str,
    detail: String,
}

impl Reason {
    /// `label` is for metrics, `detail` for the log.
    pub fn new(label: &'static str, detail: impl ToString) -> Self {
        Self {
            label,
            detail: detail.to_string(),
        }
    }

    fn refused(refuse: Refuse) -> Self {
        let label = if refuse.code == RefuseCode::Superseded.number() {
            SUPERSEDED
        } else {
            "refused"
        };
        Self::new(label, refuse.message)
    }
}
