//! The documented configurations of proxies, in front of a real edge: the visitor's address arrives, and a
//! connection that the proxy keeps for later is no refusal.
#![allow(missing_docs)]

mod harness;

use harness::{CHROME, Edge, parse, until};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Neither the proxy's address nor any other of this machine's peers.
const VISITOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

struct Proxy {
    process: Child,
    port: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The block of a language in docs/proxies.md.
fn documented(language: &str) -> &'static str {
    let text = include_str!("../../docs/proxies.md");
    let (_, rest) = text.split_once(&format!("```{language}\n")).expect("block");
    rest.split_once("```").expect("closing fence").0
}

fn start(dir: &Path, program: &str, config: &str, arguments: &[&str], port: u16) -> Proxy {
    let file = dir.join("proxy.conf");
    std::fs::write(&file, config).expect("written");
    let log = std::fs::File::create(dir.join("proxy.log")).expect("writable");
    let process = Command::new(program)
        .args(arguments)
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; cargo xtask test installs it"));
    let proxy = Proxy { process, port };
    let log = || std::fs::read_to_string(dir.join("proxy.log")).unwrap_or_default();
    until(
        || format!("{program} listens: {}", log()),
        || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(),
    );
    proxy
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("free port");
    listener.local_addr().expect("bound").port()
}

fn edge(http: &str) -> Edge {
    let more = "[visitor]\naddress_storage = \"full\"\n";
    Edge::with(&format!("{http}\n{more}"))
}

/// A click through the proxy, with a forged address in its headers.
fn click(proxy: &Proxy) -> harness::Response {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("socket");
    let own = SocketAddr::from((VISITOR, 0));
    socket.bind(&own.into()).expect("address of this machine");
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, proxy.port));
    socket.connect(&to.into()).expect("the proxy listens");
    let mut stream = TcpStream::from(socket);
    let request = format!(
        "GET /c/spring?sub1=a%20b HTTP/1.1\r\nHost: go.example\r\nUser-Agent: {CHROME}\r\n\
         X-Forwarded-For: 203.0.113.5\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("writable");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).expect("readable");
    parse(&response)
}

#[test]
fn documented_proxies_pass_the_visitor_on() {
    for program in ["nginx", "haproxy"] {
        let edge = edge("trusted_proxies = [\"127.0.0.1/32\"]\nheader_timeout = \"300ms\"");
        let dir = tempfile::tempdir().expect("temporary directory");
        let port = free_port();
        let config = documented(program);
        let config = config.replace("127.0.0.1:8080", &edge.listening);
        let proxy = if program == "nginx" {
            let here = dir.path().display();
            let own = format!(
                "daemon off;\nmaster_process off;\npid {here}/pid;\nerror_log {here}/error.log;\nevents {{}}\nhttp {{\n    access_log off;\n    \
                 client_body_temp_path {here}/body;\n    proxy_temp_path {here}/proxy;\n    fastcgi_temp_path {here}/f;\n    \
                 uwsgi_temp_path {here}/u;\n    scgi_temp_path {here}/s;\n"
            );
            let config = config.replacen("events {}\nhttp {\n", &own, 1);
            let config = config.replace("listen 80;", &format!("listen 127.0.0.1:{port};"));
            start(dir.path(), program, &config, &["-e", "stderr", "-c"], port)
        } else {
            let config = config.replace("bind :80", &format!("bind 127.0.0.1:{port}"));
            start(dir.path(), program, &config, &["-db", "-f"], port)
        };
        let response = click(&proxy);
        assert_eq!(response.status, 302, "{program}");
        let location = response.location();
        assert!(
            location.contains(&format!("ip={VISITOR}")),
            "{program}: {location}"
        );
        assert!(location.contains("s=a%20b"), "{program}: {location}");
        // The proxy keeps its connection for the next visitor, until the edge closes it.
        until(
            || format!("{program}: no connection: {}", edge.log()),
            || edge.metric("edge_connections", "") == 0,
        );
        assert_eq!(edge.metric("edge_refused_total", ""), 0, "{program}");
    }
}

#[test]
fn private_peer_with_forwarding_header_is_logged_once() {
    let headers = [("X-Forwarded-For", "203.0.113.5")];
    let edge = edge("");
    for _ in 0..3 {
        let response = edge.request("GET", "/c/spring", &headers);
        assert!(
            response.location().contains("ip=127.0.0.1"),
            "{}",
            response.location()
        );
    }
    let log = edge.await_log("name it in http.trusted_proxies");
    assert_eq!(
        log.matches("name it in http.trusted_proxies").count(),
        1,
        "{log}"
    );
    let trusting = self::edge("trusted_proxies = [\"10.0.0.0/8\"]");
    assert_eq!(trusting.request("GET", "/c/spring", &headers).status, 302);
    assert!(!trusting.log().contains("name it in"), "{}", trusting.log());
}
