//! Spans of the real programs at a receiver for OTLP over HTTP, such as an OpenTelemetry collector has.
#![allow(missing_docs)]

use loadtest::affiliates::AffiliateTracker;
use loadtest::clickhouse::Analyst;
use loadtest::replay::{self, ReplayOptions};
use loadtest::stack::{Stack, StackOptions};
use loadtest::{demo, traffic, verify};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

const LINES: u64 = 300;
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Program and name of a span.
type ReceivedSpan = (String, String);

/// Receives spans at a port of its own.
fn receiver() -> (SocketAddr, Receiver<ReceivedSpan>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
    let address = listener.local_addr().expect("bound");
    let (spans, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let spans = spans.clone();
            std::thread::spawn(move || serve(stream, &spans));
        }
    });
    (address, received)
}

/// Responds to each request of a connection.
fn serve(stream: TcpStream, spans: &Sender<ReceivedSpan>) {
    let mut reader = BufReader::new(stream);
    while let Some(body) = body(&mut reader) {
        let request = ExportTraceServiceRequest::decode(&*body).expect("OTLP in protobuf");
        for (program, name) in names(&request) {
            let _ = spans.send((program, name));
        }
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if reader.get_mut().write_all(response).is_err() {
            return;
        }
    }
}

/// The body of the next request; none at the end of the connection.
fn body(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    let mut length = 0;
    reader
        .read_line(&mut line)
        .ok()
        .filter(|bytes| *bytes > 0)?;
    assert!(line.starts_with("POST /v1/traces "), "{line}");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("number");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn names(request: &ExportTraceServiceRequest) -> Vec<ReceivedSpan> {
    let mut names = Vec::new();
    for resource in &request.resource_spans {
        let attributes = resource.resource.iter().flat_map(|it| &it.attributes);
        let program = attributes
            .filter(|it| it.key == "service.name")
            .map(|it| format!("{:?}", it.value));
        let program: String = program.collect();
        let spans = resource.scope_spans.iter().flat_map(|it| &it.spans);
        names.extend(spans.map(|span| (program.clone(), span.name.clone())));
    }
    names
}

#[test]
fn background_work_is_traced_and_clicks_are_not() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (address, received) = receiver();
    let tracker = AffiliateTracker::start().expect("free port");
    let traces = format!("[traces]\notlp_url = \"http://{address}/v1/traces\"\n");
    let options = StackOptions {
        functions: true,
        aggregator_settings: tracker.settings(dir.path()).expect("written") + &traces,
        edge_settings: traces,
        ..StackOptions::default()
    };
    let stack = Stack::start_with(dir.path(), 1, None, &options, |_| {});
    let mut stack = stack.expect("starts");
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
    let log = dir.path().join("sample.log");
    let mut file = File::create(&log).expect("file created");
    traffic::write(42, LINES, &mut file).expect("written");
    let options = ReplayOptions::new(&log, &stack.edge_urls, "test");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let outcome = runtime.block_on(replay::run(options)).expect("replays");
    verify::verify(&analyst, &outcome, 0, ARRIVAL_TIMEOUT).expect("comparable");
    let sales =
        demo::report_sales(&mut stack, &analyst, "test", 0).expect("the tables hold the sales");
    demo::check_affiliate_postbacks(&tracker, &sales).expect("affiliates received each postback");
    // The programs export what remains before they end.
    stack.stop().expect("stops");
    let received: BTreeSet<ReceivedSpan> = received.try_iter().collect();
    let expected = [
        ("aggregator", "insert block"),
        ("aggregator", "send postback"),
        ("edge-tracker", "call function"),
        ("edge-tracker", "ship batch"),
    ];
    assert_eq!(received.len(), expected.len(), "{received:?}");
    for ((program, name), expected) in received.iter().zip(expected) {
        assert!(
            program.contains(expected.0) && name == expected.1,
            "{program} {name}"
        );
    }
}
