//! Streams between edges and the aggregator that are slow, stand still in one direction or both, and
//! break, after any byte. What QUIC makes good by itself, packets lost or out of order, shows as slow.

use edge_tracker::shipper::{Dial, Reason};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use storage::model::Random;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// Bytes under way in one direction.
const WINDOW: usize = 64 << 10;

/// Used in one direction only; whoever drops an end is gone for the other.
pub(crate) type Send = DuplexStream;
pub(crate) type Receive = DuplexStream;
/// The aggregator's ends of a connection.
pub(crate) type Arriving = (Send, Receive);

/// How the way between one edge and the aggregator is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Way {
    /// Bytes take up to so long.
    pub(crate) slow: Duration,
    pub(crate) up_cut: bool,
    pub(crate) down_cut: bool,
    /// Counts up when all connections break.
    pub(crate) broken: u64,
}

#[derive(Debug)]
struct State {
    random: Random,
    ways: BTreeMap<u16, watch::Sender<Way>>,
    aggregator: Option<mpsc::UnboundedSender<Arriving>>,
    connections: u64,
}

/// All ways; clones are the same network.
#[derive(Debug, Clone)]
pub(crate) struct Network(Arc<Mutex<State>>);

impl Network {
    pub(crate) fn new(seed: u64, edges: u16) -> Self {
        let ways = (1..=edges).map(|node| (node, watch::Sender::new(Way::default())));
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            ways: ways.collect(),
            aggregator: None,
            connections: 0,
        })))
    }

    /// Where connections arrive from now on.
    pub(crate) fn listen(&self) -> mpsc::UnboundedReceiver<Arriving> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().aggregator = Some(sender);
        receiver
    }

    pub(crate) fn change(&self, node: u16, change: impl FnOnce(&mut Way)) {
        self.lock().ways[&node].send_modify(change);
    }

    pub(crate) fn connections(&self) -> u64 {
        self.lock().connections
    }

    fn way(&self, node: u16) -> watch::Receiver<Way> {
        self.lock().ways[&node].subscribe()
    }

    fn below(&self, limit: u64) -> u64 {
        self.lock().random.below(limit)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics meanwhile")
    }

    /// Carries bytes until either end is gone or the way breaks, some portions at a time.
    async fn carry(self, node: u16, up: bool, mut from: Receive, mut to: Send) {
        let mut way = self.way(node);
        let broken = way.borrow().broken;
        let carrying = async {
            let mut ways = self.way(node);
            let mut portion = vec![0; 4_096];
            loop {
                let most = 1 + self.below(portion.len() as u64) as usize;
                let read = from.read(&mut portion[..most]).await.unwrap_or(0);
                let slow = ways.borrow().slow.as_micros() as u64;
                sleep(Duration::from_micros(self.below(slow + 1))).await;
                let open = |way: &Way| !(if up { way.up_cut } else { way.down_cut });
                if ways.wait_for(open).await.is_err() || read == 0 {
                    return;
                }
                if to.write_all(&portion[..read]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            _ = way.wait_for(|way| way.broken != broken) => {}
            () = carrying => {}
        }
    }
}

/// How an edge reaches the aggregator.
#[derive(Debug)]
pub(crate) struct Dialling {
    pub(crate) network: Network,
    pub(crate) node: u16,
}

impl Dial for Dialling {
    type Send = Send;
    type Receive = Receive;

    fn peer(&self) -> &str {
        "the aggregator"
    }

    async fn dial(&mut self) -> Result<(Send, Receive), Reason> {
        let network = self.network.clone();
        let open = |way: &Way| !way.up_cut && !way.down_cut;
        let mut way = network.way(self.node);
        let reached = tokio::time::timeout(Duration::from_secs(5), way.wait_for(open)).await;
        if reached.is_err() {
            return Err(Reason::new("connect_timeout", "no answer"));
        }
        let ((up, up_out), (up_in, up_end)) = (pipe(), pipe());
        let ((down, down_out), (down_in, down_end)) = (pipe(), pipe());
        let arriving = (down, up_end);
        {
            let mut state = network.lock();
            let aggregator = state.aggregator.as_ref();
            if aggregator.is_none_or(|it| it.send(arriving).is_err()) {
                return Err(Reason::new("connect", "nobody listens"));
            }
            state.connections += 1;
        }
        tokio::spawn(network.clone().carry(self.node, true, up_out, up_in));
        tokio::spawn(network.clone().carry(self.node, false, down_out, down_in));
        Ok((up, down_end))
    }

    /// What is under way still arrives.
    fn hang_up(&mut self) {}

    async fn finish(&mut self) {}
}

fn pipe() -> (Send, Receive) {
    duplex(WINDOW)
}
