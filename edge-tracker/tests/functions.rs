//! Functions in a real edge: called over HTTP, alongside clicks; their reports are durable.
#![allow(missing_docs)]

mod harness;

use harness::functions::share_compiled;
use harness::{CHROME, Edge, parse, write_secret};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

const CONVERSION: &str = r#"{"advertiser":"acme","click_id":"-P6iK_tv--R2---0sZ-----e-uqFk4RoWeQj","kind":"sale","kind_name":"","transaction":"t-1","status":"approved","payout_minor":1999,"currency":"USD","dialect":"generic","address":"203.0.113.7","stated":{"payout":true,"currency":true,"kind":true,"status":true}}"#;

fn guest() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let guest = target.join("wasm32-wasip2/function/function_guest.wasm");
    assert!(
        guest.is_file(),
        "build the functions first: cargo xtask functions"
    );
    guest
}

/// An edge with the guest for tests; `limits` are lines of `[functions.limits]`.
fn edge(http: &str, limits: &str) -> Edge {
    edge_with_route("/:what", http, limits)
}

fn edge_with_route(route: &str, http: &str, limits: &str) -> Edge {
    let dir = tempfile::tempdir().expect("temporary directory");
    let manifest = dir.path().join("spin.toml");
    std::fs::write(&manifest, manifest_text(route, &guest(), "")).expect("written");
    share_compiled(dir.path());
    let functions =
        format!("{http}\n[functions]\nmanifest = {manifest:?}\n[functions.limits]\n{limits}\n");
    std::fs::write(dir.path().join("links.toml"), harness::LINKS).expect("written");
    Edge::start_in(dir, &functions)
}

/// A manifest of one component; `variables` are more lines of `[variables]`.
fn manifest_text(route: &str, source: &Path, variables: &str) -> String {
    format!(
        "spin_manifest_version = 2\n[application]\nname = \"tests\"\n\
         [variables]\ntracker_token = {{ required = true, secret = true }}\n{variables}\n\
         [[trigger.http]]\nroute = \"{route}\"\ncomponent = \"guest\"\n\
         [component.guest]\nsource = {source:?}\nallowed_outbound_hosts = [\"http://tracker.internal\"]\n\
         [component.guest.variables]\ntoken = \"{{{{ tracker_token }}}}\"\n"
    )
}

fn post(edge: &Edge, target: &str, body: &str) -> (u16, String) {
    let response = edge.post(target, &[], body);
    (response.status, response.text())
}

#[test]
fn functions_are_served_alongside_clicks() {
    let edge = edge("", "");
    let response = edge.get("/hello");
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert_eq!(edge.get("/c/spring").status, 302);
    assert_eq!(edge.get("/hello/more").status, 404);
    assert_eq!(edge.metric("function_calls_total", "guest"), 1);
    assert_eq!(edge.metric("edge_answered_total", "click"), 1);
}

#[test]
fn bodies_that_look_like_requests_stay_as_sent() {
    let edge = edge("", "");
    let body = b"x\r\n\r\nGET /\xe4\"<> HTTP/1.1\r\n\r\nGET /\xe4 y";
    let head = format!(
        "POST /echo HTTP/1.0\r\nHost: go.example\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for piece_bytes in [1, 5, body.len()] {
        let mut stream = edge.connect();
        stream.set_nodelay(true).expect("socket option set");
        stream.write_all(head.as_bytes()).expect("sent");
        for piece in body.chunks(piece_bytes) {
            stream.write_all(piece).expect("sent");
        }
        let mut response = Vec::new();
        stream.read_to_end(&mut response).expect("response");
        assert_eq!(parse(&response).body, body, "in pieces of {piece_bytes}");
    }
}

#[test]
fn reports_are_durable_before_the_response() {
    let edge = edge("", "");
    let syncs = || edge.metric("edge_journal_syncs_total", "");
    let before = syncs();
    let said = post(&edge, "/report?/v1/conversions", CONVERSION);
    assert_eq!(said, (200, "204".into()));
    edge.await_metric("edge_journal_syncs_total", "", before + 1);
    assert_eq!(edge.metric("edge_reports_total", "outcome=\"durable\""), 1);
    for (wrong, status) in [
        (CONVERSION.replace("\"sale\"", "\"gift\""), "400"),
        (CONVERSION.replace("USD", "usd"), "400"),
        (CONVERSION.replace("-P6iK_", "-P6iK"), "400"),
        (CONVERSION.replace("\"kind_name\":\"\",", ""), "400"),
        (CONVERSION.replace("t-1", &"t".repeat(20_000)), "413"),
        ("{".into(), "400"),
    ] {
        let said = post(&edge, "/report?/v1/conversions", &wrong);
        assert_eq!(
            said,
            (200, status.into()),
            "{}",
            &wrong[..wrong.len().min(300)]
        );
    }
    assert_eq!(post(&edge, "/report?/v1/nothing", CONVERSION).1, "404");
    let unsigned = edge
        .get("/fetch?http://tracker.internal/v1/conversions")
        .text();
    assert!(unsigned.starts_with("401"), "{unsigned}");
}

#[test]
fn health_checks_cost_no_function_call() {
    let edge = edge_with_route("/...", "hosts = [\"go.example\"]", "");
    for method in ["GET", "HEAD"] {
        // Load balancers send requests by address.
        let response = edge.request(method, "/", &[("Host", "10.0.0.1")]);
        assert_eq!(response.status, 200, "{method}");
    }
    assert_eq!(edge.get("/").text(), "ok\n");
    assert_eq!(edge.metric("function_calls_total", ""), 0);
    assert_eq!(edge.metric("edge_refused_total", ""), 0);
    // Everflow's form of a postback has a query.
    edge.get("/?nid=1");
    post(&edge, "/", "");
    assert_eq!(edge.metric("function_calls_total", "guest"), 2);
}

#[test]
fn rejected_reports_displace_no_click_and_no_report() {
    const FLOODS: usize = 4;
    const REJECTIONS_PER_FLOOD: usize = 200;
    let journal = "[journal]\nsegment_bytes = \"1MiB\"\nmax_bytes = \"9MiB\"";
    let edge = edge(journal, "");
    let rejection = |reason: &str| {
        let detail = "x".repeat(14_000);
        format!(
            r#"{{"source":"postback","party":"acme","reason":103,"reason_name":"{reason}","detail":"{detail}","request":"GET /","status":403,"address":"203.0.113.7"}}"#
        )
    };
    // 11 MB.
    std::thread::scope(|scope| {
        for flood in 0..FLOODS {
            let (edge, body) = (&edge, rejection(["not_authentic", "forged"][flood % 2]));
            scope.spawn(move || {
                let mut stream = edge.connect();
                let request = format!(
                    "POST /report?/v1/rejections HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                for _ in 0..REJECTIONS_PER_FLOOD {
                    stream.write_all(request.as_bytes()).expect("sent");
                    let mut response = [0; 512];
                    let length = std::io::Read::read(&mut stream, &mut response).expect("response");
                    let response = parse(&response[..length]);
                    assert_eq!((response.status, response.text().as_str()), (200, "204"));
                }
            });
        }
    });
    // Neither segment of a worker's lane has been used up.
    for _ in 0..1_000 {
        assert_eq!(edge.get("/c/spring").status, 302);
    }
    assert_eq!(edge.metric("edge_lost_total", ""), 0);
    for _ in 0..50 {
        let said = post(&edge, "/report?/v1/conversions", CONVERSION);
        assert_eq!(said, (200, "204".into()));
    }
    let counted = |label: &str| edge.metric("edge_rejections_total", label);
    let all = (FLOODS * REJECTIONS_PER_FLOOD) as u64;
    assert_eq!(counted("\"not_authentic\""), all / 2);
    assert_eq!(counted("\"forged\""), all / 2);
    let logged = counted("outcome=\"logged\"");
    assert!((64..=150).contains(&logged), "{logged}");
    let durable = edge.metric(
        "edge_reports_total",
        "kind=\"rejection\",outcome=\"durable\"",
    );
    assert_eq!(durable, logged);
    assert!(edge.log().contains("functions.rejections_max_bytes"));
}

#[test]
fn connection_waiting_for_a_function_is_not_idle() {
    let http = "header_timeout = \"100ms\"";
    let edge = edge(http, "wall = \"1s\"");
    let mut stream = edge.connect();
    let ask = format!(
        "GET /wait HTTP/1.1\r\nHost: x\r\nUser-Agent: {CHROME}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).expect("written");
    let mut response = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut response).expect("read");
    let response = parse(&response);
    assert_eq!(
        (response.status, response.text().as_str()),
        (504, "303 function_timed_out\n")
    );
    // A response in progress does not end at the idle timeout either.
    let ask = "GET /parts?20000,600ms,9 HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut stream = edge.connect();
    stream.write_all(ask.as_bytes()).expect("written");
    let mut response = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut response).expect("read");
    // Then the connection is idle, and is closed.
    assert!(response.ends_with(b"\r\n9\r\nxxxxxxxxx\r\n0\r\n\r\n"));
}

#[test]
fn half_request_times_out_and_delays_no_other_request() {
    let edge = edge("", "concurrency = 2\nwall = \"500ms\"");
    let half = "POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf";
    let halves: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = edge.connect();
            stream.write_all(half.as_bytes()).expect("written");
            stream
        })
        .collect();
    edge.await_metric("function_calls_total", "guest", 8);
    let whole = post(&edge, "/length", "whole");
    assert_eq!(whole, (200, "5".into()));
    for mut stream in halves {
        let mut response = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut response).expect("read");
        let response = parse(&response);
        assert_eq!(
            (response.status, response.text().as_str()),
            (408, "311 function_request_too_slow\n")
        );
    }
}

#[test]
fn functions_share_host_and_length_limits_with_links() {
    let edge = edge("hosts = [\"go.example\"]\nmax_url_bytes = \"256B\"", "");
    assert_eq!(edge.get("/hello").status, 200);
    let elsewhere = edge.request("GET", "/hello", &[("Host", "other.example")]);
    assert_eq!(elsewhere.status, 421);
    let long = edge.get(&format!("/hello?{}", "x".repeat(256)));
    assert_eq!(long.status, 414);
    assert_eq!(edge.metric("edge_refused_total", "unknown_host"), 1);
    assert_eq!(edge.metric("edge_refused_total", "url_too_long"), 1);
    assert_eq!(edge.metric("function_calls_total", "guest"), 1);
}

#[test]
fn interrupted_response_does_not_look_complete() {
    let edge = edge("", "");
    let ask = |script: &str| {
        let ask = format!("GET /parts?{script} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        edge.raw(ask.as_bytes())
    };
    let last = b"\r\n0\r\n\r\n";
    assert!(ask("20000,1ms,9").ends_with(last));
    let broken = ask("20000,1ms,panic");
    assert_eq!(parse(&broken).status, 200);
    assert!(broken.len() > 20_000 && !broken.ends_with(last));
    edge.await_metric("function_errors_total", "function_trapped", 1);
}

#[test]
fn failed_function_returns_a_code_and_logs_the_cause() {
    let edge = edge("", "");
    let response = edge.get("/panic");
    assert_eq!(
        (response.status, response.text().as_str()),
        (500, "302 function_trapped\n")
    );
    let log = edge.log();
    assert!(log.contains("panic requested"), "{log}");
    assert_eq!(edge.get("/print?10000").status, 200);
    let log = edge.await_log("function wrote to stderr");
    assert!(log.contains("print print"), "{log}");
    assert!(log.len() < 20_000, "only the beginning is logged: {log}");
}

#[test]
fn functions_are_reloaded_and_invalid_ones_rejected() {
    let edge = edge("", "");
    let manifest = edge.dir.path().join("spin.toml");
    let text = std::fs::read_to_string(&manifest).expect("read");
    std::fs::write(&manifest, text.replace("/:what", "/new/:what")).expect("written");
    edge.await_metric("edge_reloads_total", "functions\",outcome=\"loaded", 1);
    assert_eq!(edge.get("/hello").status, 404);
    std::fs::write(&manifest, "nonsense").expect("written");
    edge.await_metric("edge_reloads_total", "functions\",outcome=\"refused", 1);
    // The path is matched as before; the guest does not know it.
    assert_eq!(edge.get("/new/hello").status, 200);
}

#[test]
fn component_is_watched_after_a_rejected_release() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let [manifest, variables, component] =
        ["spin.toml", "variables.toml", "guest.wasm"].map(|name| dir.path().join(name));
    std::fs::copy(guest(), &component).expect("copied");
    std::fs::write(&manifest, manifest_text("/:what", &component, "")).expect("written");
    write_secret(&variables, "");
    std::fs::write(dir.path().join("links.toml"), harness::LINKS).expect("written");
    let functions = format!("[functions]\nmanifest = {manifest:?}\nvariables = {variables:?}\n");
    let edge = Edge::start_in(dir, &functions);

    // A release with a new variable, whose component is incomplete.
    std::fs::write(&component, "half").expect("written");
    write_secret(&variables, "site = \"a\"\n");
    let released = manifest_text("/new/:what", &component, "site = { required = true }");
    std::fs::write(&manifest, released).expect("written");
    edge.await_metric("edge_reloads_total", "functions\",outcome=\"refused", 1);
    std::fs::copy(guest(), &component).expect("copied");
    edge.await_metric("edge_reloads_total", "functions\",outcome=\"loaded", 1);
    assert_eq!(edge.get("/hello").status, 404);
}
