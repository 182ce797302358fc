//! Streams between edges and the aggregator that are slow, stand still in one direction or both, and
//! break, after any byte. What QUIC makes good by itself, packets lost or out of order, shows as slow.

use edge_tracker::shipper::{Dial, Reason};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use storage::model::Random;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::{Notify, mpsc};
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
    ways: BTreeMap<u16, Way>,
    aggregator: Option<mpsc::UnboundedSender<Arriving>>,
    connections: u64,
}

/// All ways; clones are the same network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    state: Arc<Mutex<State>>,
    /// A way is other than before.
    changed: Arc<Notify>,
}

impl Network {
    pub(crate) fn new(seed: u64, edges: u16) -> Self {
        let state = State {
            random: Random::new(seed),
            ways: (1..=edges).map(|node| (node, Way::default())).collect(),
            aggregator: None,
            connections: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changed: Arc::default(),
        }
    }

    /// Where connections arrive from now on.
    pub(crate) fn listen(&self) -> mpsc::UnboundedReceiver<Arriving> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().aggregator = Some(sender);
        receiver
    }

    pub(crate) fn change(&self, node: u16, change: impl FnOnce(&mut Way)) {
        if let Some(way) = self.lock().ways.get_mut(&node) {
            change(way);
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn connections(&self) -> u64 {
        self.lock().connections
    }

    fn way(&self, node: u16) -> Way {
        self.lock().ways[&node]
    }

    async fn wait_for(&self, node: u16, wanted: impl Fn(&Way) -> bool) {
        loop {
            let changed = self.changed.notified();
            if wanted(&self.way(node)) {
                return;
            }
            changed.await;
        }
    }

    fn below(&self, limit: u64) -> u64 {
        self.lock().random.below(limit)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics meanwhile")
    }

    /// Carries bytes until either end is gone or the way breaks, some portions at a time.
    async fn carry(self, node: u16, up: bool, mut from: Receive, mut to: Send) {
        let broken = self.way(node).broken;
        let carrying = async {
            let mut portion = vec![0; 4_096];
            loop {
                let most = 1 + self.below(portion.len() as u64) as usize;
                let read = from.read(&mut portion[..most]).await.unwrap_or(0);
                let slow = self.way(node).slow.as_micros() as u64;
                sleep(Duration::from_micros(self.below(slow + 1))).await;
                let open = |way: &Way| !(if up { way.up_cut } else { way.down_cut });
                self.wait_for(node, open).await;
                if read == 0 || to.write_all(&portion[..read]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = self.wait_for(node, |way| way.broken != broken) => {}
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
        let reached = network.wait_for(self.node, open);
        let reached = tokio::time::timeout(Duration::from_secs(5), reached).await;
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
