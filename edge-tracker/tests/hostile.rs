//! Bad input from the network: a clear refusal or a closed connection, counted, and no harm done.
#![allow(missing_docs)]

mod harness;

use harness::{CHROME, Edge, parse};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

fn status(edge: &Edge, target: &str) -> u16 {
    edge.get(target).status
}

#[test]
fn only_an_overlong_target_is_refused_for_its_query() {
    let edge = Edge::start();
    assert_eq!(
        status(&edge, &format!("/c/spring?{}", "a=1&".repeat(2_000))),
        302
    );
    assert_eq!(
        status(&edge, &format!("/c/spring?{}", "x".repeat(9_000))),
        414
    );
}

#[test]
fn query_repeats_no_parameter_of_a_destination() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let links = "[[link]]\nid = 1\nslug = \"shop\"\noffer = \"o\"\ncampaign = \"c\"\naffiliate = \"a\"\n\
                 destination = \"https://shop.example/?cid={click_id}&p%5Fid={sub1}#end\"\npass_query = true\n\
                 [[link]]\nid = 2\nslug = \"appended\"\noffer = \"o\"\ncampaign = \"c\"\naffiliate = \"a\"\n\
                 destination = \"https://shop.example/\"\npass_query = true\n";
    std::fs::write(dir.path().join("links.toml"), links).expect("writable");
    let edge = Edge::start_in(dir, "");
    for (query, arrives) in [
        ("cid=FORGED", false),
        ("x=1&cid=FORGED", false),
        ("ci%64=FORGED", false),
        ("%63%69%64=FORGED", false),
        ("+cid=FORGED", false),
        ("cid[]=FORGED", false),
        ("cid%5B0%5D=FORGED", false),
        ("p_id=FORGED", false),
        ("p+id=FORGED", false),
        ("p.id=FORGED", false),
        ("p%5Bid=FORGED", false),
        ("CID=FORGED", false),
        ("cid%00=FORGED", false),
        ("x=1;cid=FORGED", false),
        ("x=1&amp;cid=FORGED", false),
        ("cid2=FORGED", true),
        ("xcid=FORGED", true),
        ("ci%2564=FORGED", true),
    ] {
        let response = edge.get(&format!("/c/shop?{query}"));
        let location = response.location();
        let (address, fragment) = location.split_once('#').expect("fragment");
        let own = address.strip_prefix("https://shop.example/?cid=");
        let own = own.and_then(|rest| rest.get(tracking_events::CLICK_ID_CHARS..));
        let own = own.expect("click id");
        assert!(own.starts_with("&p%5Fid="), "{location}");
        assert_eq!(fragment, "end", "{location}");
        assert_eq!(location.contains("FORGED"), arrives, "{query}: {location}");
    }
    // The parameter that is appended has a name, too.
    let response = edge.get("/c/appended?click_id=FORGED&click.id=FORGED&y=1");
    let location = response.location();
    assert!(
        location.ends_with("&y=1") && !location.contains("FORGED"),
        "{location}"
    );
}

#[test]
fn non_http_input_gets_400_or_no_response() {
    let edge = Edge::start();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET /c/spring\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /c/spring HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n",
        b"GET /c/spring HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n\0\0\0\0",
        b"GET http://evil.example\\@x/c/spring HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let response = edge.raw(bytes);
        assert!(
            response.is_empty() || parse(&response).status >= 400,
            "{:?}",
            String::from_utf8_lossy(&response)
        );
    }
    assert_eq!(edge.get("/c/spring").status, 302);
    assert!(edge.metric("edge_refused_total", "\"malformed_request\"") >= 4);
}

#[test]
fn overlong_head_is_refused() {
    let edge = Edge::start();
    let long = "x".repeat(20_000);
    assert_eq!(
        edge.request("GET", "/c/spring", &[("X-Long", &long)])
            .status,
        431
    );
    edge.await_metric("edge_refused_total", "\"head_too_large\"", 1);
}

#[test]
fn shutdown_does_not_wait_for_idle_connections() {
    let mut edge = Edge::with("header_timeout = \"60s\"\nstop_timeout = \"60s\"");
    let silent = edge.connect();
    let mut served = edge.connect();
    served
        .write_all(b"GET /c/spring HTTP/1.1\r\nHost: go.example\r\n\r\n")
        .expect("writable");
    let mut response = [0; 2_048];
    let length = served.read(&mut response).expect("response");
    assert_eq!(parse(&response[..length]).status, 302);
    edge.await_metric("edge_connections", "", 2);
    let started = Instant::now();
    assert!(edge.stop(), "{}", edge.log());
    assert!(started.elapsed() < Duration::from_secs(20));
    drop(silent);
}

#[test]
fn stalled_client_is_disconnected() {
    let edge = Edge::with("header_timeout = \"200ms\"");
    for sent in [
        &b""[..],
        b"GE",
        b"GET /c/spring HTTP/1.1\r\nHost:",
        b"PRI * HTTP/2.0\r\n",
    ] {
        let started = Instant::now();
        let mut stream = edge.connect();
        stream.write_all(sent).expect("writable");
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{sent:?} was waited for"
        );
        assert!(
            response.is_empty() || parse(&response).status == 408,
            "{response:?}"
        );
    }
    // A connection that is silent after a response is closed as well, and nothing was refused.
    let mut stream = edge.connect();
    let request = format!("GET /c/spring HTTP/1.1\r\nHost: x\r\nUser-Agent: {CHROME}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("writable");
    let mut response = Vec::new();
    stream
        .read_to_end(&mut response)
        .expect("closed by the edge");
    assert_eq!(parse(&response).status, 302);
    assert_eq!(edge.metric("edge_refused_total", "\"too_slow\""), 3);
}

#[test]
fn half_open_connection_is_released() {
    let edge = Edge::start();
    let stream = edge.connect();
    edge.await_metric("edge_connections", "", 1);
    stream.shutdown(Shutdown::Write).expect("connected");
    let deadline = Instant::now() + Duration::from_secs(10);
    while edge.metric("edge_connections", "") > 0 {
        assert!(Instant::now() < deadline, "the connection stays open");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn unknown_hosts_are_refused() {
    let edge = Edge::with("hosts = [\"go.example\"]");
    let host = |name| edge.request("GET", "/c/spring", &[("Host", name)]).status;
    assert_eq!(
        (
            host("go.example"),
            host("GO.example:80"),
            host("evil.example")
        ),
        (302, 302, 421)
    );
}

#[test]
fn proxy_protocol_is_accepted_from_trusted_peers_only() {
    let edge = Edge::with("proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]");
    let request = "GET /c/spring HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let response =
        edge.raw(format!("PROXY TCP4 198.51.100.9 127.0.0.1 5000 80\r\n{request}").as_bytes());
    assert!(parse(&response).location().ends_with("ip=198.51.100.0"));
    assert!(edge.raw(request.as_bytes()).is_empty());
    edge.await_metric("edge_refused_total", "\"bad_proxy_header\"", 1);
}

#[test]
fn invalid_settings_are_rejected_with_line_and_remedy() {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join("links.toml"), harness::LINKS).expect("writable");
    let config = harness::configure(dir.path(), "hedder_timeout = \"1s\"");
    let refused = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_edge-tracker"))
            .args(["check", "--config"])
            .arg(&config)
            .output()
            .expect("the edge runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let error = refused();
    assert!(
        error.contains("edge.toml:9: unknown field `hedder_timeout`"),
        "{error}"
    );
    assert!(error.contains("header_timeout"), "{error}");
    harness::configure(dir.path(), "max_head_bytes = \"1KiB\"");
    let error = refused();
    assert!(
        error.contains("edge.toml:9: out of bounds: at least \"8KiB\""),
        "{error}"
    );
    harness::configure(dir.path(), "\n[unique]\nwindow = \"48h\"");
    let error = refused();
    assert!(
        error.contains("unique.window is longer than visitor.period"),
        "{error}"
    );
}
