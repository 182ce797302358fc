//! Connections that are held open: silent, idle after one response, or reading or writing a byte at intervals.
//! Invariant: no knowledge of the edge's reaction.

use super::visitors::loopback_socket;
use crate::links;
use ahash::AHashSet;
use anyhow::Context as _;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Interval between two actions of slow clients.
const STEP_INTERVAL: Duration = Duration::from_millis(250);
/// Requests that a slow reader sends at once.
const PIPELINED_REQUESTS: usize = 64;
/// Size of a slow reader's receive buffer: the edge must keep all further responses.
const RECEIVE_BUFFER_BYTES: usize = 4 << 10;

/// The behavior of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientBehavior {
    /// Never send a byte.
    Silent,
    /// Receive the response to one click and then stay idle.
    Idle,
    /// Send an HTTP/2 preface and then stay idle.
    Http2,
    /// Send clicks at full speed and read a byte of the responses at intervals.
    SlowReader,
    /// Send a byte of a click at intervals.
    SlowWriter,
}

/// Many connections with the same behavior.
pub(super) struct ConnectionSwarm {
    behavior: ClientBehavior,
    target: SocketAddr,
    connections: Vec<HeldConnection>,
    request: Vec<u8>,
    /// Connections opened so far.
    pub(super) opened: u64,
    /// Closed by the edge.
    pub(super) closed: u64,
    /// Answered clicks.
    pub(super) redirects: u64,
    next_step: Instant,
    /// Detects closed connections without reading from them.
    poll: Poll,
}

struct HeldConnection {
    /// Arrival index.
    number: u64,
    stream: TcpStream,
    /// Written bytes.
    written: usize,
    answered: bool,
}

impl ConnectionSwarm {
    pub(super) fn new(behavior: ClientBehavior, target: SocketAddr) -> anyhow::Result<Self> {
        let click = format!(
            "GET /c/{}?sub1=crowd HTTP/1.1\r\nHost: go.fanz.example\r\nUser-Agent: x\r\n\r\n",
            links::sample_slugs()[0]
        );
        let request = match behavior {
            ClientBehavior::Silent => Vec::new(),
            ClientBehavior::Http2 => [
                &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
                &[0, 0, 0, 4, 0, 0, 0, 0, 0],
            ]
            .concat(),
            ClientBehavior::Idle | ClientBehavior::SlowWriter => click.into_bytes(),
            ClientBehavior::SlowReader => click.repeat(PIPELINED_REQUESTS).into_bytes(),
        };
        Ok(Self {
            behavior,
            target,
            connections: Vec::new(),
            request,
            opened: 0,
            closed: 0,
            redirects: 0,
            next_step: Instant::now(),
            poll: Poll::new()?,
        })
    }

    /// Opens `count` more connections.
    pub(super) fn open(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let socket = loopback_socket(self.opened)?;
            if self.behavior == ClientBehavior::SlowReader {
                socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
            }
            socket
                .connect(&self.target.into())
                .with_context(|| format!("failed to connect to {}", self.target))?;
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            let mut stream = TcpStream::from_std(socket.into());
            if self.behavior == ClientBehavior::SlowReader {
                let token = Token(self.opened as usize);
                let registry = self.poll.registry();
                registry.register(&mut stream, token, Interest::READABLE)?;
            }
            let mut connection = HeldConnection {
                number: self.opened,
                stream,
                written: 0,
                answered: false,
            };
            if matches!(self.behavior, ClientBehavior::Idle | ClientBehavior::Http2) {
                // It may be closed already, which the next check detects.
                connection.written = connection.stream.write(&self.request).unwrap_or_default();
            }
            self.connections.push(connection);
            self.opened += 1;
        }
        Ok(())
    }

    /// Performs due actions and checks which connections were closed or answered.
    pub(super) fn step(&mut self) {
        if Instant::now() < self.next_step {
            return;
        }
        let (behavior, request) = (self.behavior, &self.request);
        let (mut closed, mut redirects) = (0, 0);
        self.connections.retain_mut(|connection| {
            let open = match behavior {
                ClientBehavior::Silent | ClientBehavior::Http2 => connection.read(4_096).is_some(),
                ClientBehavior::Idle => connection.read(4_096).is_some_and(|response| {
                    if !response.is_empty() && !connection.answered {
                        connection.answered = true;
                        redirects += u64::from(response.starts_with(b"HTTP/1.1 302 "));
                    }
                    true
                }),
                ClientBehavior::SlowReader => {
                    let read = connection.read(1).is_some();
                    read && connection.write(request, request.len())
                }
                ClientBehavior::SlowWriter => {
                    connection.write(request, 1) && connection.read(4_096).is_some()
                }
            };
            closed += u64::from(!open);
            open
        });
        self.closed += closed;
        self.redirects += redirects;
        self.next_step = Instant::now() + STEP_INTERVAL;
    }

    /// Only checks which connections were closed or answered.
    pub(super) fn look(&mut self) {
        let before = self.connections.len();
        match self.behavior {
            ClientBehavior::Silent | ClientBehavior::Idle | ClientBehavior::Http2 => {
                self.next_step = Instant::now();
                self.step();
            }
            ClientBehavior::SlowWriter => {
                self.connections
                    .retain_mut(|connection| connection.read(4_096).is_some());
                self.closed += (before - self.connections.len()) as u64;
            }
            // Slow readers must not read here.
            ClientBehavior::SlowReader => {
                let gone = self.gone();
                self.connections
                    .retain(|connection| !gone.contains(&(connection.number as usize)));
                self.closed += (before - self.connections.len()) as u64;
            }
        }
    }

    /// Connections closed since the last call, as reported by the system.
    fn gone(&mut self) -> AHashSet<usize> {
        let (mut gone, mut events) = (AHashSet::new(), Events::with_capacity(1_024));
        while self.poll.poll(&mut events, Some(Duration::ZERO)).is_ok() && !events.is_empty() {
            let ends = events
                .iter()
                .filter(|event| event.is_read_closed() || event.is_error());
            gone.extend(ends.map(|event| event.token().0));
        }
        gone
    }

    /// Open connections.
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether every connection was answered or closed.
    pub(super) fn settled(&self) -> bool {
        self.behavior != ClientBehavior::Idle
            || self
                .connections
                .iter()
                .all(|connection| connection.answered)
    }
}

impl HeldConnection {
    /// Reads up to `most` bytes; `None` if the connection was closed.
    fn read(&mut self, most: usize) -> Option<Vec<u8>> {
        let mut buffer = [0; 4_096];
        match self.stream.read(&mut buffer[..most]) {
            Ok(0) => None,
            Ok(length) => Some(buffer[..length].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Vec::new()),
            Err(_) => None,
        }
    }

    /// Writes up to `most` bytes of the repeated `request`; false if the connection was closed.
    fn write(&mut self, request: &[u8], most: usize) -> bool {
        let from = self.written % request.len();
        let part = &request[from..(from + most).min(request.len())];
        match self.stream.write(part) {
            Ok(length) => {
                self.written += length;
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn who_does_not_read_is_seen_to_be_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let target = listener.local_addr().expect("bound");
        let mut swarm = ConnectionSwarm::new(ClientBehavior::SlowReader, target).expect("made");
        swarm.open(3).expect("taken");
        let mut edge: Vec<_> = (0..3).map(|_| listener.accept().expect("one").0).collect();
        swarm.step();
        for stream in &mut edge {
            stream.write_all(&[b'x'; 100]).expect("taken");
        }
        swarm.look();
        assert_eq!((swarm.len(), swarm.closed), (3, 0));
        // One is shut down in order; the other is not, and nothing of its request was read.
        edge[0]
            .shutdown(std::net::Shutdown::Write)
            .expect("connected");
        edge.truncate(2);
        let deadline = Instant::now() + Duration::from_secs(10);
        while swarm.closed < 2 && Instant::now() < deadline {
            swarm.look();
        }
        assert_eq!((swarm.len(), swarm.closed), (1, 2));
    }
}
