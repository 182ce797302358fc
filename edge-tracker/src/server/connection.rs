//! One connection: who is at the other end, which protocol, time-outs, who answers, and why it ended.

use super::answering::{self, Answering};
use super::lives::{Conversation, Ended, Life};
use super::streams::{StreamTasks, Streams, TrackedAnswering, TrackedBody};
use super::watched::Watched;
use super::{Limits, prelude};
use crate::click_path::ClickPath;
use crate::refusal::Refusal;
use crate::settings::Http2;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Instant;
use tokio::net::TcpStream;

const HTTP2_STREAMS: u32 = 64;
const HTTP2_WINDOW: u32 = 64 << 10;
const HTTP2_RESETS: usize = 20;
/// Empty settings, then GOAWAY with HTTP_1_1_REQUIRED (RFC 9113, sections 6.5, 6.8 and 7).
const HTTP1_REQUIRED: &[u8] = &[
    0, 0, 0, 4, 0, 0, 0, 0, 0, //
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0d,
];

/// Serves a connection until it ends.
///
/// # Errors
/// The reason, when it ended otherwise than by the client's orderly leave.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    path: &Rc<ClickPath>,
    life: &Rc<Life>,
    limits: Limits,
) -> Result<(), Ended> {
    let mut stream = Watched::new(stream, life.clone());
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
        bodies: Rc::default(),
    };
    let served = if prelude.http2 {
        if !serves_http2(limits.http2, path, peer.ip()) {
            stream.send_last(HTTP1_REQUIRED);
            return Err(Refusal::Http2NotServed.into());
        }
        // Its own pings tell whether somebody is there.
        life.exempt();
        let streams = Streams::new(path.clone(), life.clone(), limits.write_timeout);
        stream.as_http2(prelude.rest, streams.clone());
        life.limit(pin!(http2(stream, streams, clicks, limits)))
            .await?
    } else {
        stream.as_http1(prelude.rest, clicks.bodies.clone());
        life.limit(pin!(http1(stream, clicks, limits))).await?
    };
    served.map_err(|error| reason(&error).into())
}

/// Whether HTTP/2 is spoken with `peer`, the other end of the connection itself.
fn serves_http2(http2: Http2, path: &ClickPath, peer: IpAddr) -> bool {
    match http2 {
        Http2::Off => false,
        Http2::TrustedProxies => path.trusts(peer),
        Http2::Any => true,
    }
}

/// Answers the requests of one connection.
struct Clicks {
    path: Rc<ClickPath>,
    life: Rc<Life>,
    peer: IpAddr,
    /// Whether a request had a body.
    bodies: Rc<Cell<bool>>,
}

impl Clicks {
    fn answer(&self, request: Request<Incoming>) -> Answering {
        let parsed = Instant::now();
        self.life.used(parsed);
        if !request.body().is_end_stream() {
            self.bodies.set(true);
        }
        match self.path.function(self.peer, &request) {
            None => Answering::at_once(self.path.answer(self.peer, request, parsed)),
            Some(Err(refusal)) => Answering::at_once(refusal.response()),
            Some(Ok(function)) => {
                let called = self.path.call(function, self.peer, request);
                Answering::later(called, self.life.awaits())
            }
        }
    }
}

impl Service<Request<Incoming>> for Clicks {
    type Response = Response<answering::Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.answer(request)
    }
}

/// Answers the requests of one HTTP/2 connection.
struct StreamClicks {
    clicks: Clicks,
    streams: Rc<Streams>,
}

impl Service<Request<Incoming>> for StreamClicks {
    type Response = Response<TrackedBody>;
    type Error = Infallible;
    type Future = TrackedAnswering;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        TrackedAnswering::new(self.clicks.answer(request), self.streams.clone())
    }
}

type Http1Connection = http1::Connection<TokioIo<Watched>, Clicks>;
type Http2Connection = http2::Connection<TokioIo<Watched>, StreamClicks, StreamTasks>;

impl Conversation for Http1Connection {
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }

    fn take_leave(self: Pin<&mut Self>) {
        // Closing an idle connection is all that there is to say (RFC 9112, section 9.5).
    }
}

impl Conversation for Http2Connection {
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }

    fn take_leave(self: Pin<&mut Self>) {
        // GOAWAY.
        self.graceful_shutdown();
    }
}

fn http1(stream: Watched, clicks: Clicks, limits: Limits) -> Http1Connection {
    http1::Builder::new()
        // A client may close its side after its last request and still wants the answer.
        .half_close(true)
        .max_buf_size(limits.head_bytes)
        // Answers are short: one buffer costs less than a list of two.
        .writev(false)
        .serve_connection(TokioIo::new(stream), clicks)
}

fn http2(stream: Watched, streams: Rc<Streams>, clicks: Clicks, limits: Limits) -> Http2Connection {
    let tasks = StreamTasks(streams.clone());
    http2::Builder::new(tasks)
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW)
        .max_send_buf_size(HTTP2_WINDOW as usize)
        // Against floods of streams that are opened and reset at once (CVE-2023-44487), or made to
        // be reset by us: beyond, the connection is closed.
        .max_pending_accept_reset_streams(HTTP2_RESETS)
        .max_local_error_reset_streams(HTTP2_RESETS)
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.write_timeout)
        .serve_connection(TokioIo::new(stream), StreamClicks { clicks, streams })
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
