//! A real edge process for tests, and a client that sends exactly the given bytes.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod aggregator;
pub mod directory;
pub mod drain;
pub mod faketime;
pub mod fleet;
pub mod functions;
pub mod journal;
pub mod listener;
pub mod postbacks;

use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const LINKS: &str = r#"
[[link]]
id = 1
slug = "spring"
offer = "offer-1"
campaign = "campaign-1"
affiliate = "ann"
destination = "https://shop.example/{offer}?cid={click_id}&s={sub1}&l={language}&d={device}&ip={ip}"

[[link]]
id = 2
slug = "plain"
offer = "offer-1"
campaign = "campaign-1"
affiliate = "ann"
destination = "https://shop.example/p#top"
code = 307
pass_query = true

[[link]]
id = 3
slug = "paused"
offer = "offer-1"
campaign = "campaign-1"
affiliate = "ann"
destination = "https://shop.example/"
state = "paused"

[[link]]
id = 4
slug = "resting"
offer = "offer-1"
campaign = "campaign-1"
affiliate = "ann"
destination = "https://shop.example/"
state = "paused"
fallback = "https://shop.example/later"
"#;

/// How long a test waits for an event, or a client for bytes: far more than either takes on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Where no aggregator listens.
const NO_AGGREGATOR: &str = "127.0.0.1:1";

pub const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";

pub struct Edge {
    child: Child,
    pub dir: tempfile::TempDir,
    pub listening: String,
    pub admin: String,
    /// The address of the internal API, if it is configured.
    pub internal_api: Option<String>,
}

/// A response: status, header lines and body.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn location(&self) -> &str {
        self.header("location").expect("a redirect has a Location")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Edge {
    pub fn start() -> Self {
        Self::with("")
    }

    /// An edge with more lines in `[http]`.
    pub fn with(http: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("links.toml"), LINKS).expect("writable");
        Self::start_in(dir, http)
    }

    /// An edge of one worker, with more lines in `[http]`; `before` is a command prefix.
    pub fn lone(before: &[&str], http: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("links.toml"), LINKS).expect("writable");
        Self::lone_in(dir, before, http)
    }

    /// The same in a directory that has its links already.
    pub fn lone_in(dir: tempfile::TempDir, before: &[&str], http: &str) -> Self {
        let config = configure_workers(dir.path(), 1, http);
        Self::launch(dir, &config, before)
    }

    /// An edge by the settings `edge.toml` that its directory has already.
    pub fn from_settings(dir: tempfile::TempDir) -> Self {
        let config = dir.path().join("edge.toml");
        Self::launch(dir, &config, &[])
    }

    pub fn start_in(dir: tempfile::TempDir, http: &str) -> Self {
        let config = configure(dir.path(), http);
        Self::launch(dir, &config, &[])
    }

    /// An edge that ships to an aggregator at `address`.
    pub fn shipping_to(dir: tempfile::TempDir, address: &str) -> Self {
        std::fs::write(dir.path().join("links.toml"), LINKS).expect("writable");
        let config = configure(dir.path(), "");
        let text = std::fs::read_to_string(&config).expect("written");
        let text = text.replace(NO_AGGREGATOR, address);
        std::fs::write(&config, text).expect("writable");
        Self::launch(dir, &config, &[])
    }

    fn launch(dir: tempfile::TempDir, config: &Path, before: &[&str]) -> Self {
        let log = std::fs::File::create(dir.path().join("edge.log")).expect("writable");
        let words = [before, &[env!("CARGO_BIN_EXE_edge-tracker")]].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args(["serve", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the edge starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("readable");
        let optional = |name: &str| {
            let at = line.find(&format!("\"{name}\":\""))?;
            let value = &line[at + name.len() + 4..];
            Some(value.split('"').next().expect("value").to_owned())
        };
        let field = |name: &str| {
            let value = optional(name);
            value.unwrap_or_else(|| panic!("not ready: {line:?} {}", log_of(dir.path())))
        };
        Self {
            listening: field("listening"),
            admin: field("admin"),
            internal_api: optional("internal_api"),
            child,
            dir,
        }
    }

    pub fn log(&self) -> String {
        log_of(self.dir.path())
    }

    /// The log, once it contains `text`.
    pub fn await_log(&self, text: &str) -> String {
        until(
            || format!("{text:?} in {}", self.log()),
            || self.log().contains(text),
        );
        self.log()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.listening).expect("the edge listens");
        stream
            .set_read_timeout(Some(TIMEOUT))
            .expect("socket option set");
        stream
    }

    /// Sends `bytes`, closes the sending side, and reads the response to its end.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        response
    }

    pub fn request(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        let mut text = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            text.push_str("Host: go.example\r\n");
        }
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").expect("String");
        }
        text.push_str("\r\n");
        parse(&self.raw(text.as_bytes()))
    }

    pub fn post(&self, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let headers = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let text = format!(
            "POST {target} HTTP/1.1\r\nHost: go.example\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{body}",
            headers.collect::<String>(),
            body.len()
        );
        parse(&self.raw(text.as_bytes()))
    }

    pub fn get(&self, target: &str) -> Response {
        self.request("GET", target, &[("User-Agent", CHROME)])
    }

    /// Status and text of a page for operators.
    pub fn admin_page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.admin).expect("the edge listens");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("writable");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("readable");
        let response = parse(&bytes);
        (response.status, response.text())
    }

    /// The value of the metric line that starts with `name`, summed over labels that match.
    pub fn metric(&self, name: &str, label: &str) -> u64 {
        let (_, text) = self.admin_page("/metrics");
        let matching = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label));
        matching
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }

    /// Waits until a metric is at least `value`.
    pub fn await_metric(&self, name: &str, label: &str, value: u64) {
        until(
            || format!("{name}{{{label}}} of {value}"),
            || self.metric(name, label) >= value,
        );
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill9(mut self) -> tempfile::TempDir {
        self.child.kill().expect("killable");
        self.child.wait().expect("waitable");
        let replacement = tempfile::tempdir().expect("temporary directory");
        std::mem::replace(&mut self.dir, replacement)
    }

    pub fn stop(&mut self) -> bool {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .arg(&pid)
                .status()
                .expect("kill runs")
                .success()
        );
        self.child.wait().expect("waitable").success()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("edge.log")).unwrap_or_default()
}

pub fn configure(dir: &Path, http: &str) -> PathBuf {
    configure_workers(dir, 2, http)
}

fn configure_workers(dir: &Path, workers: u8, http: &str) -> PathBuf {
    let path = dir.join("edge.toml");
    let shown = dir.display();
    let journal = match http.contains("[journal]") {
        true => "",
        false => "[journal]\nsegment_bytes = \"1MiB\"\n",
    };
    // A busy machine may delay the edge; tests of shedding set their own limit.
    let patience = match http.contains("shed_lag") {
        true => "",
        false => "shed_lag = \"10s\"\n",
    };
    let text = format!(
        "node = 7\ndata_dir = \"{shown}/data\"\nworkers = {workers}\n\n[http]\nlisten = \"127.0.0.1:0\"\n\
         admin_listen = \"127.0.0.1:0\"\n{patience}{http}\n\n[links]\nfile = \"{shown}/links.toml\"\n\
         check_every = \"20ms\"\n\n{journal}\n[aggregator]\n\
         address = \"{NO_AGGREGATOR}\"\n"
    );
    // A test that has an aggregator names it.
    let text = match http.contains("[tls]") {
        true => text,
        false => text + "\n[tls]\ndevelopment = true\n",
    };
    let text = match http.contains("[aggregator]") {
        true => text.replace("\n[aggregator]\naddress = \"127.0.0.1:1\"\n", ""),
        false => text,
    };
    std::fs::write(&path, text).expect("writable");
    path
}

/// Puts a file that only its owner can read there in one step: an edge that looks at any moment finds the file as it
/// was, or whole.
pub fn write_secret(path: &Path, text: &str) {
    let aside = path.with_extension("aside");
    std::fs::create_dir_all(path.parent().expect("parent directory")).expect("directory created");
    std::fs::write(&aside, text).expect("written");
    std::fs::set_permissions(&aside, Permissions::from_mode(0o600)).expect("permitted");
    std::fs::rename(aside, path).expect("renamed");
}

/// Waits until `condition` is true; `what` is expected.
pub fn until(what: impl Fn() -> String, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out: {}", what());
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn parse(bytes: &[u8]) -> Response {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no response: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("status");
    Response {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    }
}
