//! One connection: who is at the other end, which protocol, time-outs, and why it ended.

use super::lives::{Conversation, Life};
use super::prefixed::Prefixed;
use super::{Limits, prelude};
use crate::click_path::ClickPath;
use crate::refusal::Refusal;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Instant;
use tokio::net::TcpStream;

const HTTP2_STREAMS: u32 = 64;
const HTTP2_WINDOW: u32 = 64 << 10;

/// Serves a connection until it ends.
///
/// # Errors
/// The reason, when it ended otherwise than by the client's orderly leave.
pub(super) async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    path: &Rc<ClickPath>,
    life: &Rc<Life>,
    limits: Limits,
) -> Result<(), Refusal> {
    let expects_proxy_header = limits.proxy_protocol && path.trusts(peer.ip());
    let first = {
        let reading = pin!(prelude::read(&mut stream, peer, expects_proxy_header));
        life.limit_or_leave(reading).await?
    };
    // Nothing has been asked yet, so there is nothing to finish when stopping.
    let Some(prelude) = first.transpose()?.flatten() else {
        return Ok(());
    };
    let clicks = Clicks {
        path: path.clone(),
        life: life.clone(),
        peer: prelude.peer,
    };
    let io = TokioIo::new(Prefixed::new(prelude.rest, stream));
    let served = if prelude.http2 {
        // Its own pings tell whether somebody is there.
        life.exempt();
        life.limit(pin!(http2(io, clicks, limits))).await?
    } else {
        life.limit(pin!(http1(io, clicks, limits))).await?
    };
    served.map_err(|error| reason(&error))
}

/// Answers the requests of one connection.
struct Clicks {
    path: Rc<ClickPath>,
    life: Rc<Life>,
    peer: IpAddr,
}

impl Service<Request<Incoming>> for Clicks {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let parsed = Instant::now();
        self.life.used(parsed);
        std::future::ready(Ok(self.path.answer(self.peer, request, parsed)))
    }
}

type Http1 = http1::Connection<TokioIo<Prefixed>, Clicks>;
type Http2 = http2::Connection<TokioIo<Prefixed>, Clicks, OnThisThread>;

impl Conversation for Http1 {
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl Conversation for Http2 {
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

fn http1(io: TokioIo<Prefixed>, clicks: Clicks, limits: Limits) -> Http1 {
    http1::Builder::new()
        // A client may close its side after its last request and still wants the answer.
        .half_close(true)
        .max_buf_size(limits.head_bytes)
        // Answers are short: one buffer costs less than a list of two.
        .writev(false)
        .serve_connection(io, clicks)
}

fn http2(io: TokioIo<Prefixed>, clicks: Clicks, limits: Limits) -> Http2 {
    http2::Builder::new(OnThisThread)
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW)
        .max_send_buf_size(HTTP2_WINDOW as usize)
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.write_timeout)
        .serve_connection(io, clicks)
}

/// Runs HTTP/2 streams where their connection runs.
#[derive(Debug, Clone, Copy)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

fn reason(error: &hyper::Error) -> Refusal {
    if error.is_parse_too_large() {
        Refusal::HeadTooLarge
    } else if error.is_parse() {
        Refusal::MalformedRequest
    } else if error.is_timeout() {
        Refusal::TooSlow
    } else {
        Refusal::ConnectionBroken
    }
}
