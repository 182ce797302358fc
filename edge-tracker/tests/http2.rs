//! Cleartext HTTP/2, as load balancers use it towards their targets.
#![allow(missing_docs)]

mod harness;

use bytes::Bytes;
use harness::{CHROME, Edge};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io::{Read, Write};
use std::net::TcpStream;

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.0/8\"]";

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;

/// A client that sends exactly the given frames.
struct RawClient(TcpStream);

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl RawClient {
    /// Sends the preface, and settings with the initial window of its streams.
    fn greet(edge: &Edge, window: u32) -> Self {
        let mut client = Self(edge.connect());
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        client.0.write_all(preface).expect("sent");
        let window = window.to_be_bytes();
        client.send(SETTINGS, 0, 0, &[&[0, 4], &window[..]].concat());
        client
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len())
            .expect("in range")
            .to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags];
        let frame = [&head[..], &stream.to_be_bytes(), payload].concat();
        self.0.write_all(&frame).expect("sent");
    }

    fn get(&mut self, stream: u32, path: &str) {
        // GET, http, :path and :authority of HPACK's static table.
        let length = u8::try_from(path.len()).expect("in range");
        let head = [
            &[0x82, 0x86, 0x04, length],
            path.as_bytes(),
            b"\x01\x0ago.example",
        ];
        self.send(HEADERS, 5, stream, &head.concat());
    }

    /// The next frame; none at the end.
    fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let [_, _, _, kind, flags, ..] = head;
        Some(Frame {
            kind,
            flags,
            stream,
            payload,
        })
    }

    fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().expect("frame of this kind");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Waits for the acknowledgement of a ping: the edge has read all earlier frames.
    fn ping(&mut self) {
        self.send(PING, 0, 0, &[7; 8]);
        while self.until(PING).flags & 1 == 0 {}
    }
}

fn click_is_answered(edge: &Edge) {
    assert_eq!(edge.get("/c/spring").status, 302);
}

fn shed(edge: &Edge, what: &str) -> u64 {
    edge.metric("edge_shed_total", &format!("\"{what}\""))
}

#[tokio::test]
async fn many_streams_of_one_connection_are_served() {
    let edge = Edge::with(TRUSTED);
    let stream = tokio::net::TcpStream::connect(&edge.listening)
        .await
        .expect("the edge listens");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let mut responses = Vec::new();
    for number in 0..50 {
        let request = http::Request::get(format!("http://go.example/c/spring?sub1={number}"))
            .header("user-agent", CHROME)
            .body(Empty::<Bytes>::new())
            .expect("valid");
        responses.push((number, sender.clone().send_request(request)));
    }
    for (number, response) in responses {
        let response = response.await.expect("response");
        assert_eq!(response.status(), 302);
        let location = response.headers()["location"].to_str().expect("ASCII");
        assert!(location.contains(&format!("&s={number}&")), "{location}");
    }
    assert_eq!(edge.metric("edge_click_log_seconds_count", ""), 50);
}

#[test]
fn http2_is_served_to_configured_peers_only() {
    const HTTP_1_1_REQUIRED: u8 = 0x0d;
    for (settings, is_spoken) in [
        ("", false),
        ("trusted_proxies = [\"10.0.0.0/8\"]", false),
        (TRUSTED, true),
        ("http2 = \"any\"", true),
        (&format!("{TRUSTED}\nhttp2 = \"off\""), false),
    ] {
        let edge = Edge::with(settings);
        let mut client = RawClient::greet(&edge, 65_535);
        if is_spoken {
            client.get(1, "/c/spring");
            assert_eq!(client.until(HEADERS).stream, 1, "{settings}");
        } else {
            edge.await_metric("edge_refused_total", "\"http2_not_served\"", 1);
            let frames: Vec<_> = std::iter::from_fn(|| client.frame()).collect();
            // The connection may be reset before its last frame was read.
            for frame in frames.iter().filter(|frame| frame.kind == GOAWAY) {
                assert_eq!(frame.payload[7], HTTP_1_1_REQUIRED, "{settings}");
            }
            assert!(frames.iter().all(|frame| frame.kind != HEADERS));
        }
        click_is_answered(&edge);
    }
}

#[test]
fn connection_with_closed_windows_is_evicted() {
    const PLACES: usize = 8;
    // Closed, or open for a part of the pixel.
    for window in [0, 10] {
        let edge = Edge::lone(&[], &format!("max_connections = {PLACES}\n{TRUSTED}"));
        let mut clients: Vec<_> = (0..PLACES)
            .map(|_| RawClient::greet(&edge, window))
            .collect();
        for client in &mut clients {
            client.get(1, "/i/spring.gif");
            assert_eq!(client.until(HEADERS).flags & END_STREAM, 0);
            client.ping();
        }
        click_is_answered(&edge);
        clients[0].until(GOAWAY);
        while clients[0].frame().is_some() {}
        assert_eq!(shed(&edge, "connection"), 0);
        assert_eq!(shed(&edge, "idle_connection"), 1);
    }
}

#[test]
fn stream_that_is_not_read_in_time_is_reset() {
    let edge = Edge::with(&format!("{TRUSTED}\nwrite_timeout = \"300ms\""));
    for (number, window) in (1..).zip([0, 10]) {
        let mut client = RawClient::greet(&edge, window);
        client.get(1, "/i/spring.gif");
        let reset = client.until(RST_STREAM);
        assert_eq!(reset.stream, 1, "{window}");
        edge.await_metric("edge_refused_total", "\"not_taken\"", number);
        // The connection continues, and a response that the client reads is sent completely.
        client.get(3, "/c/spring");
        assert_eq!(client.until(HEADERS).flags & END_STREAM, END_STREAM);
        client.get(5, "/i/spring.gif");
        client.send(WINDOW_UPDATE, 0, 5, &[0, 0, 1, 0]);
        let mut data = Vec::new();
        loop {
            let frame = client.frame().expect("the pixel");
            if frame.stream == 5 && frame.kind == 0 {
                data.extend(&frame.payload);
                if frame.flags & END_STREAM != 0 {
                    break;
                }
            }
        }
        assert!(data.starts_with(b"GIF89a") && data.len() == 43, "{data:?}");
    }
    assert_eq!(edge.metric("edge_refused_total", "\"not_taken\""), 2);
}

#[test]
fn connection_whose_client_does_not_read_is_evicted() {
    let edge = Edge::lone(&[], "max_connections = 1\nwrite_timeout = \"60s\"");
    let mut reader = edge.connect();
    let timeout = Some(std::time::Duration::from_millis(300));
    reader
        .set_write_timeout(timeout)
        .expect("socket option set");
    let clicks = b"GET /c/spring HTTP/1.1\r\nHost: go.example\r\n\r\n".repeat(256);
    while reader.write_all(&clicks).is_ok() {}
    click_is_answered(&edge);
    assert_eq!(shed(&edge, "connection"), 0);
    assert_eq!(shed(&edge, "idle_connection"), 1);
}
