//! The public port: one single-threaded runtime per worker, each with its own listening socket.
//!
//! Accepting, limits on connections and time, shedding of connections, and the protocols belong here; the content
//! of responses never does.

mod accept;
mod activity;
pub mod backlog;
mod connection;
mod connections;
mod h2_frame_tracker;
mod idle;
mod protocol_detect;
mod queue_delay;
mod request_target;
mod response_future;
pub mod rlimit;
mod socket;
mod streams;

use crate::click_path::ClickPath;
use crate::settings::{Http2, HttpSettings};
use connections::ConnectionTable;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;
use tokio::runtime::LocalOptions;
use tokio::sync::watch;
use tokio::task::spawn_local;

/// The accept queue of a worker; the kernel may allow less.
const MAX_BACKLOG: i32 = 4_096;

/// Limits of connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To receive a request's head, and between requests.
    pub header_timeout: Duration,
    /// For the client to acknowledge sent bytes, and to open its window for more.
    pub write_timeout: Duration,
    /// For open connections to drain at shutdown.
    pub stop_timeout: Duration,
    /// Open connections of a worker; beyond, the one that has been idle the longest is evicted.
    pub connections: usize,
    /// The event-loop and accept-queue delay from which the worker sheds impressions.
    pub shed_lag: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Whether trusted peers send a PROXY protocol header first.
    pub proxy_protocol: bool,
    /// The peers that may use HTTP/2.
    pub http2: Http2,
}

impl From<&HttpSettings> for Limits {
    fn from(settings: &HttpSettings) -> Self {
        Self {
            header_timeout: settings.header_timeout.get().0,
            write_timeout: settings.write_timeout.get().0,
            stop_timeout: settings.stop_timeout.0,
            connections: settings.max_connections.get(),
            shed_lag: settings.shed_lag.get().0,
            head_bytes: usize::try_from(settings.max_head_bytes.get().0).unwrap_or(usize::MAX),
            proxy_protocol: settings.proxy_protocol,
            http2: settings.http2,
        }
    }
}

/// Binds one listening socket per worker to the same address; the kernel spreads connections over them.
///
/// The first is bound without `SO_REUSEPORT`, so that another process on the address, perhaps an edge, is detected:
/// the kernel would give it half of the connections.
///
/// # Errors
/// When the address can't be bound, or is in use.
pub fn bind(
    address: SocketAddr,
    workers: u8,
    limits: Limits,
) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let first = listener(address, limits, Sharing::AfterBinding)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(listener(bound, limits, Sharing::WhileBinding)?);
    }
    Ok((listeners, bound))
}

/// When a socket begins to share its address with other sockets of this process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    WhileBinding,
    AfterBinding,
}

fn listener(address: SocketAddr, limits: Limits, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::WhileBinding)?;
    socket.set_nonblocking(true)?;
    // Accepted connections inherit these (tcp(7)), which saves two system calls for each.
    socket.set_tcp_nodelay(true)?;
    // The kernel cuts off a client that does not read; no timer of ours per response.
    socket.set_tcp_user_timeout(Some(limits.write_timeout))?;
    // A response fits into a segment or two, far below any window; pacing for large transfers (BBR) would only
    // cost. Where Reno is unavailable the machine's default is good enough.
    let _ = socket.set_tcp_congestion(b"reno");
    socket.bind(&address.into())?;
    // Before `listen`, when the kernel forms the group that connections are spread over.
    socket.set_reuse_port(true)?;
    socket.listen(MAX_BACKLOG)?;
    Ok(socket.into())
}

/// Serves `listener` on this thread until `stop` turns true and connections are drained.
///
/// # Errors
/// When the runtime can't be made or the listener can't be touch.
pub fn run(
    listener: TcpListener,
    path: ClickPath,
    limits: Limits,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?
        .block_on(serve_all(listener, path, limits, stop))
}

async fn serve_all(
    listener: TcpListener,
    path: ClickPath,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (path, table) = (Rc::new(path), ConnectionTable::new());
    let backlog_timer = Rc::<accept::AcceptBacklogTimer>::default();
    // Local tasks, so that they wait in the same queue as the tasks that serve requests.
    let watching = spawn_local(queue_delay::watch(
        path.clone(),
        backlog_timer.clone(),
        limits.shed_lag,
    ));
    let mut accepting = spawn_local(accept::accept(
        listener,
        path,
        table.clone(),
        backlog_timer,
        limits,
    ));
    tokio::select! {
        ended = &mut accepting => ended.map_err(io::Error::other)?,
        () = close_timed_out(&table, limits.header_timeout) => {}
        // The sender lives as long as the node; without it the worker stops, too.
        _ = stop.wait_for(|stop| *stop) => {}
    }
    accepting.abort();
    watching.abort();
    table.shut_down();
    let finished = async {
        while table.count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(limits.stop_timeout, finished).await;
    Ok(())
}

/// Closes timed-out connections permanently, at most a quarter of `timeout` late.
async fn close_timed_out(table: &ConnectionTable, timeout: Duration) {
    let mut every = tokio::time::interval((timeout / 4).min(Duration::from_secs(1)));
    loop {
        every.tick().await;
        table.close_timed_out(timeout);
    }
}

#[cfg(test)]
mod tests;
