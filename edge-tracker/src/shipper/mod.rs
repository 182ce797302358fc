//! Ships what the journal holds to the aggregator, and lets the journal delete what ClickHouse has.
//!
//! Sealing, connecting and answering acknowledgements belong here; what an event says never does.

mod conversation;
mod quic;
mod spool;

pub use quic::Quic;
pub use spool::{Progress, Spool};

use crate::metrics::Metrics;
use conversation::Ended;
use std::future::Future;
use std::time::Duration;
use storage::{Disk, Storage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tracking_events::NodeId;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
                    let ended = conversation::hold(&mut self, streams, stop.clone()).await;
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
}
