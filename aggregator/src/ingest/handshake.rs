//! Handshakes of peers that are not authenticated yet: bounded, with places of their own, so that
//! strangers take none of the places of edges. Their failures are logged together.

use super::metrics::ConnectionMetrics;
use crate::metrics::Metrics;
use quinn::{Connection, Incoming};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::timeout;

/// Handshakes in progress; beyond, new ones are refused.
const MAX_HANDSHAKES: usize = 256;

/// From here on an address must prove, by a QUIC Retry, that it receives what is sent to it: forged
/// addresses take no more than half of the places.
const RETRY_HANDSHAKES: usize = MAX_HANDSHAKES / 2;

/// Handshakes in progress from proven addresses of one network (an IPv4 address or an IPv6 /64):
/// together with forged addresses it leaves a quarter of the places to others.
const MAX_NETWORK_HANDSHAKES: usize = MAX_HANDSHAKES / 4;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often failures are logged.
pub(super) const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The longest reason in a log line, in characters; the peer may have chosen it.
const MAX_REASON_CHARS: usize = 200;

/// All handshakes in progress.
pub(super) struct Handshakes {
    state: Mutex<State>,
    metrics: Metrics,
    connections: ConnectionMetrics,
}

#[derive(Default)]
struct State {
    in_progress: usize,
    /// Those from proven addresses, by network.
    by_network: HashMap<IpAddr, usize>,
    failures: u64,
    last_failure: Option<(SocketAddr, String)>,
}

/// What is done with a new connection.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Accept,
    Retry,
    Refuse,
}

/// The place of one handshake; free again when dropped.
pub(super) struct HandshakePlace {
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

    /// A place for a new connection; without one it was answered already.
    pub(super) fn admit(
        self: &Arc<Self>,
        incoming: Incoming,
    ) -> Option<(Incoming, HandshakePlace)> {
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
                    HandshakePlace {
                        handshakes,
                        network,
                    },
                ));
            }
            Admission::Retry => {
                self.connections.handshake_retries.inc();
                // An address that is not proven may always be asked to prove itself.
                let _ = incoming.retry();
            }
            Admission::Refuse => {
                self.failed("handshake_busy", address, "too many handshakes in progress");
                incoming.refuse();
            }
        }
        None
    }

    /// Completes a handshake, or counts why not.
    pub(super) async fn complete(
        &self,
        incoming: Incoming,
        _place: HandshakePlace,
    ) -> Option<Connection> {
        let address = incoming.remote_address();
        match timeout(HANDSHAKE_TIMEOUT, incoming).await {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(error)) => self.failed("handshake", address, &error.to_string()),
            Err(_) => self.failed("handshake", address, "not completed in time"),
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while holding it")
    }
}

impl State {
    /// Takes a place for a connection from `network`, which is `None` for an unproven address.
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

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        self.handshakes.lock().release(self.network);
    }
}

/// What one host can choose its addresses from.
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
    fn unproven_addresses_take_half_of_the_places() {
        let mut state = State::default();
        for _ in 0..RETRY_HANDSHAKES {
            assert_eq!(state.admit(None), Admission::Accept);
        }
        assert_eq!(state.admit(None), Admission::Retry);
        assert_eq!(state.admit(address(1)), Admission::Accept);
    }

    #[test]
    fn one_network_leaves_places_to_others() {
        let mut state = State::default();
        while state.admit(None) == Admission::Accept {}
        for _ in 0..MAX_NETWORK_HANDSHAKES {
            assert_eq!(state.admit(address(1)), Admission::Accept);
        }
        assert_eq!(state.admit(address(1)), Admission::Refuse);
        assert_eq!(state.admit(address(2)), Admission::Accept);
    }

    #[test]
    fn released_places_are_free_again() {
        let mut state = State::default();
        for network in [None, address(1), address(2)] {
            assert_eq!(state.admit(network), Admission::Accept);
            state.release(network);
        }
        assert_eq!(state.in_progress, 0);
        assert!(state.by_network.is_empty());
    }

    #[test]
    fn addresses_of_an_ipv6_64_are_one_network() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network(parse("2001:db8::1")), network(parse("2001:db8::2")));
        assert_ne!(
            network(parse("2001:db8:0:1::1")),
            network(parse("2001:db8::1"))
        );
        assert_eq!(network(parse("::ffff:192.0.2.1")), parse("192.0.2.1"));
    }
}
