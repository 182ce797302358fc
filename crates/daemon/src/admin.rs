//! The port for operators: `/healthz`, `/readyz` and `/metrics` (Prometheus text format), and what a daemon
//! adds to them.
//!
//! A browser inside may be made to ask it by a page from outside whose name is bound to an address inside
//! again (DNS rebinding). It then sends that name, so only addresses and `localhost` are answered.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const LIMITS: Limits = Limits {
    connections: 64,
    header_timeout: Duration::from_secs(10),
    connection_timeout: Duration::from_secs(30),
};
/// A page that takes longer is given up.
const PAGE: Duration = Duration::from_secs(10);

/// What connections may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// At once; others wait to be accepted.
    connections: usize,
    /// From its beginning to a whole request head.
    header_timeout: Duration,
    /// From its beginning to the end of its one response.
    connection_timeout: Duration,
}

/// A page that a daemon adds: JSON, or why it can't be shown.
pub type Page = Pin<Box<dyn Future<Output = Result<String, PageError>> + Send>>;

/// A page that can't be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageError {
    /// Not now.
    Unavailable(String),
    /// What it is about does not exist.
    NotFound(String),
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whether something is to be done, by `POST`.
    pub is_post: bool,
    /// The path.
    pub path: &'a str,
    /// The query, or nothing.
    pub query: &'a str,
}

/// Answers on `addr` from a task of the current runtime and returns the address bound.
///
/// `ready` says why the process is not ready to serve, if it is not; `/healthz` only says that it
/// runs. `pages` gives further pages, and what can be done by `POST`.
///
/// # Errors
/// When the address can't be bound.
pub async fn serve(
    addr: SocketAddr,
    registry: Registry,
    ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    pages: impl Fn(&Asked<'_>) -> Option<Page> + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let pages = Pages {
        registry,
        ready: Box::new(ready),
        more: Box::new(pages),
    };
    serve_within(LIMITS, addr, pages).await
}

async fn serve_within(limits: Limits, addr: SocketAddr, pages: Pages) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(accept(listener, limits, Arc::new(pages)));
    Ok(bound)
}

type More = dyn Fn(&Asked<'_>) -> Option<Page> + Send + Sync;

struct Pages {
    registry: Registry,
    ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    more: Box<More>,
}

async fn accept(listener: TcpListener, limits: Limits, pages: Arc<Pages>) {
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin port can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let service =
                service_fn(async |request| Ok::<_, Infallible>(pages.answer(&request).await));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_timeout)
                // One deadline then limits how long a client may take for all of it.
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            match timeout(limits.connection_timeout, served).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an admin connection ended early"),
                Err(_) => tracing::debug!("an admin connection took too long"),
            }
            drop(place);
        });
    }
}

impl Pages {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !is_addressed_to_operators(request) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "only localhost and IP addresses are answered here; ask by the address\n",
            );
        }
        let path = request.uri().path();
        let asked = Asked {
            is_post: request.method() == Method::POST,
            path,
            query: request.uri().query().unwrap_or_default(),
        };
        match *request.method() {
            Method::GET | Method::HEAD => {}
            // Browsers send one with each POST: a page from anywhere can have them send it here.
            Method::POST if request.headers().contains_key(ORIGIN) => {
                return text(StatusCode::FORBIDDEN, "not from a page in a browser\n");
            }
            Method::POST => {
                let page = (self.more)(&asked);
                return match page {
                    Some(page) => shown(page).await,
                    None => text(
                        StatusCode::METHOD_NOT_ALLOWED,
                        "only GET and HEAD are answered here\n",
                    ),
                };
            }
            _ => {
                return text(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "only GET and HEAD are answered here\n",
                );
            }
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match (self.ready)() {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(why) => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("not ready: {why}\n"),
                ),
            },
            "/metrics" => match TextEncoder::new().encode_to_string(&self.registry.gather()) {
                Ok(metrics) => {
                    let mut response = text(StatusCode::OK, metrics);
                    response.headers_mut().insert(
                        CONTENT_TYPE,
                        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
                    );
                    response
                }
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            _ => match (self.more)(&asked) {
                Some(page) => shown(page).await,
                None => text(StatusCode::NOT_FOUND, "try /healthz, /readyz or /metrics\n"),
            },
        }
    }
}

/// Whether the host asked for is one that no page from outside can have.
fn is_addressed_to_operators<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let named = match (request.uri().authority(), hosts.next(), hosts.next()) {
        (Some(authority), _, None) => Some(authority.as_str()),
        // Not from a browser: those always send one.
        (None, None, None) => return true,
        (None, Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    named.is_some_and(|named| is_local(without_port(named)))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_local(host: &str) -> bool {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            host.eq_ignore_ascii_case("localhost")
                || host.parse::<IpAddr>().is_ok_and(|it| it.is_ipv4())
        }
    }
}

async fn shown(page: Page) -> Response<Full<Bytes>> {
    let page = timeout(PAGE, page).await.unwrap_or_else(|_| {
        let why = format!("not within {} s", PAGE.as_secs());
        Err(PageError::Unavailable(why))
    });
    match page {
        Ok(json) => {
            let mut response = text(StatusCode::OK, json);
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        Err(PageError::Unavailable(why)) => {
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
        }
        Err(PageError::NotFound(what)) => text(StatusCode::NOT_FOUND, format!("{what}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    async fn start(limits: Limits) -> SocketAddr {
        let pages = Pages {
            registry: Registry::new(),
            ready: Box::new(|| Ok(())),
            // More than sockets buffer.
            more: Box::new(|_| Some(Box::pin(async { Ok("x".repeat(32 << 20)) }))),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        serve_within(limits, any, pages).await.expect("bound")
    }

    async fn ask(admin: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(admin).await.expect("connected");
        let request = format!("GET /healthz HTTP/1.1\r\n{head}\r\n");
        stream.write_all(request.as_bytes()).await.expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test]
    async fn names_that_a_page_from_outside_may_have_get_421() {
        let admin = start(LIMITS).await;
        for (head, status) in [
            ("Host: localhost\r\n", 200),
            ("Host: LOCALHOST:8081\r\n", 200),
            ("Host: 127.0.0.1:8081\r\n", 200),
            ("Host: 10.0.0.7\r\n", 200),
            ("Host: [::1]:8081\r\n", 200),
            ("Host: [2001:db8::1]\r\n", 200),
            ("", 200),
            ("Host: evil.example\r\n", 421),
            ("Host: evil.example:8081\r\n", 421),
            ("Host: localhost.evil.example\r\n", 421),
            ("Host: 127.0.0.1.evil.example\r\n", 421),
            ("Host: [::1].evil.example\r\n", 421),
            ("Host: localhost\r\nHost: evil.example\r\n", 421),
            ("Host: \r\n", 421),
        ] {
            let answer = ask(admin, head).await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{head:?}: {answer}");
        }
    }

    #[tokio::test]
    async fn clients_that_stall_give_their_places_back() {
        let limits = Limits {
            connections: 1,
            header_timeout: Duration::from_millis(100),
            connection_timeout: Duration::from_millis(300),
        };
        let admin = start(limits).await;
        let begun = Instant::now();
        for sent in [
            "",
            "GET /healthz HT",
            // It does not read the answer.
            "GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ] {
            let mut stalls = TcpStream::connect(admin).await.expect("connected");
            stalls.write_all(sent.as_bytes()).await.expect("taken");
            assert!(ask(admin, "Host: localhost\r\n").await.contains(" 200 OK"));
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
