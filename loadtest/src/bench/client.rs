//! A load generator on one thread: keep-alive connections or one connection per request, in closed or open loop,
//! with several concurrent streams. Servers don't belong here.

use super::requests::RequestSource;
use super::response::{self, Response};
use crate::traffic::Random;
use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Maximum time for outstanding responses after the last request.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Upper bound of recorded latencies.
const MAX_LATENCY_NANOS: u64 = 60_000_000_000;

/// The requests of a measurement, and their server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) target: SocketAddr,
    /// Number of open connections.
    pub(super) connections: usize,
    /// Whether a connection carries more than one request.
    pub(super) keep_alive: bool,
    /// The expected status of each response.
    pub(super) expects: u16,
    /// Whether the client polls without sleeping. Then requests are sent exactly when they are due, and no server
    /// pays for waking the client, which would favor fast servers. On a shared core the client must sleep, and
    /// requests are up to a millisecond late.
    pub(super) spin: bool,
    pub(super) load_mode: LoadMode,
    /// Duration of sending before the measurement.
    pub(super) warm_up: Duration,
    /// Duration of the measurement.
    pub(super) measured: Duration,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum LoadMode {
    /// Closed loop: the next request follows the previous response.
    Closed,
    /// Open loop: this many requests per second at random times (a Poisson process), independent of responses.
    Open(f64),
}

/// Results of a stream.
#[derive(Debug)]
pub(super) struct LoadResult {
    /// Sent requests including warm-up; each got the expected response.
    pub(super) sent: u64,
    /// Responses during the measurement.
    pub(super) measured: u64,
    /// Duration of the measurement.
    pub(super) elapsed: Duration,
    /// CPU time of the server during the measurement.
    pub(super) cpu: Duration,
    /// From the scheduled send time to the complete response, in nanoseconds.
    pub(super) latency: Histogram<u64>,
}

/// Sends `requests` according to `plan`; `cpu` returns the server's CPU time so far.
///
/// # Errors
/// If a connection fails or a response is unexpected: every request counts.
pub(super) fn run(
    plan: &Plan,
    requests: &mut dyn RequestSource,
    cpu: &dyn Fn() -> anyhow::Result<Duration>,
) -> anyhow::Result<LoadResult> {
    let mut results = run_streams(&mut [(plan, requests)], cpu)?;
    Ok(results.pop().expect("one for each plan"))
}

/// Sends several streams concurrently, each according to its plan. Duration and sleeping follow the first plan.
/// Each result contains the CPU time of all streams together.
///
/// # Errors
/// As [`run`].
pub(super) fn run_streams(
    streams: &mut [(&Plan, &mut dyn RequestSource)],
    cpu: &dyn Fn() -> anyhow::Result<Duration>,
) -> anyhow::Result<Vec<LoadResult>> {
    let first = streams.first().expect("at least one stream").0;
    let mut client = Client::new(streams)?;
    client.send_until(Instant::now() + first.warm_up)?;
    for stream in &mut client.streams {
        stream.latency.reset();
        stream.answered = 0;
    }
    let (cpu_before, started) = (cpu()?, Instant::now());
    client.send_until(started + first.measured)?;
    let (elapsed, cpu_after) = (started.elapsed(), cpu()?);
    let measured: Vec<u64> = client.streams.iter().map(|it| it.answered).collect();
    client.drain()?;
    let streams = client.streams.into_iter().zip(measured);
    let result = |(stream, measured): (Stream<'_, '_>, u64)| LoadResult {
        sent: stream.sent,
        measured,
        elapsed,
        cpu: cpu_after.saturating_sub(cpu_before),
        latency: stream.latency,
    };
    Ok(streams.map(result).collect())
}

struct Client<'p, 's> {
    spin: bool,
    poll: Poll,
    connections: Vec<Connection>,
    streams: Vec<Stream<'p, 's>>,
    buffer: Box<[u8; 16 << 10]>,
}

/// A plan and its state.
struct Stream<'p, 's> {
    plan: &'p Plan,
    requests: &'p mut (dyn RequestSource + 's),
    idle: Vec<usize>,
    /// Scheduled times of requests for which no connection was free.
    waiting: VecDeque<Instant>,
    next_due: Instant,
    gaps: Random,
    sent: u64,
    answered: u64,
    latency: Histogram<u64>,
}

struct Connection {
    stream: TcpStream,
    /// Index of the stream that uses the connection.
    of: usize,
    /// Scheduled time of the current request.
    due: Option<Instant>,
    partial: Vec<u8>,
}

impl<'p, 's> Client<'p, 's> {
    fn new(plans: &'p mut [(&Plan, &mut (dyn RequestSource + 's))]) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let first = plans.first().map(|(plan, _)| **plan);
        let spin = first.is_some_and(|plan| plan.spin);
        let (mut connections, mut streams) = (Vec::new(), Vec::new());
        for (of, (plan, requests)) in plans.iter_mut().enumerate() {
            let from = connections.len();
            for number in from..from + plan.connections {
                connections.push(connect(plan.target, &poll, number, number as u64, of)?);
            }
            let idle = (from..connections.len()).collect();
            streams.push(Stream::new(plan, &mut **requests, idle, of as u64)?);
        }
        Ok(Self {
            spin,
            poll,
            connections,
            streams,
            buffer: Box::new([0; 16 << 10]),
        })
    }

    fn send_until(&mut self, end: Instant) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let timeout = if self.spin {
            Duration::ZERO
        } else {
            Duration::from_millis(1)
        };
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            for stream in &mut self.streams {
                stream.send_due(&mut self.connections, now)?;
            }
            self.poll.poll(&mut events, Some(timeout))?;
            for event in &events {
                self.receive(event.token().0)?;
            }
        }
    }

    fn receive(&mut self, number: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[number];
        let Some(due) = connection.due else {
            return Ok(());
        };
        let stream = &mut self.streams[connection.of];
        let length = match connection.stream.read(&mut *self.buffer) {
            Ok(0) => bail!("a connection was closed before its response"),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("failed to read a response"),
        };
        let read = &self.buffer[..length];
        let status = stream.plan.expects;
        let response = if connection.partial.is_empty() {
            response::parse(read, status)?
        } else {
            connection.partial.extend_from_slice(read);
            response::parse(&connection.partial, status)?
        };
        match response {
            Response::Partial => {
                if connection.partial.is_empty() {
                    connection.partial.extend_from_slice(read);
                }
                return Ok(());
            }
            Response::Whole => connection.partial.clear(),
        }
        connection.due = None;
        stream.answered += 1;
        let nanos = u64::try_from(due.elapsed().as_nanos()).unwrap_or(MAX_LATENCY_NANOS);
        stream.latency.saturating_record(nanos);
        stream.idle.push(number);
        if !stream.plan.keep_alive {
            let (target, of) = (stream.plan.target, connection.of);
            self.connections[number] = connect(target, &self.poll, number, stream.sent, of)?;
        }
        Ok(())
    }

    /// Waits for outstanding responses.
    fn drain(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let mut events = Events::with_capacity(1_024);
        loop {
            let out = self.connections.iter().filter(|it| it.due.is_some());
            let out = out.count();
            if out == 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{out} requests were not answered within {DRAIN_TIMEOUT:?}"
            );
            self.poll
                .poll(&mut events, Some(Duration::from_millis(10)))?;
            for event in &events {
                self.receive(event.token().0)?;
            }
        }
    }
}

impl<'p, 's> Stream<'p, 's> {
    fn new(
        plan: &'p Plan,
        requests: &'p mut (dyn RequestSource + 's),
        idle: Vec<usize>,
        salt: u64,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            plan,
            requests,
            idle,
            waiting: VecDeque::new(),
            next_due: Instant::now(),
            gaps: Random::new(0x9a9 + salt),
            sent: 0,
            answered: 0,
            latency: Histogram::new_with_max(MAX_LATENCY_NANOS, 3)?,
        })
    }

    fn send_due(&mut self, connections: &mut [Connection], now: Instant) -> anyhow::Result<()> {
        match self.plan.load_mode {
            LoadMode::Closed => {
                while let Some(number) = self.idle.pop() {
                    self.send(&mut connections[number], Instant::now())?;
                }
            }
            LoadMode::Open(rate) => {
                while self.next_due <= now {
                    self.waiting.push_back(self.next_due);
                    self.next_due += self.gaps.poisson_gap(rate);
                }
                let free = self.idle.len().min(self.waiting.len());
                for due in self.waiting.drain(..free).collect::<Vec<_>>() {
                    let number = self.idle.pop().expect("as many as are free");
                    self.send(&mut connections[number], due)?;
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, connection: &mut Connection, due: Instant) -> anyhow::Result<()> {
        let request = self.requests.next_request();
        let written = connection
            .stream
            .write(request)
            .context("failed to send a request")?;
        ensure!(
            written == request.len(),
            "a request was sent only partially"
        );
        connection.due = Some(due);
        self.sent += 1;
        Ok(())
    }
}

/// Connects from one of many loopback addresses: with one connection per request, a single address would run out of
/// ports.
fn connect(
    target: SocketAddr,
    poll: &Poll,
    number: usize,
    salt: u64,
    of: usize,
) -> anyhow::Result<Connection> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let [.., high, low] = (salt % 60_000 + 2).to_be_bytes();
    let source = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0));
    socket.bind(&source.into())?;
    socket
        .connect(&target.into())
        .with_context(|| format!("failed to connect to {target}"))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let mut stream = TcpStream::from_std(socket.into());
    poll.registry()
        .register(&mut stream, Token(number), Interest::READABLE)?;
    Ok(Connection {
        stream,
        of,
        due: None,
        partial: Vec::new(),
    })
}
