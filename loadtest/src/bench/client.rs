//! A load generator on one thread: over connections kept open or one for each request, as fast as
//! the server answers or at a rate that does not wait for it; several such streams beside each other.
//! Servers never belong here.

use super::calm::{Latencies, Slices};
use super::machine::Cores;
use super::requests::Source;
use super::response::{self, Response};
use crate::traffic::Random;
use anyhow::{Context as _, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How long answers may take after the last request was sent.
const DRAIN: Duration = Duration::from_secs(20);

/// What to send where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// The server.
    pub(super) target: SocketAddr,
    /// Connections open at once.
    pub(super) connections: usize,
    /// Whether a connection carries more than one request.
    pub(super) keep_alive: bool,
    /// The status that each request must be answered with.
    pub(super) expects: u16,
    /// Whether the client never sleeps: requests are sent the moment they are due, and no server
    /// pays for waking it, which those that answer fastest would do least often. On a core that it
    /// shares it must sleep, and requests are up to a millisecond late.
    pub(super) spin: bool,
    /// How fast.
    pub(super) pace: Pace,
    /// Sent before measuring.
    pub(super) warm_up: Duration,
    /// Measured.
    pub(super) measured: Duration,
    /// Where what the machine's host takes away is looked at; nowhere, and all counts.
    pub(super) cores: Option<Cores>,
}

/// How fast requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// The next one when the one before was answered (closed loop).
    AsAnswered,
    /// So many a second (open loop), whether or not answers come.
    PerSecond(f64, Moments),
}

/// When requests at a rate come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Moments {
    /// One as long after the other as the next.
    Evenly,
    /// As those of many senders do who know nothing of each other (Poisson).
    AtRandom,
}

impl Moments {
    /// How long after one the next comes.
    pub(super) fn gap(self, random: &mut Random, rate: f64) -> Duration {
        match self {
            Self::Evenly => Duration::from_secs_f64(1.0 / rate),
            Self::AtRandom => random.poisson_gap(rate),
        }
    }
}

impl fmt::Display for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Evenly => "evenly spaced",
            Self::AtRandom => "at random moments",
        })
    }
}

/// What happened.
#[derive(Debug)]
pub(super) struct Account {
    /// Requests sent, warm-up included; each was answered as expected.
    pub(super) sent: u64,
    /// Requests answered while measuring.
    pub(super) measured: u64,
    /// How long was measured.
    pub(super) elapsed: Duration,
    /// Processor time the server took while measuring.
    pub(super) cpu: Duration,
    /// From the moment a request was due to its whole answer.
    pub(super) latency: Latencies,
}

/// Sends `requests` as `plan` says; `cpu` tells the server's processor time so far.
///
/// # Errors
/// When a connection fails or anything else than expected is answered: every request counts.
pub(super) fn run(
    plan: &Plan,
    requests: &mut dyn Source,
    cpu: &dyn Fn() -> anyhow::Result<Duration>,
) -> anyhow::Result<Account> {
    let mut accounts = run_beside(&mut [(plan, requests)], cpu)?;
    Ok(accounts.pop().expect("one for each plan"))
}

/// Sends several streams at once, each as its plan says; how long, and whether the client sleeps, is the
/// first one's word. Each account has the processor time of all together.
///
/// # Errors
/// As [`run`].
pub(super) fn run_beside(
    streams: &mut [(&Plan, &mut dyn Source)],
    cpu: &dyn Fn() -> anyhow::Result<Duration>,
) -> anyhow::Result<Vec<Account>> {
    let first = streams.first().expect("something to send").0;
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
    let account = |(stream, measured): (Stream<'_, '_>, u64)| Account {
        sent: stream.sent,
        measured,
        elapsed,
        cpu: cpu_after.saturating_sub(cpu_before),
        latency: stream.latency,
    };
    Ok(streams.map(account).collect())
}

struct Client<'p, 's> {
    spin: bool,
    slices: Option<Slices>,
    poll: Poll,
    connections: Vec<Connection>,
    streams: Vec<Stream<'p, 's>>,
    buffer: Box<[u8; 16 << 10]>,
}

/// One plan, and how far it is.
struct Stream<'p, 's> {
    plan: &'p Plan,
    requests: &'p mut (dyn Source + 's),
    idle: Vec<usize>,
    /// When requests were due that no connection was free for.
    waiting: VecDeque<Instant>,
    next_due: Instant,
    gaps: Random,
    sent: u64,
    answered: u64,
    latency: Latencies,
}

struct Connection {
    stream: TcpStream,
    /// Which plan's it is.
    of: usize,
    /// When the request it carries was due.
    due: Option<Instant>,
    partial: Vec<u8>,
}

impl<'p, 's> Client<'p, 's> {
    fn new(plans: &'p mut [(&Plan, &mut (dyn Source + 's))]) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let first = plans.first().map(|(plan, _)| **plan);
        let spin = first.is_some_and(|plan| plan.spin);
        let slices = first.and_then(|plan| plan.cores).map(Slices::from_now);
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
            slices: slices.transpose()?,
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
            if let Some(slices) = &mut self.slices
                && let Some(taken) = slices.ended(now)?
            {
                let streams = self.streams.iter_mut();
                streams.for_each(|stream| stream.latency.end_slice(taken));
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
            Ok(0) => bail!("a connection was closed before its answer"),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("an answer could not be read"),
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
        stream.latency.record(due.elapsed());
        stream.idle.push(number);
        if !stream.plan.keep_alive {
            let (target, of) = (stream.plan.target, connection.of);
            self.connections[number] = connect(target, &self.poll, number, stream.sent, of)?;
        }
        Ok(())
    }

    /// Waits for the answers that are still out.
    fn drain(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + DRAIN;
        let mut events = Events::with_capacity(1_024);
        loop {
            let out = self.connections.iter().filter(|it| it.due.is_some());
            let out = out.count();
            if out == 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{out} requests were not answered within {DRAIN:?}"
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
        requests: &'p mut (dyn Source + 's),
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
            latency: Latencies::new(plan.cores.is_some()),
        })
    }

    fn send_due(&mut self, connections: &mut [Connection], now: Instant) -> anyhow::Result<()> {
        match self.plan.pace {
            Pace::AsAnswered => {
                while let Some(number) = self.idle.pop() {
                    self.send(&mut connections[number], Instant::now())?;
                }
            }
            Pace::PerSecond(rate, moments) => {
                while self.next_due <= now {
                    self.waiting.push_back(self.next_due);
                    self.next_due += moments.gap(&mut self.gaps, rate);
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
            .context("a request could not be sent")?;
        ensure!(written == request.len(), "a request was taken only in part");
        connection.due = Some(due);
        self.sent += 1;
        Ok(())
    }
}

/// Connects from one of many loopback addresses, or a connection for each request would use up the
/// ports of one.
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
        .with_context(|| format!("{target} can't be reached"))?;
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
