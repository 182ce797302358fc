//! Relays that simulate network faults: a UDP relay that drops, delays, duplicates and reorders packets, and a TCP
//! relay that stalls or cuts responses. Neither interprets the forwarded bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::traffic::Random;

/// Faults of packets in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PacketFaults {
    /// All packets are dropped.
    pub(super) drop_all: bool,
    /// Percentage of dropped packets.
    pub(super) loss_percent: u64,
    /// Percentage of duplicated packets.
    pub(super) duplicate_percent: u64,
    /// Maximum random delay; it reorders packets.
    pub(super) delay: Duration,
}

#[derive(Debug)]
struct RelayState {
    /// Towards the target, and back.
    directions: [PacketFaults; 2],
    target: Option<SocketAddr>,
    random: Random,
}

/// A UDP relay with one target.
#[derive(Debug, Clone)]
pub(super) struct UdpRelay {
    pub(super) port: u16,
    conditions: Arc<Mutex<RelayState>>,
}

/// A packet with its send time and destination.
struct DelayedPacket {
    at: Instant,
    bytes: Vec<u8>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

impl PartialEq for DelayedPacket {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for DelayedPacket {}

impl PartialOrd for DelayedPacket {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DelayedPacket {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl UdpRelay {
    /// Listens at `on` on a free port. Packets are dropped until the target is set.
    pub(super) fn listen(on: Ipv4Addr, seed: u64) -> io::Result<Self> {
        let front = Arc::new(UdpSocket::bind((on, 0))?);
        let relay = Self {
            port: front.local_addr()?.port(),
            conditions: Arc::new(Mutex::new(RelayState {
                directions: [PacketFaults::default(); 2],
                target: None,
                random: Random::new(seed),
            })),
        };
        let (later, due) = mpsc::channel();
        thread::spawn(move || send_when_due(&due));
        let carrying = relay.clone();
        thread::spawn(move || carrying.carry(&front, &later));
        Ok(relay)
    }

    pub(super) fn set_target(&self, target: SocketAddr) {
        self.conditions.lock().target = Some(target);
    }

    /// Sets the faults of both directions: towards the target, and back.
    pub(super) fn set(&self, directions: [PacketFaults; 2]) {
        self.conditions.lock().directions = directions;
    }

    fn carry(&self, front: &Arc<UdpSocket>, later: &mpsc::Sender<DelayedPacket>) {
        let mut behind: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        let mut packet = vec![0; 65_536];
        loop {
            let Ok((length, from)) = front.recv_from(&mut packet) else {
                continue;
            };
            let Some(target) = self.conditions.lock().target else {
                continue;
            };
            let socket = match behind.get(&from) {
                Some(socket) => socket.clone(),
                None => match self.open(from, front, later) {
                    Ok(socket) => behind.entry(from).or_insert(socket).clone(),
                    Err(_) => continue,
                },
            };
            self.pass(0, &packet[..length], &socket, target, later);
        }
    }

    /// A socket that forwards responses back to `client`.
    fn open(
        &self,
        client: SocketAddr,
        front: &Arc<UdpSocket>,
        later: &mpsc::Sender<DelayedPacket>,
    ) -> io::Result<Arc<UdpSocket>> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        let (relay, responses) = (self.clone(), socket.clone());
        let (front, later) = (front.clone(), later.clone());
        thread::spawn(move || {
            let mut packet = vec![0; 65_536];
            loop {
                if let Ok((length, _)) = responses.recv_from(&mut packet) {
                    relay.pass(1, &packet[..length], &front, client, &later);
                }
            }
        });
        Ok(socket)
    }

    fn pass(
        &self,
        direction: usize,
        packet: &[u8],
        socket: &Arc<UdpSocket>,
        to: SocketAddr,
        later: &mpsc::Sender<DelayedPacket>,
    ) {
        let mut conditions = self.conditions.lock();
        let faults = conditions.directions[direction];
        let random = &mut conditions.random;
        if faults.drop_all || random.below(100) < faults.loss_percent {
            return;
        }
        let copies = 1 + usize::from(random.below(100) < faults.duplicate_percent);
        for _ in 0..copies {
            let delay = random.below(faults.delay.as_micros() as u64 + 1);
            let due = DelayedPacket {
                at: Instant::now() + Duration::from_micros(delay),
                bytes: packet.to_vec(),
                socket: socket.clone(),
                to,
            };
            // The receiving thread lives as long as the process.
            let _ = later.send(due);
        }
    }
}

fn send_when_due(due: &mpsc::Receiver<DelayedPacket>) {
    let mut pending: BinaryHeap<Reverse<DelayedPacket>> = BinaryHeap::new();
    loop {
        let next = pending.peek().map(|Reverse(it)| it.at);
        let wait = next.map_or(Duration::from_secs(1), |at| {
            at.saturating_duration_since(Instant::now())
        });
        match due.recv_timeout(wait) {
            Ok(packet) => pending.push(Reverse(packet)),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        while pending
            .peek()
            .is_some_and(|Reverse(it)| it.at <= Instant::now())
        {
            if let Some(Reverse(it)) = pending.pop() {
                // A failed send counts as a lost packet.
                let _ = it.socket.send_to(&it.bytes, it.to);
            }
        }
    }
}

/// The fault of a TCP relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum FaultMode {
    /// Forwards without faults.
    #[default]
    Pass,
    /// Delays each chunk.
    Delay(Duration),
    /// Forwards the request and closes the connection instead of a response.
    DropResponse,
    /// Forwards the request and responds with 504.
    GatewayTimeout,
    /// Forwards the request, delays the response until the mode changes, and then closes the connection.
    StallResponse,
    /// Closes connections at once, even in the middle of a request.
    CloseAtOnce,
}

/// The response of a proxy that got none from its server.
const GATEWAY_TIMEOUT: &[u8] =
    b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A TCP relay with one target.
#[derive(Debug, Clone)]
pub(super) struct TcpRelay {
    pub(super) port: u16,
    mode: Arc<Mutex<(FaultMode, Option<SocketAddr>)>>,
    changed: Arc<Condvar>,
}

impl TcpRelay {
    /// Listens on a free port. Connections are closed at once until the target is set.
    pub(super) fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let relay = Self {
            port: listener.local_addr()?.port(),
            mode: Arc::default(),
            changed: Arc::default(),
        };
        let accepting = relay.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.carry(client);
            }
        });
        Ok(relay)
    }

    pub(super) fn set_target(&self, target: SocketAddr) {
        self.mode.lock().1 = Some(target);
    }

    pub(super) fn set(&self, mode: FaultMode) {
        self.mode.lock().0 = mode;
        self.changed.notify_all();
    }

    fn carry(&self, client: TcpStream) {
        let (mode, target) = *self.mode.lock();
        if mode == FaultMode::CloseAtOnce {
            return;
        }
        let Some(Ok(server)) = target.map(TcpStream::connect) else {
            return;
        };
        let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        let (up, down) = (self.clone(), self.clone());
        thread::spawn(move || up.copy(client, server_too, false));
        thread::spawn(move || down.copy(server, client_too, true));
    }

    fn wait_while(&self, mode: FaultMode) {
        let mut current = self.mode.lock();
        self.changed
            .wait_while(&mut current, |current| current.0 == mode);
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, responses: bool) {
        let mut portion = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut portion) {
            let mode = self.mode.lock().0;
            match mode {
                FaultMode::Delay(delay) => thread::sleep(delay),
                FaultMode::DropResponse if responses => break,
                FaultMode::GatewayTimeout if responses => {
                    // The client may have closed already.
                    let _ = to.write_all(GATEWAY_TIMEOUT);
                    break;
                }
                FaultMode::StallResponse if responses => {
                    self.wait_while(FaultMode::StallResponse);
                    break;
                }
                FaultMode::CloseAtOnce => break,
                _ => {}
            }
            if to.write_all(&portion[..read]).is_err() {
                break;
            }
        }
        // The peers may have closed already.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_relay_duplicates_and_drops_packets() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("socket");
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("socket");
        let relay = UdpRelay::listen(Ipv4Addr::LOCALHOST, 1).expect("listening");
        relay.set_target(server.local_addr().expect("bound"));
        let double = PacketFaults {
            duplicate_percent: 100,
            ..PacketFaults::default()
        };
        relay.set([double; 2]);
        let to = (Ipv4Addr::LOCALHOST, relay.port);
        client.send_to(b"ask", to).expect("sent");
        let mut packet = [0; 16];
        for _ in 0..2 {
            let (length, sender) = server.recv_from(&mut packet).expect("two of them");
            assert_eq!(&packet[..length], b"ask");
            server.send_to(b"answer", sender).expect("sent");
        }
        for _ in 0..4 {
            let (length, _) = client.recv_from(&mut packet).expect("four of them");
            assert_eq!(&packet[..length], b"answer");
        }
        let blocked = PacketFaults {
            drop_all: true,
            ..PacketFaults::default()
        };
        relay.set([blocked, PacketFaults::default()]);
        let (later, due) = mpsc::channel();
        let socket = Arc::new(client);
        let to = server.local_addr().expect("bound");
        relay.pass(0, b"lost", &socket, to, &later);
        assert!(due.try_recv().is_err());
        relay.pass(1, b"passed", &socket, to, &later);
        assert_eq!(due.try_recv().expect("it is to be sent").bytes, b"passed");
    }

    #[test]
    fn tcp_relay_forwards_requests_without_responses() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listening");
        let relay = TcpRelay::listen().expect("listening");
        relay.set_target(server.local_addr().expect("bound"));
        for (mode, expected) in [
            (FaultMode::Pass, &b"answer"[..]),
            (FaultMode::GatewayTimeout, GATEWAY_TIMEOUT),
            (FaultMode::DropResponse, b""),
            (FaultMode::StallResponse, b""),
        ] {
            relay.set(mode);
            let mut client =
                TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port)).expect("connected");
            client.write_all(b"ask").expect("sent");
            let (mut served, _) = server.accept().expect("connection");
            let mut asked = [0; 3];
            served.read_exact(&mut asked).expect("it arrives");
            served.write_all(b"answer").expect("sent");
            drop(served);
            if mode == FaultMode::StallResponse {
                client.set_nonblocking(true).expect("set");
                let pending = client.read(&mut [0; 1]).expect_err("nothing yet");
                assert_eq!(pending.kind(), io::ErrorKind::WouldBlock);
                client.set_nonblocking(false).expect("set");
                // Not `Pass`: the response may not have reached the relay yet.
                relay.set(FaultMode::DropResponse);
            }
            let mut response = Vec::new();
            // A connection that is cut may be reset rather than closed.
            let _ = client.read_to_end(&mut response);
            assert_eq!(response, expected, "{mode:?}");
        }
    }
}
