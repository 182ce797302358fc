//! An affiliate's server: keeps what it is told, and answers as it is asked to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was told in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Path and query.
    pub target: String,
    headers: Vec<(String, String)>,
}

type Answers = Arc<dyn Fn(&Told, usize) -> u16 + Send + Sync>;

pub struct Receiver {
    pub address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Told {
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
    /// Answers with the status that `answers` gives for a request and how often the same target has come
    /// before.
    pub fn start(answers: impl Fn(&Told, usize) -> u16 + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let (keeps, answers): (_, Answers) = (told.clone(), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (keeps, answers) = (keeps.clone(), answers.clone());
                std::thread::spawn(move || answer(stream, &keeps, &answers));
            }
        });
        Self { address, told }
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().expect("unpoisoned").clone()
    }
}

fn answer(mut stream: TcpStream, keeps: &Mutex<Vec<Told>>, answers: &Answers) -> Option<()> {
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
    let told = Told {
        target,
        headers: headers.collect(),
    };
    let before = {
        let mut all = keeps.lock().expect("unpoisoned");
        let before = all.iter().filter(|it| it.target == told.target).count();
        all.push(told.clone());
        before
    };
    let status = answers(&told, before);
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    stream.write_all(answer.as_bytes()).ok()
}
