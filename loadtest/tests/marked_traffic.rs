//! Traffic with marked values through a real edge, its functions and an aggregator, all at debug level: no marker
//! appears in their logs or metrics.
#![allow(missing_docs)]

mod common;

use common::{TIMEOUT, wait_until};
use data_encoding::HEXLOWER;
use loadtest::clickhouse::Analyst;
use loadtest::function_files::{self, FunctionFiles};
use loadtest::stack::{Stack, StackOptions};
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

/// Part of every external value that must not appear.
const MARKER: &str = "Marked0Value";
const FAILED_POSTBACK: &str = "aggregator_postbacks_total{outcome=\"again\"}";
const ADDRESSES: [&str; 2] = ["203.0.113.77", "2001:db8:77:88::99"];
const SECRET: &str = "Marked0Value-secret-of-an-advertiser";
const KYC_KEY: &str = "Marked0Value-key-of-a-kyc-service";

fn functions() -> FunctionFiles {
    FunctionFiles {
        advertisers: format!(
            "[shop]\ndialect = \"generic\"\ncurrency = \"USD\"\nlinks = \"any\"\nauth = [{{ secret_path = \"{SECRET}\" }}]\n\
             [other]\ndialect = \"generic\"\ncurrency = \"USD\"\nlinks = \"any\"\n\
             auth = [{{ secret_parameter = {{ name = \"token\", value = \"{SECRET}-2\" }} }}]\n"
        ),
        variables: format!("kyc_keys = \"{KYC_KEY}\"\n"),
    }
}

/// Settings that send postbacks with marked values to an affiliate's server that does not respond.
fn postbacks(dir: &Path) -> String {
    let file = dir.join("postbacks.toml");
    let text = format!(
        "[[postback]]\ncampaign = \"boyfanz-launch\"\nkey = \"{SECRET}\"\n\
         url = \"http://127.0.0.1:9/{MARKER}?sub={{sub1}}\"\n"
    );
    fs::write(&file, text).expect("written");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("permissions set");
    format!(
        "[outgoing]\npostbacks = {file:?}\nallowed_networks = [\"127.0.0.0/8\"]\nfirst_retry = \"10ms\"\n"
    )
}

/// Sends exactly these bytes and returns the response up to the end of the connection.
fn send(edge: &str, bytes: &[u8]) -> String {
    let address = edge.strip_prefix("http://").expect("URL of the stack");
    let mut stream = TcpStream::connect(address).expect("the edge listens");
    stream
        .set_read_timeout(Some(TIMEOUT))
        .expect("socket option set");
    let _ = stream.write_all(bytes);
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

/// Sends a request of a marked visitor and returns the status and the whole response.
fn request(edge: &str, line: &str, headers: &str, body: &str) -> (String, String) {
    let mut response = String::new();
    for address in ADDRESSES {
        let text = format!(
            "{line} HTTP/1.1\r\nHost: go.example\r\nConnection: close\r\nX-Forwarded-For: {address}\r\n\
             User-Agent: {MARKER}/1.0\r\nReferer: https://{MARKER}.example/\r\nCookie: {MARKER}=1\r\n\
             Content-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        response = send(edge, text.as_bytes());
    }
    let status = response.get(9..12).unwrap_or_default().to_owned();
    (status, response)
}

fn webhook(edge: &str, key: &str, id: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let time = now.expect("after 1970").as_secs();
    let body = format!(
        "{{\"id\": \"{id}\", \"affiliate_id\": \"{MARKER}\", \"status\": \"approved\", \"tier\": 2, \
         \"occurred_at\": \"2026-11-18T03:00:00Z\"}}"
    );
    let signature = function_files::signature(key, &format!("{time}.{body}"));
    let signature = HEXLOWER.encode(&signature);
    let headers = format!(
        "Content-Type: application/json\r\nX-VerifyMy-Timestamp: {time}\r\n\
         X-VerifyMy-Signature: {signature}\r\n"
    );
    request(edge, "POST /api/webhooks/kyc/verifymy", &headers, &body).0
}

fn send_marked_traffic(edge: &str) {
    let sub = format!("sub1={MARKER}&source={MARKER}&external_id={MARKER}&referrer={MARKER}");
    let (status, response) = request(edge, &format!("GET /c/boyfanz-home?{sub}"), "", "");
    assert_eq!(status, "302", "{response}");
    let (_, id) = response.split_once("cid=").expect("click id");
    let id = &id[..tracking_events::CLICK_ID_CHARS];
    for (line, expected) in [
        (format!("GET /c/boyfanz-home?sub1={MARKER}%0A"), "302"),
        (
            format!("GET /c/boyfanz-home?sub1={}", MARKER.repeat(50)),
            "302",
        ),
        (format!("GET /c/{MARKER}?{sub}"), "404"),
        (format!("GET /{MARKER}?{sub}"), "404"),
        (format!("PUT /c/boyfanz-home?{sub}"), "405"),
        (
            format!("GET /postback/shop/{SECRET}?click_id={id}&transaction_id={MARKER}&payout=5"),
            "200",
        ),
        (
            format!("GET /postback/shop/{SECRET}-wrong?click_id={id}&payout=5"),
            "403",
        ),
        (
            format!("GET /postback/other?click_id={id}&payout=5&token={SECRET}-3"),
            "403",
        ),
        (
            format!("GET /postback/{MARKER}/{SECRET}?click_id={id}&payout=5"),
            "40",
        ),
        (
            format!("GET /postback/shop/{SECRET}?click_id={MARKER}&payout={MARKER}"),
            "40",
        ),
    ] {
        let (status, response) = request(edge, &line, "", "");
        assert!(status.starts_with(expected), "{line}: {response}");
    }
    assert_eq!(webhook(edge, KYC_KEY, "d-1"), "200");
    assert!(webhook(edge, &format!("{KYC_KEY}-wrong"), "d-2").starts_with('4'));
    send(
        edge,
        format!("GET /{MARKER} HTTP/9.9\r\n{MARKER}\r\n\r\n").as_bytes(),
    );
    send(edge, format!("\u{1}\u{2}{MARKER}\r\n\r\n").as_bytes());
}

/// All secrets in the stack's files, and all markers of the traffic.
fn forbidden(dir: &Path) -> Vec<String> {
    let mut words = vec![MARKER.to_owned(), SECRET.to_owned(), KYC_KEY.to_owned()];
    words.extend(ADDRESSES.map(str::to_owned));
    let files = [
        "secrets.toml",
        "clickhouse/credentials.json",
        "tls/edge-1/edge.key",
        "tls/aggregator/aggregator.key",
        "tls/authority/ca.key",
    ];
    for name in files {
        // Some files may be elsewhere; those found here are enough of each kind.
        let Ok(text) = fs::read_to_string(dir.join(name)) else {
            continue;
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
        let tokens = text.split(|c: char| !is_word(c));
        words.extend(tokens.filter(|token| token.len() >= 32).map(str::to_owned));
    }
    assert!(words.len() >= 10, "secrets were not found: {}", words.len());
    words
}

fn metrics(admin: &str) -> String {
    let mut response = ureq::get(format!("{admin}/metrics"))
        .call()
        .expect("response");
    response.body_mut().read_to_string().expect("text")
}

#[test]
fn logs_and_metrics_contain_no_marked_values() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = StackOptions {
        functions: true,
        function_files: Some(functions()),
        aggregator_settings: postbacks(dir.path()),
        environment: vec![("RUST_LOG".into(), "debug".into())],
        ..StackOptions::default()
    };
    let stack = Stack::start_with(dir.path(), 1, None, &options, |_| {}).expect("starts");
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
    send_marked_traffic(&stack.edge_urls[0]);
    let arrived = |table: &str| {
        let result = analyst.query(&format!("SELECT count() FROM {table}"));
        result.is_ok_and(|result| result.rows[0][0] != "0")
    };
    wait_until("events of all kinds in ClickHouse", || {
        let tables = ["clicks", "conversions", "kyc_events", "rejections"];
        tables.into_iter().all(arrived)
    });
    wait_until("a postback attempt", || {
        metrics(&stack.aggregator_admin_url).contains(FAILED_POSTBACK)
    });
    let mut shown = vec![
        ("edge's metrics", metrics(&stack.edge_admin_urls[0])),
        ("aggregator's metrics", metrics(&stack.aggregator_admin_url)),
    ];
    stack.stop().expect("stops");
    for (name, file) in [
        ("edge's log", "edge-1.log"),
        ("aggregator's log", "aggregator.log"),
    ] {
        let text = fs::read_to_string(dir.path().join(file)).expect("readable");
        assert!(text.contains("stopping"), "{name} is incomplete: {text}");
        shown.push((name, text));
    }
    let words = forbidden(dir.path());
    for (name, text) in &shown {
        for word in &words {
            let line = text.lines().find(|line| line.contains(word));
            assert!(line.is_none(), "{name} holds {word:?}: {line:?}");
        }
    }
}
