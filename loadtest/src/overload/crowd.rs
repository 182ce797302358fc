//! Connections that are held open: silent, answered once and then silent, reading or writing a byte
//! now and then. What an edge does about them never belongs here.

use super::visitors::from_elsewhere;
use crate::links;
use ahash::AHashSet;
use anyhow::Context as _;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How often those that are slow do something.
const STEP: Duration = Duration::from_millis(250);
/// Requests that a slow reader sends at once.
const AT_ONCE: usize = 64;
/// What a slow reader's system keeps of answers at most, in bytes: the edge has to keep the rest.
const RECEIVE_BUFFER: usize = 4 << 10;

/// What those in a crowd do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// Never send a byte.
    Silent,
    /// Are answered one click and then stay.
    Idle,
    /// Greet in HTTP/2 and then stay.
    Http2,
    /// Send clicks as fast as they are taken, and read a byte of the answers now and then.
    SlowReader,
    /// Send a byte of a click now and then.
    SlowWriter,
}

/// Many of one habit.
pub(super) struct Crowd {
    habit: Habit,
    target: SocketAddr,
    members: Vec<ManagedProcess>,
    request: Vec<u8>,
    /// Opened so far.
    pub(super) opened: u64,
    /// Closed by the edge.
    pub(super) closed: u64,
    /// Clicks that were answered.
    pub(super) redirects: u64,
    next_step: Instant,
    /// Tells who was closed without reading from him.
    poll: Poll,
}

struct ManagedProcess {
    /// The how manyth to come.
    number: u64,
    stream: TcpStream,
    /// How much was written.
    written: usize,
    answered: bool,
}

impl Crowd {
    pub(super) fn new(habit: Habit, target: SocketAddr) -> anyhow::Result<Self> {
        let click = format!(
            "GET /c/{}?sub1=crowd HTTP/1.1\r\nHost: go.fanz.example\r\nUser-Agent: x\r\n\r\n",
            links::sample_slugs()[0]
        );
        let request = match habit {
            Habit::Silent => Vec::new(),
            Habit::Http2 => [
                &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
                &[0, 0, 0, 4, 0, 0, 0, 0, 0],
            ]
            .concat(),
            Habit::Idle | Habit::SlowWriter => click.into_bytes(),
            Habit::SlowReader => click.repeat(AT_ONCE).into_bytes(),
        };
        Ok(Self {
            habit,
            target,
            members: Vec::new(),
            request,
            opened: 0,
            closed: 0,
            redirects: 0,
            next_step: Instant::now(),
            poll: Poll::new()?,
        })
    }

    /// Lets `count` more come.
    pub(super) fn open(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let socket = from_elsewhere(self.opened)?;
            if self.habit == Habit::SlowReader {
                socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
            }
            socket
                .connect(&self.target.into())
                .with_context(|| format!("{} can't be reached", self.target))?;
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            let mut stream = TcpStream::from_std(socket.into());
            if self.habit == Habit::SlowReader {
                let token = Token(self.opened as usize);
                let registry = self.poll.registry();
                registry.register(&mut stream, token, Interest::READABLE)?;
            }
            let mut member = ManagedProcess {
                number: self.opened,
                stream,
                written: 0,
                answered: false,
            };
            if matches!(self.habit, Habit::Idle | Habit::Http2) {
                // Closed already: the next look finds out.
                member.written = member.stream.write(&self.request).unwrap_or_default();
            }
            self.members.push(member);
            self.opened += 1;
        }
        Ok(())
    }

    /// Does what is due, and looks who was closed or answered.
    pub(super) fn step(&mut self) {
        if Instant::now() < self.next_step {
            return;
        }
        let (habit, request) = (self.habit, &self.request);
        let (mut closed, mut redirects) = (0, 0);
        self.members.retain_mut(|member| {
            let open = match habit {
                Habit::Silent | Habit::Http2 => member.read(4_096).is_some(),
                Habit::Idle => member.read(4_096).is_some_and(|answer| {
                    if !answer.is_empty() && !member.answered {
                        member.answered = true;
                        redirects += u64::from(answer.starts_with(b"HTTP/1.1 302 "));
                    }
                    true
                }),
                Habit::SlowReader => {
                    let read = member.read(1).is_some();
                    read && member.write(request, request.len())
                }
                Habit::SlowWriter => member.write(request, 1) && member.read(4_096).is_some(),
            };
            closed += u64::from(!open);
            open
        });
        self.closed += closed;
        self.redirects += redirects;
        self.next_step = Instant::now() + STEP;
    }

    /// Only looks who was closed or answered, whatever is due.
    pub(super) fn look(&mut self) {
        let before = self.members.len();
        match self.habit {
            Habit::Silent | Habit::Idle | Habit::Http2 => {
                self.next_step = Instant::now();
                self.step();
            }
            Habit::SlowWriter => {
                self.members
                    .retain_mut(|member| member.read(4_096).is_some());
                self.closed += (before - self.members.len()) as u64;
            }
            // To read is what it does not do.
            Habit::SlowReader => {
                let gone = self.gone();
                self.members
                    .retain(|member| !gone.contains(&(member.number as usize)));
                self.closed += (before - self.members.len()) as u64;
            }
        }
    }

    /// Who was closed since this was last asked, as the system says.
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

    /// Those that are open.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether all who came were answered or closed.
    pub(super) fn settled(&self) -> bool {
        self.habit != Habit::Idle || self.members.iter().all(|member| member.answered)
    }
}

impl ManagedProcess {
    /// Up to `most` bytes; nothing when it was closed.
    fn read(&mut self, most: usize) -> Option<Vec<u8>> {
        let mut buffer = [0; 4_096];
        match self.stream.read(&mut buffer[..most]) {
            Ok(0) => None,
            Ok(length) => Some(buffer[..length].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Vec::new()),
            Err(_) => None,
        }
    }

    /// Goes on with up to `most` bytes of `request`, again and again; false when it was closed.
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
        let mut crowd = Crowd::new(Habit::SlowReader, target).expect("made");
        crowd.open(3).expect("taken");
        let mut edge: Vec<_> = (0..3).map(|_| listener.accept().expect("one").0).collect();
        crowd.step();
        for stream in &mut edge {
            stream.write_all(&[b'x'; 100]).expect("taken");
        }
        crowd.look();
        assert_eq!((crowd.len(), crowd.closed), (3, 0));
        // One in order, another, of whose request nothing was read, not.
        edge[0]
            .shutdown(std::net::Shutdown::Write)
            .expect("connected");
        edge.truncate(2);
        let deadline = Instant::now() + Duration::from_secs(10);
        while crowd.closed < 2 && Instant::now() < deadline {
            crowd.look();
        }
        assert_eq!((crowd.len(), crowd.closed), (1, 2));
    }
}
