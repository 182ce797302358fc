//! An affiliate's server: records postbacks, and responds with given statuses.

use super::PORTS;
use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// A received postback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPostback {
    /// Path and query.
    pub target: String,
    headers: Vec<(String, String)>,
}

type Responses = Arc<dyn Fn(&ReceivedPostback, usize) -> u16 + Send + Sync>;

pub struct Receiver {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<ReceivedPostback>>>,
}

impl ReceivedPostback {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    /// The value of a parameter, as sent.
    pub fn parameter(&self, name: &str) -> &str {
        let (_, query) = self.target.split_once('?').unwrap_or_default();
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value)
    }
}

impl Receiver {
    /// Starts a server. `responses` gives the status for a request and the number of earlier requests with the same
    /// target.
    pub fn start(
        responses: impl Fn(&ReceivedPostback, usize) -> u16 + Send + Sync + 'static,
    ) -> Self {
        let alone = PORTS.lock();
        let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
        drop(alone);
        let address = listener.local_addr().expect("bound");
        let received: Arc<Mutex<Vec<ReceivedPostback>>> = Arc::default();
        let (keeps, responses): (_, Responses) = (received.clone(), Arc::new(responses));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (keeps, responses) = (keeps.clone(), responses.clone());
                std::thread::spawn(move || respond(stream, &keeps, &responses));
            }
        });
        Self { address, received }
    }

    pub fn received(&self) -> Vec<ReceivedPostback> {
        self.received.lock().clone()
    }
}

fn respond(
    mut stream: TcpStream,
    keeps: &Mutex<Vec<ReceivedPostback>>,
    responses: &Responses,
) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let text = String::from_utf8(head).ok()?;
    let mut lines = text.lines();
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let received = ReceivedPostback {
        target,
        headers: headers.collect(),
    };
    let before = {
        let mut all = keeps.lock();
        let before = all.iter().filter(|it| it.target == received.target).count();
        all.push(received.clone());
        before
    };
    let status = responses(&received, before);
    let response =
        format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    stream.write_all(response.as_bytes()).ok()
}
