//! What lies between processes when networks fail: a UDP relay that loses, delays, repeats and
//! reorders packets or lets none through, and a TCP relay that stalls or cuts answers off. Neither
//! knows what it carries.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::traffic::Random;

/// How packets in one direction fare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// None gets through.
    pub(super) cut: bool,
    /// Of a hundred, so many are lost.
    pub(super) lost: u64,
    /// Of a hundred, so many come twice.
    pub(super) doubled: u64,
    /// Each is late by up to so long, which changes their order.
    pub(super) late: Duration,
}

#[derive(Debug)]
struct Conditions {
    /// From those who connect, and to them.
    ways: [Way; 2],
    target: Option<SocketAddr>,
    random: Random,
}

/// A UDP port that leads to another.
#[derive(Debug, Clone)]
pub(super) struct Packets {
    pub(super) port: u16,
    conditions: Arc<Mutex<Conditions>>,
}

/// A packet, when it goes out, and where.
struct Due {
    at: Instant,
    bytes: Vec<u8>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Packets {
    /// Listens at `on`, on a port of its own; everything is lost until the target is known.
    pub(super) fn listen(on: Ipv4Addr, seed: u64) -> io::Result<Self> {
        let front = Arc::new(UdpSocket::bind((on, 0))?);
        let relay = Self {
            port: front.local_addr()?.port(),
            conditions: Arc::new(Mutex::new(Conditions {
                ways: [Way::default(); 2],
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

    pub(super) fn lead_to(&self, target: SocketAddr) {
        lock(&self.conditions).target = Some(target);
    }

    /// How packets fare from now on: towards the target, and back.
    pub(super) fn set(&self, ways: [Way; 2]) {
        lock(&self.conditions).ways = ways;
    }

    fn carry(&self, front: &Arc<UdpSocket>, later: &mpsc::Sender<Due>) {
        let mut behind: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        let mut packet = vec![0; 65_536];
        loop {
            let Ok((length, from)) = front.recv_from(&mut packet) else {
                continue;
            };
            let Some(target) = lock(&self.conditions).target else {
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

    /// A socket whose answers go back to `client`.
    fn open(
        &self,
        client: SocketAddr,
        front: &Arc<UdpSocket>,
        later: &mpsc::Sender<Due>,
    ) -> io::Result<Arc<UdpSocket>> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        let (relay, answers) = (self.clone(), socket.clone());
        let (front, later) = (front.clone(), later.clone());
        thread::spawn(move || {
            let mut packet = vec![0; 65_536];
            loop {
                if let Ok((length, _)) = answers.recv_from(&mut packet) {
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
        later: &mpsc::Sender<Due>,
    ) {
        let mut conditions = lock(&self.conditions);
        let way = conditions.ways[direction];
        let random = &mut conditions.random;
        if way.cut || random.below(100) < way.lost {
            return;
        }
        let copies = 1 + usize::from(random.below(100) < way.doubled);
        for _ in 0..copies {
            let late = random.below(way.late.as_micros() as u64 + 1);
            let due = Due {
                at: Instant::now() + Duration::from_micros(late),
                bytes: packet.to_vec(),
                socket: socket.clone(),
                to,
            };
            // The other thread lives as long as the process.
            let _ = later.send(due);
        }
    }
}

fn send_when_due(due: &mpsc::Receiver<Due>) {
    let mut waiting: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
    loop {
        let next = waiting.peek().map(|Reverse(it)| it.at);
        let wait = next.map_or(Duration::from_secs(1), |at| {
            at.saturating_duration_since(Instant::now())
        });
        match due.recv_timeout(wait) {
            Ok(packet) => waiting.push(Reverse(packet)),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        while waiting
            .peek()
            .is_some_and(|Reverse(it)| it.at <= Instant::now())
        {
            if let Some(Reverse(it)) = waiting.pop() {
                // A packet that can't be sent is a packet lost.
                let _ = it.socket.send_to(&it.bytes, it.to);
            }
        }
    }
}

/// How connections through a [`Streams`] fare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mood {
    /// As if it were not there.
    #[default]
    Pass,
    /// Each portion is late by so long.
    Slow(Duration),
    /// What is asked arrives; instead of the answer the connection ends.
    NoAnswer,
    /// What is asked arrives; instead of the answer comes that there is none.
    Failed,
    /// What is asked arrives; the answer does not until the mood changes, and then the connection ends.
    Silent,
    /// Connections end at once, also amid what is asked.
    Refuse,
}

/// What a proxy says in place of an answer that it did not get.
const NO_ANSWER: &[u8] =
    b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A TCP port that leads to another.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) port: u16,
    mood: Arc<Mutex<(Mood, Option<SocketAddr>)>>,
    changed: Arc<Condvar>,
}

impl Streams {
    /// Listens on a port of its own; connections end at once until the target is known.
    pub(super) fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let relay = Self {
            port: listener.local_addr()?.port(),
            mood: Arc::default(),
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

    pub(super) fn lead_to(&self, target: SocketAddr) {
        lock(&self.mood).1 = Some(target);
    }

    pub(super) fn set(&self, mood: Mood) {
        lock(&self.mood).0 = mood;
        self.changed.notify_all();
    }

    fn carry(&self, client: TcpStream) {
        let (mood, target) = *lock(&self.mood);
        if mood == Mood::Refuse {
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

    fn wait_while(&self, mood: Mood) {
        let guard = lock(&self.mood);
        drop(self.changed.wait_while(guard, |current| current.0 == mood));
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, answers: bool) {
        let mut portion = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut portion) {
            let mood = lock(&self.mood).0;
            match mood {
                Mood::Slow(late) => thread::sleep(late),
                Mood::NoAnswer if answers => break,
                Mood::Failed if answers => {
                    // Already closed is as good.
                    let _ = to.write_all(NO_ANSWER);
                    break;
                }
                Mood::Silent if answers => {
                    self.wait_while(Mood::Silent);
                    break;
                }
                Mood::Refuse => break,
                _ => {}
            }
            if to.write_all(&portion[..read]).is_err() {
                break;
            }
        }
        // Already closed is what is wanted.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_twice_or_not_at_all_as_told() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let relay = Packets::listen(Ipv4Addr::LOCALHOST, 1).expect("listening");
        relay.lead_to(server.local_addr().expect("bound"));
        let double = Way {
            doubled: 100,
            ..Way::default()
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
        let cut = Way {
            cut: true,
            ..Way::default()
        };
        relay.set([cut, Way::default()]);
        let (later, due) = mpsc::channel();
        let socket = Arc::new(client);
        let to = server.local_addr().expect("bound");
        relay.pass(0, b"lost", &socket, to, &later);
        assert!(due.try_recv().is_err());
        relay.pass(1, b"passed", &socket, to, &later);
        assert_eq!(due.try_recv().expect("it is to be sent").bytes, b"passed");
    }

    #[test]
    fn what_was_asked_arrives_though_no_answer_does() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listening");
        let relay = Streams::listen().expect("listening");
        relay.lead_to(server.local_addr().expect("bound"));
        for (mood, expected) in [
            (Mood::Pass, &b"answer"[..]),
            (Mood::Failed, NO_ANSWER),
            (Mood::NoAnswer, b""),
            (Mood::Silent, b""),
        ] {
            relay.set(mood);
            let mut client =
                TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port)).expect("connected");
            client.write_all(b"ask").expect("sent");
            let (mut served, _) = server.accept().expect("a connection");
            let mut asked = [0; 3];
            served.read_exact(&mut asked).expect("it arrives");
            served.write_all(b"answer").expect("sent");
            drop(served);
            if mood == Mood::Silent {
                client.set_nonblocking(true).expect("set");
                let waiting = client.read(&mut [0; 1]).expect_err("nothing yet");
                assert_eq!(waiting.kind(), io::ErrorKind::WouldBlock);
                client.set_nonblocking(false).expect("set");
                // Not `Pass`: the answer may not have reached the relay yet.
                relay.set(Mood::NoAnswer);
            }
            let mut answer = Vec::new();
            // A connection that is cut may be reset instead of closed.
            let _ = client.read_to_end(&mut answer);
            assert_eq!(answer, expected, "{mood:?}");
        }
    }
}
