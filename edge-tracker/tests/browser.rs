//! What a real browser does with the responses of an edge: a headless Chromium, where there is one.
#![allow(missing_docs)]

mod harness;

use harness::{CHROME, Edge, journal};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tracking_events::Flags;

/// A browser takes some seconds to start, longer on a busy machine.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(90);

/// A browser that has opened one page; it ends with this.
struct Browser(Child);

impl Browser {
    /// None, and a message, without Chromium.
    fn open(url: &str, profile: &std::path::Path) -> Option<Self> {
        let child = Command::new("chromium")
            // Without a sandbox it runs as root, too; it opens only pages of this test.
            .args(["--headless", "--no-sandbox", "--disable-dev-shm-usage"])
            .arg(format!("--user-agent={CHROME}"))
            .arg(format!("--user-data-dir={}", profile.display()))
            // Keeps it open.
            .arg("--remote-debugging-port=0")
            .arg(url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self(child)),
            Err(_) => {
                eprintln!("skipped: Chromium is needed; install it: apt-get install chromium");
                None
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves pages at its own address: `page` returns the page for a request's head.
fn serve(page: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let page = Arc::new(page);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let page = page.clone();
            std::thread::spawn(move || respond(stream, &*page));
        }
    });
    address
}

fn respond(mut stream: TcpStream, page: &dyn Fn(&str) -> Option<String>) {
    let lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let (status, body) = match page(&head.join("\n")) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", String::new()),
    };
    // Browsers open connections that they do not use.
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nCache-Control: no-store\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

#[test]
fn click_after_a_prefetch_is_counted_once() {
    let (sender, visits) = mpsc::channel();
    let shop = serve(move |head| {
        head.starts_with("GET /shop?").then(|| {
            let _ = sender.send(head.to_ascii_lowercase().contains("sec-purpose: prefetch"));
            "<title>shop</title>".into()
        })
    });
    let dir = tempfile::tempdir().expect("temporary directory");
    let links = format!(
        "[[link]]\nid = 1\nslug = \"shop\"\noffer = \"o\"\ncampaign = \"c\"\naffiliate = \"a\"\n\
         destination = \"http://{shop}/shop?cid={{click_id}}\"\n"
    );
    std::fs::write(dir.path().join("links.toml"), links).expect("writable");
    let edge = Edge::lone_in(dir, &[], "");
    let link = format!("http://{}/c/shop", edge.listening);
    let (reached, reader) = mpsc::channel();
    let (click, may_click) = mpsc::channel();
    let may_click = Mutex::new(may_click);
    let blog = serve(move |head| {
        if head.starts_with("GET /prefetched ") {
            let _ = reached.send(());
            let clicks = may_click.lock().ok()?.recv();
            return clicks.ok().map(|()| String::new());
        }
        head.starts_with("GET /blog ").then(|| blog(&link))
    });
    let profile = tempfile::tempdir().expect("temporary directory");
    let Some(browser) = Browser::open(&format!("http://{blog}/blog"), profile.path()) else {
        return;
    };
    reader
        .recv_timeout(BROWSER_TIMEOUT)
        .expect("the blog is read");
    edge.await_metric("edge_marked_total", "\"prefetch\"", 1);
    click.send(()).expect("the server receives");
    let is_prefetch = visits
        .recv_timeout(BROWSER_TIMEOUT)
        .expect("the shop is visited");
    assert!(!is_prefetch, "the shop was fetched ahead");
    drop(browser);
    let dir = edge.kill9();
    let rows = journal::visits(dir.path(), 1, |visit| (visit.status, visit.flags));
    assert_eq!(rows, [(503, Flags::PREFETCH), (302, Flags(0))]);
}

/// A page that prefetches `link`, and clicks it on a signal.
fn blog(link: &str) -> String {
    format!(
        "<!doctype html><a id=\"link\" href=\"{link}\">shop</a>\
         <script type=\"speculationrules\">\
         {{\"prefetch\":[{{\"source\":\"list\",\"urls\":[\"{link}\"],\"eagerness\":\"immediate\"}}]}}\
         </script><script>\
         fetch('/prefetched').then(() => document.getElementById('link').click())</script>"
    )
}
