//! Limits handshakes of peers that are not authenticated yet. They have slots of their own, so that strangers use none
//! of the edges' slots. Failures are logged together.

use super::metrics::ConnectionMetrics;
use crate::metrics::Metrics;
use quinn::{Connection, Incoming};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::timeout;

/// The limit of handshakes in progress.
const MAX_HANDSHAKES: usize = 256;

/// From this number on, an address must prove by a QUIC Retry that it receives packets: forged addresses use at most
/// half of the slots.
const RETRY_HANDSHAKES: usize = MAX_HANDSHAKES / 2;

/// The limit of handshakes from proven addresses of one network (an IPv4 address or an IPv6 /64). Together with forged
/// addresses, a network leaves a quarter of the slots to others.
const MAX_NETWORK_HANDSHAKES: usize = MAX_HANDSHAKES / 4;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often failures are logged.
pub(super) const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The longest reason in a log line, in characters; the peer may have chosen it.
const MAX_REASON_CHARS: usize = 200;

/// All handshakes in progress.
pub(super) struct Handshakes {
    state: Mutex<HandshakeState>,
    metrics: Metrics,
    connections: ConnectionMetrics,
}

#[derive(Default)]
struct HandshakeState {
    in_progress: usize,
    /// Handshakes from proven addresses, by network.
    by_network: HashMap<IpAddr, usize>,
    failures: u64,
    last_failure: Option<(SocketAddr, String)>,
}

/// The decision about a new connection.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Accept,
    Retry,
    Refuse,
}

/// The slot of one handshake, released when dropped.
pub(super) struct HandshakeSlot {
    handshakes: Arc<Handshakes>,
    network: Option<IpAddr>,
}

impl Handshakes {
    pub(super) fn new(metrics: Metrics, connections: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            metrics,
            connections,
        })
    }

    /// A slot for a new connection. Without one, the connection was already retried or refused.
    pub(super) fn admit(self: &Arc<Self>, incoming: Incoming) -> Option<(Incoming, HandshakeSlot)> {
        let address = incoming.remote_address();
        let network = incoming
            .remote_address_validated()
            .then(|| network(address.ip()));
        let admission = self.lock().admit(network);
        match admission {
            Admission::Accept => {
                let handshakes = Arc::clone(self);
                return Some((
                    incoming,
                    HandshakeSlot {
                        handshakes,
                        network,
                    },
                ));
            }
            Admission::Retry => {
                self.connections.handshake_retries.inc();
                // A retry is always possible for an unproven address.
                let _ = incoming.retry();
            }
            Admission::Refuse => {
                self.failed("handshake_busy", address, "too many handshakes in progress");
                incoming.refuse();
            }
        }
        None
    }

    /// Completes a handshake; counts a failure.
    pub(super) async fn complete(
        &self,
        incoming: Incoming,
        _slot: HandshakeSlot,
    ) -> Option<Connection> {
        let address = incoming.remote_address();
        match timeout(HANDSHAKE_TIMEOUT, incoming).await {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(error)) => self.failed("handshake", address, &error.to_string()),
            Err(_) => self.failed(
                "handshake",
                address,
                "the handshake was not completed in time",
            ),
        }
        None
    }

    fn failed(&self, label: &str, address: SocketAddr, reason: &str) {
        self.metrics.refused.with_label_values(&[label]).inc();
        let printable = reason.chars().filter(|c| !c.is_control());
        let reason = printable.take(MAX_REASON_CHARS).collect();
        let mut state = self.lock();
        state.failures += 1;
        state.last_failure = Some((address, reason));
    }

    /// Logs one line about all failures since the last call.
    pub(super) fn log_failures(&self) {
        let (count, last) = {
            let mut state = self.lock();
            (
                std::mem::take(&mut state.failures),
                state.last_failure.take(),
            )
        };
        if let Some((address, reason)) = last {
            tracing::warn!(count, last_address = %address, last_reason = reason, "handshakes failed; was the edge's certificate issued by an authority in ca.pem?");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HandshakeState> {
        self.state
            .lock()
            .expect("no thread panics while it holds the lock")
    }
}

impl HandshakeState {
    /// Takes a slot for a connection from `network`, which is `None` for an unproven address.
    fn admit(&mut self, network: Option<IpAddr>) -> Admission {
        if self.in_progress >= MAX_HANDSHAKES {
            return Admission::Refuse;
        }
        match network {
            None if self.in_progress >= RETRY_HANDSHAKES => return Admission::Retry,
            None => {}
            Some(network) => {
                let taken = self.by_network.entry(network).or_default();
                if *taken >= MAX_NETWORK_HANDSHAKES {
                    return Admission::Refuse;
                }
                *taken += 1;
            }
        }
        self.in_progress += 1;
        Admission::Accept
    }

    fn release(&mut self, network: Option<IpAddr>) {
        self.in_progress -= 1;
        if let Some(network) = network
            && let Some(taken) = self.by_network.get_mut(&network)
        {
            *taken -= 1;
            if *taken == 0 {
                self.by_network.remove(&network);
            }
        }
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        self.handshakes.lock().release(self.network);
    }
}

/// The network whose addresses one host can choose freely.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = u128::from(address) >> 64 << 64;
            Ipv6Addr::from(prefix).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    #[test]
    fn unproven_addresses_take_half_of_the_slots() {
        let mut state = HandshakeState::default();
        for _ in 0..RETRY_HANDSHAKES {
            assert_eq!(state.admit(None), Admission::Accept);
        }
        assert_eq!(state.admit(None), Admission::Retry);
        assert_eq!(state.admit(address(1)), Admission::Accept);
    }

    #[test]
    fn one_network_leaves_slots_to_others() {
        let mut state = HandshakeState::default();
        while state.admit(None) == Admission::Accept {}
        for _ in 0..MAX_NETWORK_HANDSHAKES {
            assert_eq!(state.admit(address(1)), Admission::Accept);
        }
        assert_eq!(state.admit(address(1)), Admission::Refuse);
        assert_eq!(state.admit(address(2)), Admission::Accept);
    }

    #[test]
    fn released_slots_are_free_again() {
        let mut state = HandshakeState::default();
        for network in [None, address(1), address(2)] {
            assert_eq!(state.admit(network), Admission::Accept);
            state.release(network);
        }
        assert_eq!(state.in_progress, 0);
        assert!(state.by_network.is_empty());
    }

    #[test]
    fn addresses_of_an_ipv6_64_are_one_network() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("valid address");
        assert_eq!(network(parse("2001:db8::1")), network(parse("2001:db8::2")));
        assert_ne!(
            network(parse("2001:db8:0:1::1")),
            network(parse("2001:db8::1"))
        );
        assert_eq!(network(parse("::ffff:192.0.2.1")), parse("192.0.2.1"));
    }
}
