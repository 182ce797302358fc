//! Visitors in open loop: each has its own connection and sends one request. Invariant: no servers here.

use crate::links;
use crate::traffic::Random;
use anyhow::Context as _;
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Upper bound of recorded latencies in microseconds.
const MAX_LATENCY_MICROS: u64 = 120_000_000;
/// Percentage of pixels among the requests.
const PIXELS: u64 = 30;

/// Results of the visitors.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) offered: u64,
    /// Visitors that were not started because too many were in flight.
    pub(super) stayed_away: u64,
    pub(super) redirects: u64,
    pub(super) pixels: u64,
    /// Responses with 503.
    pub(super) busy: u64,
    /// Connections closed without a response.
    pub(super) closed: u64,
    /// Neither answered nor closed at the end.
    pub(super) unanswered: u64,
    /// Click ids of the redirects.
    pub(super) ids: Vec<String>,
    /// From a visitor's scheduled time to the complete redirect, in microseconds.
    pub(super) latency: Histogram<u64>,
}

/// All visitors in flight.
pub(super) struct Visitors {
    target: SocketAddr,
    poll: Poll,
    events: Events,
    under_way: Slab<Visitor>,
    /// Maximum number in flight.
    most: usize,
    requests: Requests,
    random: Random,
    next_due: Instant,
    pub(super) tally: Tally,
}

struct Visitor {
    stream: TcpStream,
    due: Instant,
    pixel: bool,
    request: Option<Vec<u8>>,
    response: Vec<u8>,
}

enum Outcome {
    Redirect(String),
    Pixel,
    Busy,
    Closed,
}

impl Visitors {
    /// No visitors yet; at most `most` at once to `target`.
    pub(super) fn new(target: SocketAddr, seed: u64, most: usize) -> anyhow::Result<Self> {
        Ok(Self {
            target,
            poll: Poll::new()?,
            events: Events::with_capacity(1_024),
            under_way: Slab::new(),
            most,
            requests: Requests(links::sample_slugs()),
            random: Random::new(seed),
            next_due: Instant::now(),
            tally: Tally {
                offered: 0,
                stayed_away: 0,
                redirects: 0,
                pixels: 0,
                busy: 0,
                closed: 0,
                unanswered: 0,
                ids: Vec::new(),
                latency: Histogram::new_with_max(MAX_LATENCY_MICROS, 3)?,
            },
        })
    }

    /// The schedule of the next visitors starts now.
    pub(super) fn begin(&mut self) {
        self.next_due = Instant::now();
    }

    /// Starts the visitors that are due at `rate` per second, and polls those in flight for at most a millisecond.
    pub(super) fn go_on(&mut self, rate: f64) -> anyhow::Result<()> {
        while self.next_due <= Instant::now() {
            let due = self.next_due;
            self.come(due)?;
            let uniform = (self.random.below(1 << 52) + 1) as f64 / (1_u64 << 52) as f64;
            self.next_due += Duration::from_secs_f64(-uniform.ln() / rate);
        }
        self.look(Duration::from_millis(1))
    }

    /// The same; a rate of 0 starts none.
    pub(super) fn go_on_if(&mut self, rate: f64) -> anyhow::Result<()> {
        if rate > 0.0 {
            self.go_on(rate)
        } else {
            self.look(Duration::from_millis(1))
        }
    }

    /// Keeps `count` visitors in flight, starting one when another is done (closed loop).
    pub(super) fn keep_up(&mut self, count: usize) -> anyhow::Result<()> {
        while self.under_way.len() < count {
            self.come(Instant::now())?;
        }
        self.look(Duration::from_millis(1))
    }

    /// Waits up to `within` until all visitors are done; the remaining ones count as unanswered.
    pub(super) fn finish(&mut self, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        while !self.under_way.is_empty() && Instant::now() < deadline {
            self.look(Duration::from_millis(10))?;
        }
        self.tally.unanswered += self.under_way.len() as u64;
        self.under_way.clear();
        Ok(())
    }

    fn come(&mut self, due: Instant) -> anyhow::Result<()> {
        self.tally.offered += 1;
        if self.under_way.len() >= self.most {
            self.tally.stayed_away += 1;
            return Ok(());
        }
        let pixel = self.random.below(100) < PIXELS;
        let request = self.requests.next(pixel, &mut self.random);
        let stream = connect(self.target, self.tally.offered)?;
        let entry = self.under_way.vacant_entry();
        let mut visitor = Visitor {
            stream,
            due,
            pixel,
            request: Some(request),
            response: Vec::new(),
        };
        self.poll.registry().register(
            &mut visitor.stream,
            Token(entry.key()),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        entry.insert(visitor);
        Ok(())
    }

    fn look(&mut self, at_most: Duration) -> anyhow::Result<()> {
        self.poll.poll(&mut self.events, Some(at_most))?;
        for event in &self.events {
            let key = event.token().0;
            let Some(visitor) = self.under_way.get_mut(key) else {
                continue;
            };
            if let Some(outcome) = visitor.go_on(event.is_writable())? {
                let visitor = self.under_way.remove(key);
                self.tally.note(outcome, visitor.due);
            }
        }
        Ok(())
    }
}

impl Tally {
    /// Number of responses of any status, including 503.
    pub(super) const fn answered(&self) -> u64 {
        self.redirects + self.pixels + self.busy
    }

    fn note(&mut self, outcome: Outcome, due: Instant) {
        match outcome {
            Outcome::Redirect(id) => {
                self.redirects += 1;
                self.ids.push(id);
                let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(MAX_LATENCY_MICROS);
                self.latency.saturating_record(micros);
            }
            Outcome::Pixel => self.pixels += 1,
            Outcome::Busy => self.busy += 1,
            Outcome::Closed => self.closed += 1,
        }
    }
}

impl Visitor {
    fn go_on(&mut self, writable: bool) -> anyhow::Result<Option<Outcome>> {
        if writable && let Some(request) = self.request.take() {
            match self.stream.write(&request) {
                Ok(length) => {
                    anyhow::ensure!(length == request.len(), "a request was sent only partially")
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.request = Some(request);
                }
                // Closed already, which reading detects as well.
                Err(_) => return Ok(Some(Outcome::Closed)),
            }
        }
        let mut buffer = [0; 4_096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => self.response.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(None),
                Err(_) => break,
            }
        }
        // All responses close their connection.
        outcome(&self.response, self.pixel).map(Some)
    }
}

/// The result of a complete response.
fn outcome(response: &[u8], pixel: bool) -> anyhow::Result<Outcome> {
    if response.is_empty() {
        return Ok(Outcome::Closed);
    }
    let text = String::from_utf8_lossy(response);
    let status = text.split(' ').nth(1).unwrap_or_default();
    match (status, pixel) {
        ("302", false) => {
            let id = text
                .split("?cid=")
                .nth(1)
                .and_then(|id| id.split('&').next());
            let id = id.with_context(|| format!("a redirect without a click id: {text}"))?;
            Ok(Outcome::Redirect(id.to_owned()))
        }
        ("200", true) => Ok(Outcome::Pixel),
        ("503", true) => Ok(Outcome::Busy),
        _ => anyhow::bail!("an unexpected response: {text}"),
    }
}

struct Requests(Vec<String>);

impl Requests {
    fn next(&self, pixel: bool, random: &mut Random) -> Vec<u8> {
        let slug = &self.0[random.below(self.0.len() as u64) as usize];
        let (a, b, c) = (random.below(256), random.below(256), random.below(256));
        let path = if pixel {
            format!("/i/{slug}.gif")
        } else {
            format!("/c/{slug}")
        };
        format!(
            "GET {path}?sub1={a} HTTP/1.1\r\nHost: go.fanz.example\r\nConnection: close\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0\r\n\
             Accept: */*\r\nAccept-Language: en-US,en;q=0.9\r\nX-Forwarded-For: 81.{a}.{b}.{c}\r\n\r\n"
        )
        .into_bytes()
    }
}

/// Starts to connect from one of many loopback addresses: a single one has too few ports.
fn connect(target: SocketAddr, number: u64) -> anyhow::Result<TcpStream> {
    let socket = loopback_socket(number)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => {
            Err(error).with_context(|| format!("failed to connect to {target}"))
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// A socket bound to one of 60,000 loopback addresses.
pub(super) fn loopback_socket(number: u64) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let [.., high, low] = (number % 60_000 + 2).to_be_bytes();
    let source = SocketAddr::from((Ipv4Addr::new(127, 2, high, low), 0));
    socket.bind(&source.into())?;
    Ok(socket)
}
