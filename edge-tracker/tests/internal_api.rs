//! The internal API at its own address: reports by functions of other hosts, their authentication, and refusals.
#![allow(missing_docs)]

mod harness;

use harness::faketime::FakeClock;
use harness::postbacks::click;
use harness::{Edge, Response, TIMEOUT, parse, write_secret};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const SECTION: &str = "[internal_api]\nlisten = \"127.0.0.1:0\"\n";

/// A directory with links and a token.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join("links.toml"), harness::LINKS).expect("written");
    std::fs::create_dir(dir.path().join("data")).expect("directory created");
    write_secret(&token_file(dir.path()), &format!("{TOKEN}\n"));
    dir
}

fn token_file(dir: &Path) -> std::path::PathBuf {
    dir.join("data/internal-api-token")
}

/// An edge without functions of its own, with more lines in `[internal_api]`.
fn edge(more: &str) -> Edge {
    Edge::lone_in(directory(), &[], &format!("{SECTION}{more}"))
}

fn connect(edge: &Edge) -> TcpStream {
    let address = edge.internal_api.as_ref().expect("configured");
    let stream = TcpStream::connect(address).expect("the edge listens");
    stream
        .set_read_timeout(Some(TIMEOUT))
        .expect("socket option set");
    stream
}

/// Sends `bytes` and reads the response until the edge closes the connection.
fn send(edge: &Edge, bytes: &[u8]) -> Response {
    let mut stream = connect(edge);
    // A body that is too long is not read to its end.
    let _ = stream.write_all(bytes);
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    parse(&response)
}

fn request(method: &str, path: &str, token: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: tracker\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn report(edge: &Edge, token: &str, body: &str) -> Response {
    send(
        edge,
        request("POST", "/v1/conversions", token, body).as_bytes(),
    )
}

fn conversion(click: &str) -> String {
    format!(
        r#"{{"advertiser":"acme","click_id":"{click}","kind":"sale","kind_name":"","transaction":"t-1","status":"approved","payout_minor":1999,"currency":"USD","dialect":"generic","address":"203.0.113.7","stated":{{"payout":true,"currency":true,"kind":true,"status":true}}}}"#
    )
}

fn rejection(detail_bytes: usize) -> String {
    let detail = "x".repeat(detail_bytes);
    format!(
        r#"{{"source":"postback","party":"acme","reason":103,"reason_name":"not_authentic","detail":"{detail}","request":"GET /","status":403,"address":"203.0.113.7"}}"#
    )
}

/// A check of an identity, whose event is about 13 KiB long.
fn long_kyc_update() -> String {
    let body = "eHh4".repeat(13_000 / 3);
    format!(
        r#"{{"provider":"verifymy","delivery":"d-1","affiliate":"ann","status":"approved","tier":2,"happened_micros":1700000000000000,"signed":{{"method":"POST","path":"/","query":"","headers":[],"body":"{body}"}}}}"#
    )
}

/// A request of which the edge has the head and awaits the body.
struct HalfRequest {
    stream: TcpStream,
    body: String,
}

impl HalfRequest {
    fn begin(edge: &Edge, whole: &str) -> Self {
        let (head, body) = whole.split_once("\r\n\r\n").expect("head");
        let mut stream = connect(edge);
        write!(stream, "{head}\r\nExpect: 100-continue\r\n\r\n").expect("sent");
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).expect("response");
        assert!(interim.starts_with(b"HTTP/1.1 100 "));
        let body = body.to_owned();
        Self { stream, body }
    }

    fn finish(mut self) -> Response {
        self.stream.write_all(self.body.as_bytes()).expect("sent");
        let mut response = Vec::new();
        self.stream.read_to_end(&mut response).expect("response");
        parse(&response)
    }
}

/// The number that a refusal names.
fn number(response: &Response) -> u16 {
    let text = response.text();
    let rest = text.strip_prefix("refused: ");
    let number = rest.and_then(|it| it.split(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{response:?}"))
}

fn outcome(edge: &Edge, kind: &str, outcome: &str) -> u64 {
    let labels = format!("kind=\"{kind}\",outcome=\"{outcome}\"");
    edge.metric("edge_reports_total", &labels)
}

#[test]
fn reports_of_other_hosts_are_durable_before_204() {
    let edge = edge("");
    let report = conversion(&click(&edge));
    let syncs = edge.metric("edge_journal_syncs_total", "");
    for (kind, path, body) in [
        ("conversion", "/v1/conversions", report.as_str()),
        ("kyc_update", "/v1/kyc-updates", &long_kyc_update()),
        ("rejection", "/v1/rejections", &rejection(10)),
    ] {
        let response = send(&edge, request("POST", path, TOKEN, body).as_bytes());
        assert_eq!((response.status, response.text()), (204, String::new()));
        assert_eq!(outcome(&edge, kind, "durable"), 1, "{kind}");
    }
    edge.await_metric("edge_journal_syncs_total", "", syncs + 1);
    // One connection serves many reports.
    let mut stream = connect(&edge);
    let request = request("POST", "/v1/conversions", TOKEN, &report);
    let request = request.replace("Connection: close\r\n", "");
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).expect("sent");
        let mut response = [0; 1024];
        let length = stream.read(&mut response).expect("response");
        assert_eq!(parse(&response[..length]).status, 204);
    }
    assert_eq!(edge.metric("edge_internal_api_connections", ""), 1);
}

#[test]
fn invalid_messages_are_refused_with_their_number() {
    let edge = edge("");
    let good = conversion(&click(&edge));
    let long = rejection(70 << 10);
    let chunked = format!(
        "POST /v1/rejections HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    let post = |path, token, body: &str| request("POST", path, token, body);
    let conversions = "/v1/conversions";
    for (request, status, expected) in [
        (post(conversions, "", &good), 401, 350),
        (post(conversions, &TOKEN[1..], &good), 401, 350),
        (post(conversions, &TOKEN.to_uppercase(), &good), 401, 350),
        // The body of an unauthenticated request is not read.
        (post(conversions, "x", &long), 401, 350),
        (post("/v1/nothing", TOKEN, &good), 404, 351),
        (post("/metrics", TOKEN, ""), 404, 351),
        (post("/c/spring", TOKEN, ""), 404, 351),
        (request("GET", conversions, TOKEN, ""), 404, 351),
        (request("PUT", conversions, TOKEN, &good), 404, 351),
        (post(conversions, TOKEN, "{"), 400, 352),
        (
            post(conversions, TOKEN, &good.replace("USD", "usd")),
            400,
            352,
        ),
        (
            post(
                conversions,
                TOKEN,
                &good.replace("{\"adv", "{\"x\":1,\"adv"),
            ),
            400,
            352,
        ),
        (post("/v1/rejections", TOKEN, &rejection(17_000)), 413, 353),
        (post("/v1/rejections", TOKEN, &long), 413, 353),
        (chunked, 413, 353),
    ] {
        let response = send(&edge, request.as_bytes());
        let shown = &request[..request.len().min(200)];
        assert_eq!(
            (response.status, number(&response)),
            (status, expected),
            "{shown}"
        );
        assert!(!response.text().contains(TOKEN));
    }
    assert_eq!(outcome(&edge, "conversion", "unauthorized"), 4);
    assert_eq!(outcome(&edge, "unknown", "unknown"), 3);
    assert_eq!(edge.metric("edge_reports_total", "\"durable\""), 0);
    assert!(!edge.log().contains(TOKEN));
}

#[test]
fn only_its_own_address_serves_the_api() {
    let edge = edge("");
    let request = request("POST", "/v1/conversions", TOKEN, &conversion(&click(&edge)));
    for address in [&edge.listening, &edge.admin] {
        let mut stream = TcpStream::connect(address).expect("the edge listens");
        let request = request.replace("Host: tracker", "Host: 127.0.0.1");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut response = Vec::new();
        stream.read_to_end(&mut response).expect("response");
        let response = parse(&response);
        assert!([404, 405].contains(&response.status), "{response:?}");
    }
    assert_eq!(edge.metric("edge_reports_total", ""), 0);
}

#[test]
fn slow_clients_time_out() {
    let edge = edge("timeout = \"200ms\"\nmax_connections = 1\n");
    let whole = request("POST", "/v1/rejections", TOKEN, &rejection(10));
    let half_body = &whole[..whole.len() - 5];
    let response = send(&edge, half_body.as_bytes());
    assert_eq!((response.status, number(&response)), (408, 355));
    // Each uses the only slot and releases it: a silent client, half a head, and an idle client.
    let idle = whole.replace("Connection: close\r\n", "");
    for sent in ["", "POST /v1/rej", &idle] {
        let mut stream = connect(&edge);
        stream.write_all(sent.as_bytes()).expect("sent");
        let response = send(&edge, whole.as_bytes());
        assert_eq!(response.status, 204, "after {sent:?}");
    }
    assert_eq!(outcome(&edge, "rejection", "too_slow"), 1);
}

/// A client with Nagle's algorithm sends a body only after its head was acknowledged. Delayed acknowledgements come after
/// 40 ms on Linux.
#[test]
fn body_sent_after_its_head_is_not_delayed() {
    const REQUESTS: usize = 40;
    let edge = edge("");
    let request = request("POST", "/v1/conversions", TOKEN, "not JSON");
    let request = request.replace("Connection: close\r\n", "");
    let (head, body) = request.split_at(request.len() - "not JSON".len());
    let mut stream = connect(&edge);
    let mut prompt = 0;
    for _ in 0..REQUESTS {
        let start = Instant::now();
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body.as_bytes()).expect("sent");
        assert!(stream.read(&mut [0; 1 << 10]).expect("response") > 0);
        prompt += usize::from(start.elapsed() < Duration::from_millis(30));
    }
    assert!(prompt > REQUESTS / 2, "{prompt} of {REQUESTS}");
}

#[test]
fn messages_beyond_the_limit_are_refused_and_retried() {
    let edge = edge("max_requests = 1\n");
    let whole = request("POST", "/v1/rejections", TOKEN, &rejection(10));
    let first = HalfRequest::begin(&edge, &whole);
    let response = send(&edge, whole.as_bytes());
    assert_eq!((response.status, number(&response)), (503, 356));
    assert_eq!(first.finish().status, 204);
    assert_eq!(send(&edge, whole.as_bytes()).status, 204);
    assert_eq!(outcome(&edge, "rejection", "busy"), 1);
}

#[test]
fn message_in_progress_is_accepted_at_shutdown() {
    let mut edge = edge("");
    let whole = request("POST", "/v1/rejections", TOKEN, &rejection(10));
    let first = HalfRequest::begin(&edge, &whole);
    let stopping = Command::new("kill").arg(edge.pid().to_string()).status();
    assert!(stopping.expect("kill runs").success());
    edge.await_log("stopping");
    assert_eq!(first.finish().status, 204);
    assert!(edge.stop());
}

#[test]
fn full_journal_refuses_reports_with_503() {
    let journal = "[journal]\nsegment_bytes = \"1MiB\"\nmax_bytes = \"8MiB\"\n";
    let edge = edge(journal);
    let update = request("POST", "/v1/kyc-updates", TOKEN, &long_kyc_update());
    let full = (0..1_000).find_map(|_| {
        let response = send(&edge, update.as_bytes());
        (response.status != 204).then_some(response)
    });
    let response = full.expect("the journal fills");
    assert_eq!((response.status, number(&response)), (503, 354));
    assert_eq!(outcome(&edge, "kyc_update", "not_durable"), 1);
    assert_eq!(edge.get("/c/spring").status, 302);
}

#[test]
fn wrong_clock_refuses_reports_until_it_is_right() {
    let dir = directory();
    let Some(clock) = FakeClock::make(&dir.path().join("clock"), 0) else {
        return;
    };
    let before = clock.words();
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let edge = Edge::lone_in(dir, &before, SECTION);
    let report = request("POST", "/v1/rejections", TOKEN, &rejection(10));
    assert_eq!(send(&edge, report.as_bytes()).status, 204);
    clock.set(30 * 86_400);
    edge.await_metric("edge_clock_wrong", "", 1);
    let response = send(&edge, report.as_bytes());
    assert_eq!((response.status, number(&response)), (503, 357));
    assert_eq!(outcome(&edge, "rejection", "clock_wrong"), 1);
}

#[test]
fn tokens_are_rotated_without_interruption() {
    let edge = edge("");
    let report_with = |token: &str| report(&edge, token, &conversion(&click(&edge))).status;
    let newer = "a-newer-token-of-32-characters-or-more";
    let file = token_file(edge.dir.path());
    let loaded = |times| {
        edge.await_metric(
            "edge_reloads_total",
            "\"internal_api_token\",outcome=\"loaded\"",
            times,
        );
    };
    assert_eq!((report_with(TOKEN), report_with(newer)), (204, 401));
    write_secret(&file, &format!("# both\n{newer}\n\n{TOKEN}\n"));
    loaded(1);
    assert_eq!((report_with(TOKEN), report_with(newer)), (204, 204));
    write_secret(&file, newer);
    loaded(2);
    assert_eq!((report_with(TOKEN), report_with(newer)), (401, 204));
    // Wrong files change nothing, and their text is not shown.
    for (refused, text) in [
        "short",
        "",
        "a token with spaces in its middle, of a length",
    ]
    .into_iter()
    .enumerate()
    {
        write_secret(&file, text);
        let label = "\"internal_api_token\",outcome=\"refused\"";
        edge.await_metric("edge_reloads_total", label, refused as u64 + 1);
    }
    assert_eq!(report_with(newer), 204);
    assert!(!edge.log().contains("spaces in its middle"));
}

#[test]
fn token_is_created_at_first_start_readable_by_owner_only() {
    let dir = directory();
    std::fs::remove_file(token_file(dir.path())).expect("removed");
    let edge = Edge::lone_in(dir, &[], SECTION);
    let file = token_file(edge.dir.path());
    let mode = std::fs::metadata(&file)
        .expect("file exists")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).expect("readable");
    let token = text.lines().last().expect("token");
    assert_eq!(token.len(), 64);
    let report = report(&edge, token, &conversion(&click(&edge)));
    assert_eq!(report.status, 204);
}

/// The outputs of `check` and `serve` for an edge with these lines.
fn said(dir: &Path, internal_api: &str) -> [(bool, String); 2] {
    let config = harness::configure(dir, internal_api);
    ["check", "serve"].map(|command| {
        let output = Command::new(env!("CARGO_BIN_EXE_edge-tracker"))
            .args([command, "--config"])
            .arg(&config)
            .output()
            .expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    })
}

#[test]
fn public_addresses_are_refused_unless_allowed() {
    let dir = directory();
    for public in [
        "0.0.0.0:0",
        "203.0.113.7:1",
        "[::]:0",
        "[2001:db8::1]:1",
        "100.64.0.1:1",
    ] {
        for (succeeded, said) in said(
            dir.path(),
            &format!("[internal_api]\nlisten = \"{public}\"\n"),
        ) {
            assert!(
                !succeeded && said.contains("internal_api.allow_public"),
                "{public}: {said}"
            );
        }
    }
    let check = |listen: &str, more: &str| {
        let section = format!("[internal_api]\nlisten = \"{listen}\"\n{more}");
        let config = harness::configure(dir.path(), &section);
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge-tracker"));
        command.args(["check", "--config"]).arg(config).output()
    };
    for private in [
        "127.0.0.1:0",
        "10.0.0.1:1",
        "192.168.1.1:1",
        "[::1]:0",
        "[fd00::1]:1",
    ] {
        let output = check(private, "").expect("the program runs");
        assert!(output.status.success(), "{private}: {output:?}");
    }
    let output = check("0.0.0.0:0", "allow_public = true\n").expect("the program runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn invalid_token_files_are_rejected() {
    let dir = directory();
    let file = token_file(dir.path());
    for (text, mode, why) in [
        (TOKEN, 0o644, "chmod 600"),
        ("short-secret", 0o600, ":1: a token has 32 to 256"),
        ("", 0o600, "0 tokens; one is expected"),
        (
            &format!("{TOKEN}\n{TOKEN}\n{TOKEN}"),
            0o600,
            "3 tokens; one is expected",
        ),
    ] {
        write_secret(&file, text);
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&file, permissions).expect("permissions set");
        for (succeeded, said) in said(dir.path(), SECTION) {
            assert!(!succeeded && said.contains(why), "{why}: {said}");
            assert!(
                !said.contains(TOKEN) && !said.contains("short-secret"),
                "{said}"
            );
        }
    }
}
