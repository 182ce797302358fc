//! One connection: prelude, HTTP/1.1 or HTTP/2, time-outs, and why it ended.

use super::prefixed::Prefixed;
use super::{Limits, prelude};
use crate::click_path::ClickPath;
use crate::refusal::Refusal;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use tokio::net::TcpStream;
use tokio::sync::watch;

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
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Refusal> {
    if set_options(&stream, limits).is_err() {
        return Err(Refusal::ConnectionBroken);
    }
    let expects_proxy_header = limits.proxy_protocol && path.trusts(peer.ip());
    let prelude = prelude::read(&mut stream, peer, expects_proxy_header);
    let prelude = tokio::select! {
        prelude = tokio::time::timeout(limits.header_timeout, prelude) => prelude,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let Some(prelude) = prelude.map_err(|_| Refusal::TooSlow)?? else {
        return Ok(());
    };
    let service = service(path.clone(), prelude.peer);
    let io = TokioIo::new(Prefixed::new(prelude.rest, stream));
    let served = if prelude.http2 {
        serve_http2(io, service, limits, stop).await
    } else {
        serve_http1(io, service, limits, stop).await
    };
    served.map_err(|error| reason(&error))
}

/// A client that does not take what was sent is cut off by the kernel; no timer of ours per answer.
fn set_options(stream: &TcpStream, limits: Limits) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(limits.write_timeout))
}

type Answered = std::future::Ready<Result<Response<Full<Bytes>>, Infallible>>;

fn service(
    path: Rc<ClickPath>,
    peer: IpAddr,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future = Answered,
> {
    service_fn(move |request| std::future::ready(Ok(path.answer(peer, &request))))
}

async fn serve_http1<S>(
    io: TokioIo<Prefixed>,
    service: S,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: Service<
            Request<Incoming>,
            Response = Response<Full<Bytes>>,
            Error = Infallible,
            Future = Answered,
        >,
{
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // A client may close its side after its last request and still wants the answer.
        .half_close(true)
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.head_bytes)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn serve_http2<S>(
    io: TokioIo<Prefixed>,
    service: S,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: Service<
            Request<Incoming>,
            Response = Response<Full<Bytes>>,
            Error = Infallible,
            Future = Answered,
        >,
{
    let connection = hyper::server::conn::http2::Builder::new(OnThisThread)
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW)
        .max_send_buf_size(HTTP2_WINDOW as usize)
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.write_timeout)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
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
