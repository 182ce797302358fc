//! Serves one connection over any stream: detects its protocol, routes its requests, and returns why it was closed.

use super::activity::{ActivityTrackingStream, Transport};
use super::connections::{CloseReason, ConnectionState, GracefulShutdown};
use super::response_future::{self, ResponseFuture};
use super::streams::{StreamTasks, Streams, TrackedBody, TrackedResponseFuture};
use super::{Limits, protocol_detect};
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

const MAX_HTTP2_STREAMS: u32 = 64;
const HTTP2_WINDOW_BYTES: u32 = 64 << 10;
const MAX_HTTP2_RESETS: usize = 20;
/// Empty settings, then GOAWAY with HTTP_1_1_REQUIRED (RFC 9113, sections 6.5, 6.8 and 7).
const HTTP1_REQUIRED: &[u8] = &[
    0, 0, 0, 4, 0, 0, 0, 0, 0, //
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0d,
];

/// Serves a connection until it ends.
///
/// # Errors
/// The reason, unless the client closed the connection in order.
pub(super) async fn serve<S: Transport>(
    stream: S,
    peer: SocketAddr,
    path: &Rc<ClickPath>,
    state: &Rc<ConnectionState>,
    limits: Limits,
) -> Result<(), CloseReason> {
    let mut stream = ActivityTrackingStream::new(stream, state.clone());
    let expects_proxy_header = limits.proxy_protocol && path.trusts(peer.ip());
    let first = {
        let reading = pin!(protocol_detect::read(
            &mut stream,
            peer,
            expects_proxy_header
        ));
        state.run_until_shutdown(reading).await?
    };
    // Without a request there is nothing to drain at shutdown.
    let Some(detected) = first.transpose()?.flatten() else {
        return Ok(());
    };
    let clicks = ClickService {
        path: path.clone(),
        state: state.clone(),
        peer: detected.peer,
        bodies: Rc::default(),
    };
    let served = if detected.http2 {
        if !serves_http2(limits.http2, path, peer.ip()) {
            stream.send_before_close(HTTP1_REQUIRED).await;
            return Err(Refusal::Http2NotServed.into());
        }
        // Pings detect whether the client is still there.
        state.disable_idle_timeout();
        let streams = Streams::new(path.clone(), state.clone(), limits.write_timeout);
        stream.as_http2(detected.rest, streams.clone());
        state
            .run_until_drained(pin!(http2(stream, streams, clicks, limits)))
            .await?
    } else {
        stream.as_http1(detected.rest, clicks.bodies.clone());
        state
            .run_until_drained(pin!(http1(stream, clicks, limits)))
            .await?
    };
    served.map_err(|error| reason(&error).into())
}

/// Whether `peer`, the other end of the connection itself, may use HTTP/2.
fn serves_http2(http2: Http2, path: &ClickPath, peer: IpAddr) -> bool {
    match http2 {
        Http2::Off => false,
        Http2::TrustedProxies => path.trusts(peer),
        Http2::Any => true,
    }
}

/// Serves the requests of one connection.
struct ClickService {
    path: Rc<ClickPath>,
    state: Rc<ConnectionState>,
    peer: IpAddr,
    /// Whether a request had a body.
    bodies: Rc<Cell<bool>>,
}

impl ClickService {
    fn respond(&self, request: Request<Incoming>) -> ResponseFuture {
        let parsed = Instant::now();
        self.state.touch(parsed);
        if !request.body().is_end_stream() {
            self.bodies.set(true);
        }
        match self.path.match_function(self.peer, &request) {
            None => ResponseFuture::ready(self.path.respond(self.peer, request, parsed)),
            Some(Err(refusal)) => ResponseFuture::ready(refusal.response()),
            Some(Ok(function)) => {
                let future = self.path.call_function(function, self.peer, request);
                ResponseFuture::pending(future, self.state.await_response())
            }
        }
    }
}

impl Service<Request<Incoming>> for ClickService {
    type Response = Response<response_future::Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.respond(request)
    }
}

/// Serves the requests of one HTTP/2 connection.
struct StreamService {
    clicks: ClickService,
    streams: Rc<Streams>,
}

impl Service<Request<Incoming>> for StreamService {
    type Response = Response<TrackedBody>;
    type Error = Infallible;
    type Future = TrackedResponseFuture;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        TrackedResponseFuture::new(self.clicks.respond(request), self.streams.clone())
    }
}

type Http1Connection<S> = http1::Connection<TokioIo<ActivityTrackingStream<S>>, ClickService>;
type Http2Connection<S> =
    http2::Connection<TokioIo<ActivityTrackingStream<S>>, StreamService, StreamTasks>;

impl<S: Transport> GracefulShutdown for Http1Connection<S> {
    fn start_drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }

    fn send_goaway(self: Pin<&mut Self>) {
        // HTTP/1.1 has no such message: the connection is closed (RFC 9112, section 9.5).
    }
}

impl<S: Transport> GracefulShutdown for Http2Connection<S> {
    fn start_drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }

    fn send_goaway(self: Pin<&mut Self>) {
        // GOAWAY.
        self.graceful_shutdown();
    }
}

fn http1<S: Transport>(
    stream: ActivityTrackingStream<S>,
    clicks: ClickService,
    limits: Limits,
) -> Http1Connection<S> {
    http1::Builder::new()
        // A client may close its side after its last request and still expects the response.
        .half_close(true)
        .max_buf_size(limits.head_bytes)
        // Responses are short: one buffer costs less than a list of two.
        .writev(false)
        .serve_connection(TokioIo::new(stream), clicks)
}

fn http2<S: Transport>(
    stream: ActivityTrackingStream<S>,
    streams: Rc<Streams>,
    clicks: ClickService,
    limits: Limits,
) -> Http2Connection<S> {
    let tasks = StreamTasks(streams.clone());
    http2::Builder::new(tasks)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_send_buf_size(HTTP2_WINDOW_BYTES as usize)
        // Against floods of streams that the client opens and resets at once (CVE-2023-44487), or makes the edge
        // reset: beyond these limits the connection is closed.
        .max_pending_accept_reset_streams(MAX_HTTP2_RESETS)
        .max_local_error_reset_streams(MAX_HTTP2_RESETS)
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.write_timeout)
        .serve_connection(TokioIo::new(stream), StreamService { clicks, streams })
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
