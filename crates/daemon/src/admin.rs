//! The admin HTTP server for operators: `/healthz`, `/readyz`, `/metrics` (Prometheus text format) and the
//! daemon's own pages.
//!
//! Protection against DNS rebinding: an external web page can make a browser in the internal network send
//! requests here under the page's host name. Only `localhost` and IP addresses are accepted as hosts.

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
/// The time after which a page is cancelled.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Limits of connections.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The maximum number of connections; others wait in the accept queue.
    connections: usize,
    /// The time from the start of a connection to the end of the request's headers.
    header_timeout: Duration,
    /// The time from the start of a connection to the end of its only response.
    connection_timeout: Duration,
}

/// A page of the daemon: JSON, or an error.
pub type Page = Pin<Box<dyn Future<Output = Result<String, PageError>> + Send>>;

/// A page that is not available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageError {
    /// The page is temporarily unavailable.
    Unavailable(String),
    /// The subject of the page does not exist.
    NotFound(String),
    /// The request asks for something that can't be.
    Invalid(String),
}

/// A request for a page.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<'a> {
    /// Whether the method is `POST`, which requests an action.
    pub is_post: bool,
    /// The path.
    pub path: &'a str,
    /// The query, or an empty text.
    pub query: &'a str,
}

/// Serves `addr` in a task of the current runtime and returns the bound address.
///
/// `ready` returns the reason while the process is not ready; `/healthz` only reports that the process
/// runs. `pages` returns the daemon's own pages and handles `POST` requests.
///
/// # Errors
/// When the address can't be bound.
pub async fn serve(
    addr: SocketAddr,
    registry: Registry,
    ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    pages: impl Fn(&PageRequest<'_>) -> Option<Page> + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let pages = Pages {
        registry,
        ready: Box::new(ready),
        handler: Box::new(pages),
    };
    serve_within(LIMITS, addr, pages).await
}

async fn serve_within(limits: Limits, addr: SocketAddr, pages: Pages) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(accept(listener, limits, Arc::new(pages)));
    Ok(bound)
}

type PageHandler = dyn Fn(&PageRequest<'_>) -> Option<Page> + Send + Sync;

struct Pages {
    registry: Registry,
    ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    handler: Box<PageHandler>,
}

async fn accept(listener: TcpListener, limits: Limits, pages: Arc<Pages>) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "failed to accept admin connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let service =
                service_fn(async |request| Ok::<_, Infallible>(pages.respond(&request).await));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_timeout)
                // Without keep-alive one deadline limits the whole connection.
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            match timeout(limits.connection_timeout, served).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "admin connection failed"),
                Err(_) => tracing::debug!("admin connection timed out"),
            }
            drop(permit);
        });
    }
}

impl Pages {
    async fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !has_local_host(request) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "only localhost and IP addresses are accepted as hosts; use the address\n",
            );
        }
        let path = request.uri().path();
        let page_request = PageRequest {
            is_post: request.method() == Method::POST,
            path,
            query: request.uri().query().unwrap_or_default(),
        };
        match *request.method() {
            Method::GET | Method::HEAD => {}
            // Browsers send an Origin header with each POST that a web page triggers.
            Method::POST if request.headers().contains_key(ORIGIN) => {
                return text(
                    StatusCode::FORBIDDEN,
                    "requests from web pages are not allowed\n",
                );
            }
            Method::POST => {
                let page = (self.handler)(&page_request);
                return match page {
                    Some(page) => page_response(page).await,
                    None => text(
                        StatusCode::METHOD_NOT_ALLOWED,
                        "only GET and HEAD are supported here\n",
                    ),
                };
            }
            _ => {
                return text(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "only GET and HEAD are supported here\n",
                );
            }
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match (self.ready)() {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(reason) => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("not ready: {reason}\n"),
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
            _ => match (self.handler)(&page_request) {
                Some(page) => page_response(page).await,
                None => text(StatusCode::NOT_FOUND, "try /healthz, /readyz or /metrics\n"),
            },
        }
    }
}

/// Whether the requested host can't belong to an external web page.
fn has_local_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let named = match (request.uri().authority(), hosts.next(), hosts.next()) {
        (Some(authority), _, None) => Some(authority.as_str()),
        // Browsers always send a host.
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

async fn page_response(page: Page) -> Response<Full<Bytes>> {
    let page = timeout(PAGE_TIMEOUT, page).await.unwrap_or_else(|_| {
        let reason = format!("not within {} s", PAGE_TIMEOUT.as_secs());
        Err(PageError::Unavailable(reason))
    });
    match page {
        Ok(json) => {
            let mut response = text(StatusCode::OK, json);
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        Err(PageError::Unavailable(reason)) => {
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
        }
        Err(PageError::NotFound(what)) => text(StatusCode::NOT_FOUND, format!("{what}\n")),
        Err(PageError::Invalid(what)) => text(StatusCode::BAD_REQUEST, format!("{what}\n")),
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
            // More than socket buffers hold.
            handler: Box::new(|_| Some(Box::pin(async { Ok("x".repeat(32 << 20)) }))),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        serve_within(limits, any, pages).await.expect("bound")
    }

    async fn request(admin: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(admin).await.expect("connected");
        let request = format!("GET /healthz HTTP/1.1\r\n{head}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut response = String::new();
        stream
            .read_to_string(&mut response)
            .await
            .expect("response");
        response
    }

    #[tokio::test]
    async fn external_host_names_get_421() {
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
            let response = request(admin, head).await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(response.starts_with(&expected), "{head:?}: {response}");
        }
    }

    #[tokio::test]
    async fn stalled_clients_release_their_connections() {
        let limits = Limits {
            connections: 1,
            header_timeout: Duration::from_millis(100),
            connection_timeout: Duration::from_millis(300),
        };
        let admin = start(limits).await;
        let started = Instant::now();
        for sent in [
            "",
            "GET /healthz HT",
            // This client does not read the response.
            "GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ] {
            let mut stalled = TcpStream::connect(admin).await.expect("connected");
            stalled.write_all(sent.as_bytes()).await.expect("sent");
            assert!(
                request(admin, "Host: localhost\r\n")
                    .await
                    .contains(" 200 OK")
            );
        }
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
