//! The public port: one single-threaded runtime per worker, each with its own listening socket.
//!
//! Accepting, limits on connections and time, and the protocols belong here; what is answered
//! never does.

mod connection;
mod prefixed;
mod prelude;

use crate::click_path::ClickPath;
use crate::refusal::Refusal;
use crate::settings::HttpSettings;
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::LocalSet;

/// Connections that may wait to be accepted by a worker; the kernel may allow fewer.
const BACKLOG: i32 = 4_096;

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a request's head, and between requests.
    pub header_timeout: Duration,
    /// For the client to acknowledge what was sent.
    pub write_timeout: Duration,
    /// For open connections to finish when stopping.
    pub stop_timeout: Duration,
    /// Open connections of a worker.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Whether trusted peers send a PROXY protocol header first.
    pub proxy_protocol: bool,
}

impl From<&HttpSettings> for Limits {
    fn from(settings: &HttpSettings) -> Self {
        Self {
            header_timeout: settings.header_timeout.get().0,
            write_timeout: settings.write_timeout.get().0,
            stop_timeout: settings.stop_timeout.0,
            connections: settings.max_connections.get(),
            head_bytes: usize::try_from(settings.max_head_bytes.get().0).unwrap_or(usize::MAX),
            proxy_protocol: settings.proxy_protocol,
        }
    }
}

/// One listening socket per worker on the same address; the kernel spreads connections over them.
///
/// # Errors
/// When the address can't be bound.
pub fn bind(address: SocketAddr, workers: u8) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let first = listener(address)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(listener(bound)?);
    }
    Ok((listeners, bound))
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves `listener` on this thread until `stop` turns true and connections have finished.
///
/// # Errors
/// When the runtime can't be made or the listener can't be used.
pub fn run(
    listener: TcpListener,
    path: ClickPath,
    limits: Limits,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, accept(listener, path, limits, stop))
}

async fn accept(
    listener: TcpListener,
    path: ClickPath,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let path = Rc::new(path);
    let open = Rc::new(Cell::new(0_usize));
    while !*stop.borrow() {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if open.get() >= limits.connections => {
                    path.metrics().refused(Refusal::TooManyConnections);
                    drop(stream);
                }
                Ok((stream, peer)) => {
                    let guard = Open::new(open.clone(), path.clone());
                    tokio::task::spawn_local(serve(stream, peer, guard, limits, stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            _ = stop.changed() => break,
        }
    }
    drop(listener);
    let finished = async {
        while open.get() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(limits.stop_timeout, finished).await;
    Ok(())
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    open: Open,
    limits: Limits,
    stop: watch::Receiver<bool>,
) {
    if let Err(refusal) = connection::serve(stream, peer, &open.path, limits, stop).await {
        open.path.metrics().refused(refusal);
    }
}

/// Counts a connection for as long as it lives.
struct Open {
    count: Rc<Cell<usize>>,
    path: Rc<ClickPath>,
}

impl Open {
    fn new(count: Rc<Cell<usize>>, path: Rc<ClickPath>) -> Self {
        count.set(count.get() + 1);
        path.metrics().connections.inc();
        Self { count, path }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        self.path.metrics().connections.dec();
    }
}
