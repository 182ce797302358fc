//! Ships what the journal holds to the aggregator, and lets the journal delete what ClickHouse has.
//!
//! Sealing, connecting and answering acknowledgements belong here; what an event says never does.

mod certificates;
mod conversation;
mod lane;
mod progress;
mod quic;
mod spool;

pub use certificates::{Certificates, Credentials};
pub use progress::Progress;
pub use quic::Quic;
pub use spool::Spool;

use crate::metrics::Metrics;
use conversation::Ended;
use event_shipping::{Refuse, RefuseCode, VisitorSalt, Welcome};
use std::future::Future;
use std::time::Duration;
use storage::{Disk, Storage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tracking_events::{Micros, NodeId};
use trusted_clock::SystemTimes;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Another process ships the same journal: reconnecting soon would only end its connection in turn.
const SUPERSEDED: &str = "superseded";

/// Everything the shipper works with.
#[derive(Debug)]
pub struct Shipper<S: Storage = Disk, D = Quic> {
    /// This node.
    pub node: NodeId,
    /// How the aggregator is reached.
    pub dial: D,
    /// What is to be shipped.
    pub spool: Spool<S>,
    /// What operators see.
    pub metrics: Metrics,
    /// Where the fleet's state goes with each welcome.
    pub fleet: watch::Sender<Option<FleetState>>,
}

/// What an aggregator says of the fleet when it welcomes a node.
#[derive(Debug, Clone, Copy)]
pub struct FleetState {
    /// The aggregator's time, if it trusts its clock.
    pub time: Option<Micros>,
    /// When that arrived.
    pub received: SystemTimes,
    /// The visitor salt of the current period.
    pub visitor_salt: Option<VisitorSalt>,
}

impl FleetState {
    /// What a welcome says that arrives now.
    #[must_use]
    pub fn of(welcome: &Welcome) -> Self {
        Self {
            time: (welcome.time_micros > 0).then_some(Micros(welcome.time_micros)),
            received: SystemTimes::now(),
            visitor_salt: welcome.visitor_salt,
        }
    }
}

/// Reaches the aggregator.
pub trait Dial: Send {
    /// What is said.
    type Send: AsyncWrite + Unpin + Send + 'static;
    /// What is heard.
    type Receive: AsyncRead + Unpin + Send + 'static;

    /// Who is reached, for the log.
    fn peer(&self) -> &str;

    /// Opens a stream in each direction.
    fn dial(&mut self) -> impl Future<Output = Result<(Self::Send, Self::Receive), Reason>> + Send;

    /// Resolves when the connection opened last is to be replaced by a new one.
    fn replaced(&self) -> impl Future<Output = ()> + Send + use<Self> {
        std::future::pending()
    }

    /// Gives up what was opened last, whatever is still under way.
    fn hang_up(&mut self);

    /// Waits until the other side has heard of it.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;
}

impl<S: Storage, D: Dial> Shipper<S, D> {
    /// Ships until `stop` turns true, reconnecting with growing pauses whenever it must.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut pause = FIRST_PAUSE;
        while !*stop.borrow() {
            let dialled = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                dialled = self.dial.dial() => dialled,
            };
            let reason = match dialled {
                Ok(streams) => {
                    let replaced = self.dial.replaced();
                    let ended = tokio::select! {
                        biased;
                        ended = conversation::hold(&mut self, streams, stop.clone()) => ended,
                        () = replaced => Ended {
                            welcomed: true,
                            reason: Reason::new("certificates", "certificates were replaced; reconnecting"),
                        },
                    };
                    self.metrics.connected.set(0);
                    self.spool.disconnected();
                    self.dial.hang_up();
                    if let Ended { welcomed: true, .. } = ended {
                        pause = FIRST_PAUSE;
                    }
                    ended.reason
                }
                Err(reason) => reason,
            };
            if *stop.borrow() {
                break;
            }
            if reason.label == SUPERSEDED {
                pause = LONGEST_PAUSE;
            }
            self.metrics
                .disconnects
                .with_label_values(&[reason.label])
                .inc();
            tracing::warn!(aggregator = self.dial.peer(), reason = %reason.detail, retry_in = ?pause, "not shipping; events are kept in the journal");
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.dial.finish().await;
    }
}

/// Why a connection could not be had or ended.
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
