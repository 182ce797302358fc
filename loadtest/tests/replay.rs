//! The visitors of a replayed log, for each log format.
#![allow(missing_docs)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};

use flate2::Compression;
use flate2::write::GzEncoder;
use loadtest::replay;

const REST: &str =
    "- - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 20 \"-\" \"Mozilla/5.0\"";

/// An edge that redirects every visitor and reports each client address.
fn edge(visitors: Sender<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let visitors = visitors.clone();
            std::thread::spawn(move || serve(stream, &visitors));
        }
    });
    address
}

fn serve(mut stream: TcpStream, visitors: &Sender<String>) {
    let reader = BufReader::new(stream.try_clone().expect("second handle"));
    for line in reader.lines().map_while(Result::ok) {
        if let Some(visitor) = line.strip_prefix("x-forwarded-for: ") {
            visitors.send(visitor.to_owned()).expect("the test waits");
        } else if line.is_empty() {
            let response = "HTTP/1.1 302 Found\r\nlocation: https://shop.example/\r\ncontent-length: 0\r\n\r\n";
            stream
                .write_all(response.as_bytes())
                .expect("the client reads");
        }
    }
}

/// The visitors in a log and the number of unreadable lines, or the error.
fn replayed(log: &Path) -> Result<(Vec<String>, u64), String> {
    let (sender, receiver) = channel();
    let options = replay::ReplayOptions {
        slugs: vec!["spring".into()],
        connections: 1,
        ..replay::ReplayOptions::new(log, &[format!("http://{}", edge(sender))], "formats")
    };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let outcome = runtime.block_on(replay::run(options));
    let outcome = outcome.map_err(|error| format!("{error:#}"))?;
    let mut visitors: Vec<String> = receiver.try_iter().collect();
    visitors.sort();
    assert_eq!(outcome.answered.len(), visitors.len());
    Ok((visitors, outcome.unreadable))
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
    writer.write_all(text.as_bytes()).expect("memory");
    writer.finish().expect("memory")
}

#[test]
fn each_log_format_keeps_visitors_apart() {
    let json = |address: &str| {
        format!(
            "{{\"time_iso8601\":\"2015-05-17T10:05:03+00:00\",\"remote_addr\":\"{address}\",\"request\":\"GET /a HTTP/1.1\"}}"
        )
    };
    let plain = format!("192.0.2.1 {REST}\n192.0.2.2 {REST}\n");
    let members = [
        gzipped(&format!("192.0.2.1 {REST}\n")),
        gzipped(&format!("192.0.2.2 {REST}\n")),
    ];
    for (format, log, unreadable) in [
        ("combined", plain.clone().into_bytes(), 0),
        (
            "behind proxies",
            format!("192.0.2.1, 10.0.0.7 {REST}\n192.0.2.2, 10.0.0.7 {REST}\n").into_bytes(),
            0,
        ),
        (
            "with virtual hosts",
            format!("a.example:443 192.0.2.1 {REST}\nb.example:80 192.0.2.2 {REST}\n").into_bytes(),
            0,
        ),
        (
            "JSON",
            format!("{}\n{}\n", json("192.0.2.1"), json("192.0.2.2")).into_bytes(),
            0,
        ),
        ("gzipped", gzipped(&plain), 0),
        ("gzipped in parts", members.concat(), 0),
        (
            "with host names",
            format!("{plain}crawler.example {REST}\n").into_bytes(),
            1,
        ),
    ] {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), log).expect("writable");
        let expected = ["192.0.2.1", "192.0.2.2"].map(String::from).to_vec();
        assert_eq!(
            replayed(file.path()),
            Ok((expected, unreadable)),
            "{format}"
        );
    }
}

#[test]
fn mostly_unreadable_log_is_rejected_before_sending() {
    for (name, log) in [
        ("host names", format!("crawler.example {REST}\n").repeat(3)),
        (
            "another format",
            "2015-05-17 10:05:03 W3SVC1 GET /a 200\n".repeat(2_000),
        ),
    ] {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), log).expect("writable");
        let error = replayed(file.path()).expect_err(name);
        assert!(
            error.contains("can't be read") && error.contains("line 1;"),
            "{name}: {error}"
        );
    }
}
