//! Overload: the order of shedding, no eviction in the middle of a request, and exact counts of shed work.
#![allow(missing_docs)]

mod harness;

use harness::{CHROME, Edge, Response, journal, parse, until};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLICK: &[u8] = b"GET /c/spring HTTP/1.1\r\nHost: go.example\r\nUser-Agent: x\r\n\r\n";
const EFFECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A response without a body.
fn read_head(stream: &mut TcpStream) -> Response {
    let (mut response, mut byte) = (Vec::new(), [0]);
    while !response.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("response");
        response.push(byte[0]);
    }
    parse(&response)
}

fn click(stream: &mut TcpStream) {
    stream.write_all(CLICK).expect("sent");
    assert_eq!(read_head(stream).status, 302);
}

/// Waits until the edge has closed the connection without a response.
fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

fn shed(edge: &Edge, what: &str) -> u64 {
    edge.metric("edge_shed_total", &format!("\"{what}\""))
}

fn await_shed(edge: &Edge, what: &str, count: u64) {
    edge.await_metric("edge_shed_total", &format!("\"{what}\""), count);
    assert_eq!(shed(edge, what), count, "{what}");
}

/// A connection in the middle of a request. The edge has read the incomplete head: it responded to the request before.
fn mid_request(edge: &Edge) -> TcpStream {
    let mut stream = edge.connect();
    let (incomplete, _) = CLICK.split_at(CLICK.len() - 2);
    stream
        .write_all(&[CLICK, incomplete].concat())
        .expect("sent");
    assert_eq!(read_head(&mut stream).status, 302);
    stream
}

fn finish(stream: &mut TcpStream) {
    stream.write_all(b"\r\n").expect("sent");
    assert_eq!(read_head(stream).status, 302);
}

#[test]
fn evicts_longest_idle_connection() {
    let edge = Edge::lone(&[], "max_connections = 3");
    let mut streams: Vec<_> = (0..3).map(|_| edge.connect()).collect();
    // The order of the last requests counts, not the order of connecting.
    for number in [0, 1, 2, 0] {
        click(&mut streams[number]);
    }
    for idle_longest in [1, 2] {
        let mut new = edge.connect();
        click(&mut new);
        assert_closed(&mut streams[idle_longest]);
        streams.push(new);
    }
    for kept in [0, 3, 4] {
        click(&mut streams[kept]);
    }
    await_shed(&edge, "idle_connection", 2);
    assert_eq!(shed(&edge, "connection"), 0);
    assert_eq!(edge.metric("edge_connections", ""), 3);
}

#[test]
fn evicts_connection_that_never_sent_a_byte() {
    let edge = Edge::lone(&[], "max_connections = 1");
    let mut streams: Vec<_> = (0..20).map(|_| edge.connect()).collect();
    let mut last = streams.pop().expect("one");
    streams.iter_mut().for_each(assert_closed);
    click(&mut last);
    await_shed(&edge, "idle_connection", 19);
}

#[test]
fn connection_in_the_middle_of_a_request_is_not_evicted() {
    let edge = Edge::lone(&[], "max_connections = 2");
    let mut working = [mid_request(&edge), mid_request(&edge)];
    for _ in 0..5 {
        let mut new = edge.connect();
        let _ = new.write_all(CLICK);
        assert_closed(&mut new);
    }
    await_shed(&edge, "connection", 5);
    working.iter_mut().for_each(finish);
    // Idle again, the first one is evicted.
    click(&mut edge.connect());
    assert_closed(&mut working[0]);
    await_shed(&edge, "idle_connection", 1);
    assert_eq!(shed(&edge, "connection"), 5);
}

/// An HTTP/2 connection after the exchange of settings.
fn http2(edge: &Edge) -> TcpStream {
    let mut stream = edge.connect();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let greeting = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat();
    stream.write_all(&greeting).expect("sent");
    // The edge's settings and its acknowledgement of the client's.
    while read_frame(&mut stream).expect("frames") != (4, 1) {}
    stream
}

/// A frame's type and flags; nothing at the end.
fn read_frame(stream: &mut TcpStream) -> Option<(u8, u8)> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).ok()?;
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((header[3], header[4]))
}

#[test]
fn idle_http2_gets_goaway_and_half_head_is_kept() {
    const GOAWAY: u8 = 7;
    let edge = Edge::lone(&[], "max_connections = 2\nhttp2 = \"any\"");
    let (mut idle, mut working) = (http2(&edge), http2(&edge));
    // 12 bytes of a head are announced and one is sent. That it was read is known from the response to
    // a ping before it.
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let half = [0, 0, 12, 1, 5, 0, 0, 0, 1, 0x82];
    working
        .write_all(&[&ping[..], &half].concat())
        .expect("sent");
    while read_frame(&mut working).expect("response to the ping").0 != 6 {}
    let mut new = edge.connect();
    click(&mut new);
    let frames: Vec<_> = std::iter::from_fn(|| read_frame(&mut idle)).collect();
    assert!(frames.iter().any(|(kind, _)| *kind == GOAWAY), "{frames:?}");
    await_shed(&edge, "idle_connection", 1);
    let mut another = edge.connect();
    click(&mut another);
    assert_closed(&mut new);
    await_shed(&edge, "idle_connection", 2);
    assert_eq!(edge.metric("edge_connections", ""), 2);
}

#[test]
fn floods_of_resets_and_pings_are_limited() {
    const GOAWAY: u8 = 7;
    let edge = Edge::lone(&[], "write_timeout = \"500ms\"\nhttp2 = \"any\"");
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len())
            .expect("in range")
            .to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags];
        [&head[..], &stream.to_be_bytes(), payload].concat()
    };
    // `GET http /` out of HPACK's static table, and CANCEL for it.
    let resets = (0..1_000_u32).flat_map(|number| {
        let stream = 2 * number + 1;
        let asked = frame(1, 5, stream, &[0x82, 0x86, 0x84]);
        [asked, frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    });
    let mut resetting = http2(&edge);
    let _ = resetting.write_all(&resets.collect::<Vec<_>>());
    let frames: Vec<_> = std::iter::from_fn(|| read_frame(&mut resetting)).collect();
    assert!(frames.iter().any(|(kind, _)| *kind == GOAWAY), "{frames:?}");
    // A client that does not read the responses to its pings is no longer read, and is disconnected in the end.
    let mut pinging = http2(&edge);
    let bounded = pinging.set_write_timeout(Some(EFFECT_TIMEOUT));
    bounded.expect("a socket has one");
    let pings = frame(6, 0, 0, &[7; 8]).repeat(4_096);
    let deadline = Instant::now() + EFFECT_TIMEOUT;
    while pinging.write_all(&pings).is_ok() {
        assert!(Instant::now() < deadline, "pings are taken without end");
    }
    edge.await_metric("edge_refused_total", "\"connection_broken\"", 2);
    assert!(memory_kib(&edge) < 64 << 10, "{} KiB", memory_kib(&edge));
    click(&mut edge.connect());
}

/// Memory of the edge without mapped files.
fn memory_kib(edge: &Edge) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", edge.pid()));
    let status = status.expect("readable");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.expect("number")
}

/// Sends one click and returns its click id, or nothing if the connection was shed. With `Connection: close` it is not
/// idle after the response.
fn visit(edge: &Edge) -> Option<String> {
    let mut stream = edge.connect();
    let mut response = [0; 2_048];
    let (first, rest) = CLICK.split_at(CLICK.len() - 2);
    let request = [first, b"Connection: close\r\n", rest].concat();
    let sent = stream.write_all(&request);
    match sent.and_then(|()| stream.read(&mut response)) {
        Ok(length @ 1..) => {
            let response = parse(&response[..length]);
            assert_eq!(response.status, 302);
            Some(click_id(&response))
        }
        Ok(0) => None,
        Err(error) => {
            let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(gone.contains(&error.kind()), "{error}");
            None
        }
    }
}

fn click_id(response: &Response) -> String {
    let id = response.location().split("cid=").nth(1).expect("click id");
    id[..tracking_events::CLICK_ID_CHARS].to_owned()
}

#[test]
fn each_connection_is_served_or_counted_as_shed() {
    let mut edge = Edge::lone(&[], "max_connections = 4");
    // Two of four slots are occupied permanently.
    let mut working = [mid_request(&edge), mid_request(&edge)];
    let (answered, rejected) = (Mutex::new(BTreeSet::new()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..40 {
                    match visit(&edge) {
                        Some(id) => drop(answered.lock().expect("not poisoned").insert(id)),
                        None => drop(rejected.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
    });
    working.iter_mut().for_each(finish);
    let ids = answered.into_inner().expect("not poisoned");
    let answered = ids.len() as u64 + 4;
    let deadline = Instant::now() + EFFECT_TIMEOUT;
    while edge.metric("edge_connections", "") > 2 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(edge.metric("edge_answered_total", "\"click\""), answered);
    assert_eq!(edge.metric("edge_click_log_seconds_count", ""), answered);
    assert_eq!(edge.metric("edge_lost_total", ""), 0);
    let shed = shed(&edge, "connection") + shed(&edge, "idle_connection");
    assert_eq!(shed, rejected.into_inner());
    // The journal has each redirect and nothing else.
    assert!(edge.stop());
    let logged = journal::visits(edge.dir.path(), 1, |visit| visit.id.to_string());
    assert_eq!(logged.len() as u64, answered);
    let logged: BTreeSet<_> = logged.into_iter().collect();
    assert!(ids.is_subset(&logged));
}

#[test]
fn idle_connections_take_bounded_memory() {
    const COUNT: usize = 600;
    // Heads of 8 KiB, responses of as much, and 8 KiB for the rest.
    const MAX_CONNECTION_KIB: u64 = 24;
    let edge = Edge::lone(
        &[],
        "max_connections = 2000\nmax_head_bytes = \"8KiB\"\nhttp2 = \"any\"",
    );
    let idle_click = |edge: &Edge| {
        let mut stream = edge.connect();
        click(&mut stream);
        stream
    };
    // Memory that the first connections allocate is kept.
    drop((0..20).map(|_| idle_click(&edge)).collect::<Vec<_>>());
    await_none_connected(&edge);
    for (what, open) in [
        (
            "silent",
            (&|edge: &Edge| edge.connect()) as &dyn Fn(&Edge) -> TcpStream,
        ),
        ("after a click", &idle_click),
        ("HTTP/2", &http2),
    ] {
        let before = memory_kib(&edge);
        let streams: Vec<_> = (0..COUNT).map(|_| open(&edge)).collect();
        edge.await_metric("edge_connections", "", COUNT as u64);
        let each = memory_kib(&edge).saturating_sub(before) / COUNT as u64;
        assert!(each <= MAX_CONNECTION_KIB, "{what}: {each} KiB");
        drop(streams);
        await_none_connected(&edge);
    }
}

/// Waits until the edge has noticed that all connections are closed.
fn await_none_connected(edge: &Edge) {
    until(
        || format!("no connection, but descriptors {:?}", descriptors(edge)),
        || edge.metric("edge_connections", "") == 0,
    );
}

/// The numbers of the edge's open descriptors.
fn descriptors(edge: &Edge) -> BTreeSet<usize> {
    let directory = format!("/proc/{}/fd", edge.pid());
    let open = std::fs::read_dir(directory).expect("readable").flatten();
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    open.filter_map(number).collect()
}

#[test]
fn edge_without_descriptors_sheds_and_recovers() {
    const FREE_DESCRIPTORS: usize = 8;
    let edge = Edge::lone(&[], "max_connections = 100");
    // Descriptors for the first connection are open after this.
    click(&mut edge.connect());
    await_none_connected(&edge);
    let used = descriptors(&edge);
    // The limit applies to numbers, and some above the free ones may be in use.
    let free = (0..).filter(|number| !used.contains(number));
    let limit = free.take(FREE_DESCRIPTORS).last().expect("some") + 1;
    let limited = Command::new("prlimit")
        .arg(format!("--pid={}", edge.pid()))
        .arg(format!("--nofile={limit}:"))
        .status();
    assert!(limited.expect("prlimit runs").success());
    let incomplete = &CLICK[..CLICK.len() - 2];
    let mut streams: Vec<_> = (0..4 * FREE_DESCRIPTORS).map(|_| edge.connect()).collect();
    for stream in &mut streams {
        let _ = stream.write_all(incomplete);
    }
    // Each connection is served, or was closed at once or after its response. That depends on other descriptors that
    // the edge opens for a moment.
    let is_served = |stream: &mut TcpStream, bytes: &[u8]| {
        let mut response = [0; 2_048];
        let sent = stream.write_all(bytes);
        match sent.and_then(|()| stream.read(&mut response)) {
            Ok(length @ 1..) => {
                assert_eq!(parse(&response[..length]).status, 302);
                true
            }
            Ok(0) | Err(_) => false,
        }
    };
    streams.retain_mut(|stream| is_served(stream, b"\r\n"));
    streams.retain_mut(|stream| is_served(stream, CLICK));
    let rejected = (4 * FREE_DESCRIPTORS - streams.len()) as u64;
    // Connections whose end the edge has not noticed could still be evicted for the next one.
    drop(streams);
    await_none_connected(&edge);
    click(&mut edge.connect());
    // Each is counted once; a connection that was served twice may have been evicted after that.
    let shed = shed(&edge, "connection") + shed(&edge, "idle_connection");
    assert!(
        (rejected..=4 * FREE_DESCRIPTORS as u64).contains(&shed),
        "{shed} shed, {rejected} noticed"
    );
    assert!(
        edge.log().contains("connections are shed"),
        "{}",
        edge.log()
    );
}

#[test]
fn max_connections_is_lowered_to_the_descriptor_limit() {
    // Without the privilege to raise it, also where tests run as root.
    let before = ["setpriv", "--bounding-set=-sys_resource", "prlimit"];
    let unprivileged = Command::new("id").arg("-u").output().expect("id runs");
    let skip = usize::from(unprivileged.stdout != b"0\n") * 2;
    let before = [&before[skip..], &["--nofile=100:532", "--"]].concat();
    let edge = Edge::lone(&before, "");
    assert!(
        edge.log().contains("lowered http.max_connections"),
        "{}",
        edge.log()
    );
    let mut streams: Vec<_> = (0..25).map(|_| edge.connect()).collect();
    let mut last = streams.pop().expect("one");
    click(&mut last);
    await_shed(&edge, "idle_connection", 5);
    assert_eq!(edge.metric("edge_connections", ""), 20);
}

/// Keeps the worker busy with pipelined clicks and reads every response, until `stop` is set.
fn pipeline(edge: &Edge, stop: &AtomicBool, answered: &AtomicU64) {
    const PIPELINED_REQUESTS: usize = 64;
    let mut stream = edge.connect();
    let requests = CLICK.repeat(PIPELINED_REQUESTS);
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&requests).expect("sent");
        let mut left = PIPELINED_REQUESTS;
        let mut seen = Vec::new();
        let mut buffer = [0; 16 << 10];
        while left > 0 {
            let length = stream.read(&mut buffer).expect("responses");
            assert!(length > 0, "closed with {left} responses outstanding");
            seen.extend_from_slice(&buffer[..length]);
            let whole = seen.windows(4).filter(|end| end == b"\r\n\r\n").count();
            left = PIPELINED_REQUESTS - whole;
        }
        let statuses = String::from_utf8_lossy(&seen)
            .matches("HTTP/1.1 302 ")
            .count();
        assert_eq!(statuses, PIPELINED_REQUESTS);
        answered.fetch_add(PIPELINED_REQUESTS as u64, Ordering::Relaxed);
    }
}

#[test]
fn overload_sheds_pixels_and_no_redirects() {
    let edge = Edge::lone(&[], "shed_lag = \"3ms\"");
    let (stop, clicks) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut pixels, mut rejected) = (0, 0);
    let pixel = || edge.request("GET", "/i/spring.gif", &[("User-Agent", CHROME)]);
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| pipeline(&edge, &stop, &clicks));
        }
        let deadline = Instant::now() + EFFECT_TIMEOUT;
        while rejected < 10 && Instant::now() < deadline {
            let response = pixel();
            match response.status {
                200 => pixels += 1,
                503 => {
                    assert_eq!(response.header("retry-after"), Some("2"));
                    assert!(
                        response.text().contains("(reason 26)"),
                        "{}",
                        response.text()
                    );
                    rejected += 1;
                }
                other => panic!("{other}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(rejected, 10);
    // Shedding ends with the overload.
    let deadline = Instant::now() + EFFECT_TIMEOUT;
    loop {
        match pixel().status {
            200 => break pixels += 1,
            status => assert!(status == 503 && Instant::now() < deadline, "{status}"),
        }
        rejected += 1;
    }
    assert_eq!(shed(&edge, "impression"), rejected);
    assert_eq!(edge.metric("edge_answered_total", "\"impression\""), pixels);
    let clicks = clicks.into_inner();
    assert_eq!(edge.metric("edge_answered_total", "\"click\""), clicks);
    assert_eq!(
        edge.metric("edge_click_log_seconds_count", ""),
        clicks + pixels
    );
    assert_eq!(edge.metric("edge_refused_total", ""), 0);
}
