//! Streams between edges and the aggregator that are slow, stall in one or both directions, or break after any
//! byte. Packet loss and reordering, which QUIC repairs, appear as delay.

use edge_tracker::shipper::{Dial, Reason};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use storage::model::Random;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

/// Bytes in flight in one direction.
const MAX_IN_FLIGHT_BYTES: usize = 64 << 10;

/// Used in one direction only; dropping one end closes the other.
pub(crate) type Send = DuplexStream;
pub(crate) type Receive = DuplexStream;
/// The aggregator's ends of a connection.
pub(crate) type AggregatorEnds = (Send, Receive);

/// Faults of the link between one edge and the aggregator.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LinkFaults {
    /// Maximum delay of bytes.
    pub(crate) max_delay: Duration,
    pub(crate) up_cut: bool,
    pub(crate) down_cut: bool,
    /// Incremented when all connections break.
    pub(crate) break_count: u64,
}

#[derive(Debug)]
struct NetworkState {
    random: Random,
    links: BTreeMap<u16, LinkFaults>,
    aggregator: Option<mpsc::UnboundedSender<AggregatorEnds>>,
    connections: u64,
}

/// All links; clones share their state.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    state: Arc<Mutex<NetworkState>>,
    /// Notified when a link's faults change.
    changed: Arc<Notify>,
}

impl Network {
    pub(crate) fn new(seed: u64, edges: u16) -> Self {
        let state = NetworkState {
            random: Random::new(seed),
            links: (1..=edges)
                .map(|node| (node, LinkFaults::default()))
                .collect(),
            aggregator: None,
            connections: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changed: Arc::default(),
        }
    }

    /// Connections arrive here from now on.
    pub(crate) fn listen(&self) -> mpsc::UnboundedReceiver<AggregatorEnds> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().aggregator = Some(sender);
        receiver
    }

    pub(crate) fn change(&self, node: u16, change: impl FnOnce(&mut LinkFaults)) {
        if let Some(link) = self.lock().links.get_mut(&node) {
            change(link);
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn connections(&self) -> u64 {
        self.lock().connections
    }

    fn link(&self, node: u16) -> LinkFaults {
        self.lock().links[&node]
    }

    async fn wait_for(&self, node: u16, condition: impl Fn(&LinkFaults) -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition(&self.link(node)) {
                return;
            }
            changed.await;
        }
    }

    fn below(&self, limit: u64) -> u64 {
        self.lock().random.below(limit)
    }

    fn lock(&self) -> MutexGuard<'_, NetworkState> {
        self.state.lock().expect("no other task panicked")
    }

    /// Forwards bytes in chunks until either end closes or the link breaks.
    async fn carry(self, node: u16, up: bool, mut from: Receive, mut to: Send) {
        let break_count = self.link(node).break_count;
        let carrying = async {
            let mut portion = vec![0; 4_096];
            loop {
                let limit = 1 + self.below(portion.len() as u64) as usize;
                let read = from.read(&mut portion[..limit]).await.unwrap_or(0);
                let max_delay = self.link(node).max_delay.as_micros() as u64;
                sleep(Duration::from_micros(self.below(max_delay + 1))).await;
                let open = |link: &LinkFaults| !(if up { link.up_cut } else { link.down_cut });
                self.wait_for(node, open).await;
                if read == 0 || to.write_all(&portion[..read]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = self.wait_for(node, |link| link.break_count != break_count) => {}
            () = carrying => {}
        }
    }
}

/// How an edge reaches the aggregator.
#[derive(Debug)]
pub(crate) struct SimulatedDial {
    pub(crate) network: Network,
    pub(crate) node: u16,
}

impl Dial for SimulatedDial {
    type Send = Send;
    type Receive = Receive;

    fn peer(&self) -> &str {
        "the aggregator"
    }

    async fn dial(&mut self) -> Result<(Send, Receive), Reason> {
        let network = self.network.clone();
        let open = |link: &LinkFaults| !link.up_cut && !link.down_cut;
        let reached = network.wait_for(self.node, open);
        let reached = tokio::time::timeout(Duration::from_secs(5), reached).await;
        if reached.is_err() {
            return Err(Reason::new("connect_timeout", "no response"));
        }
        let ((up, up_out), (up_in, up_end)) = (pipe(), pipe());
        let ((down, down_out), (down_in, down_end)) = (pipe(), pipe());
        let arriving = (down, up_end);
        {
            let mut state = network.lock();
            let aggregator = state.aggregator.as_ref();
            if aggregator.is_none_or(|it| it.send(arriving).is_err()) {
                return Err(Reason::new("connect", "no aggregator listens"));
            }
            state.connections += 1;
        }
        tokio::spawn(network.clone().carry(self.node, true, up_out, up_in));
        tokio::spawn(network.clone().carry(self.node, false, down_out, down_in));
        Ok((up, down_end))
    }

    /// Bytes in flight still arrive.
    fn close(&mut self) {}

    async fn finish(&mut self) {}
}

fn pipe() -> (Send, Receive) {
    duplex(MAX_IN_FLIGHT_BYTES)
}
