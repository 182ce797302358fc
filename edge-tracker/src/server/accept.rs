//! Accepts connections and makes room for them: the connection that has been idle the longest is evicted, and
//! a new one is closed only when none is idle. Protocols never belong here.

use super::connections::{Admission, CloseReason, ConnectionGuard, ConnectionTable};
use super::socket::AcceptedSocket;
use super::{Limits, connection};
use crate::click_path::ClickPath;
use crate::shed::Shed;
use rustix::io::Errno;
use std::cell::Cell;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{spawn_local, yield_now};

/// The pause after an error when no connection can be evicted.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Connections accepted in one turn of the event loop.
const MAX_ACCEPTS_PER_TURN: usize = 64;
/// The shortest time between two log lines about the same problem.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Measures for how long the accept queue has not been empty.
#[derive(Debug, Default)]
pub(super) struct AcceptBacklogTimer(Cell<Option<Instant>>);

impl AcceptBacklogTimer {
    /// How long the queue has not been empty, at `now`.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        let since = self.0.get().unwrap_or(now);
        now.saturating_duration_since(since)
    }

    fn stop(&self) {
        self.0.set(None);
    }

    fn start(&self) {
        self.0.set(self.0.get().or_else(|| Some(Instant::now())));
    }
}

/// Accepts connections permanently: a few in each turn of the event loop, so that accepted connections are served
/// before more are accepted. Excess connections wait in the accept queue, where they cost nothing.
pub(super) async fn accept(
    listener: TcpListener,
    path: Rc<ClickPath>,
    table: Rc<ConnectionTable>,
    backlog_timer: Rc<AcceptBacklogTimer>,
    limits: Limits,
) {
    let (mut reserved, mut error_log) = (ReservedFd::new(), RateLimitedLog::default());
    let mut accepted = 0;
    loop {
        // Another part of the process may have taken the descriptor: without it no connection can be rejected.
        reserved.refill();
        let next = poll_fn(|cx| {
            let polled = listener.poll_accept(cx);
            if polled.is_pending() {
                accepted = 0;
                backlog_timer.stop();
            }
            polled
        });
        match next.await {
            Ok((stream, peer)) => {
                let mut admission = table.admit(limits.connections);
                while admission == Admission::Wait {
                    backlog_timer.start();
                    yield_now().await;
                    admission = table.admit(limits.connections);
                }
                if admission == Admission::Admit {
                    let counted = CountedConnection::new(table.insert(), path.clone());
                    spawn_local(serve(stream, peer, counted, limits));
                } else {
                    reject(stream, &path);
                }
            }
            Err(error) if out_of_descriptors(&error) => {
                reserved.log(&error);
                if table.evict_oldest_idle() {
                    // It closes when it is polled, and frees its descriptor.
                    yield_now().await;
                } else if !reserved.reject_one(&listener, &path).await {
                    tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
                }
            }
            // Other connections may be waiting.
            Err(error) if broke_in_queue(&error) => {}
            Err(error) => {
                if error_log.is_due(Instant::now()) {
                    tracing::error!(%error, "failed to accept connections, retrying");
                }
                tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
            }
        }
        accepted += 1;
        if accepted >= MAX_ACCEPTS_PER_TURN {
            accepted = 0;
            backlog_timer.start();
            yield_now().await;
        }
    }
}

fn reject(stream: TcpStream, path: &ClickPath) {
    path.metrics().shed(Shed::Connection);
    drop(stream);
}

fn out_of_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// Whether the connection broke before it was accepted, which Linux reports with many codes (accept(2)).
fn broke_in_queue(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PERM
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::OPNOTSUPP
        )
    )
}

/// When a recurring problem was last logged.
#[derive(Default)]
struct RateLimitedLog(Option<Instant>);

impl RateLimitedLog {
    /// Whether to log at `now`; when true, the interval restarts.
    fn is_due(&mut self, now: Instant) -> bool {
        let recently = |last| now.saturating_duration_since(last) < LOG_INTERVAL;
        let due = !self.0.is_some_and(recently);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

/// A descriptor that is freed to accept a connection that must be rejected: otherwise the connection would stay in
/// the queue and wake the worker again and again.
struct ReservedFd {
    file: Option<File>,
    log: RateLimitedLog,
}

impl ReservedFd {
    fn new() -> Self {
        Self {
            file: File::open("/dev/null").ok(),
            log: RateLimitedLog::default(),
        }
    }

    /// False when no descriptor was reserved, or no connection was waiting.
    async fn reject_one(&mut self, listener: &TcpListener, path: &ClickPath) -> bool {
        if self.file.take().is_none() {
            self.refill();
            return false;
        }
        let accepted = poll_fn(|cx| match listener.poll_accept(cx) {
            Poll::Ready(Ok((stream, _))) => Poll::Ready(Some(stream)),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
        });
        let accepted = accepted.await;
        let rejected = accepted.is_some();
        if let Some(stream) = accepted {
            reject(stream, path);
        }
        self.refill();
        rejected
    }

    fn refill(&mut self) {
        if self.file.is_none() {
            self.file = File::open("/dev/null").ok();
        }
    }

    fn log(&mut self, error: &io::Error) {
        if self.log.is_due(Instant::now()) {
            tracing::error!(
                %error,
                "out of file descriptors, connections are shed; raise the limit of open files"
            );
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, counted: CountedConnection, limits: Limits) {
    let state = &counted.guard.state;
    let socket = AcceptedSocket::new(stream, state.clone());
    match connection::serve(socket, peer, &counted.path, state, limits).await {
        Ok(()) => {}
        Err(CloseReason::Refused(refusal)) => counted.path.metrics().refused(refusal),
        Err(CloseReason::Idle) => {}
        Err(CloseReason::Evicted) => counted.path.metrics().shed(Shed::IdleConnection),
    }
}

/// Counts a connection in the metrics for as long as it is open.
struct CountedConnection {
    guard: ConnectionGuard,
    path: Rc<ClickPath>,
}

impl CountedConnection {
    fn new(guard: ConnectionGuard, path: Rc<ClickPath>) -> Self {
        path.metrics().connections.inc();
        Self { guard, path }
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.path.metrics().connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recurring_problem_is_logged_once_an_interval() {
        let (mut log, start) = (RateLimitedLog::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let logged: Vec<u64> = (0..25).filter(|it| log.is_due(at(*it))).collect();
        assert_eq!(logged, [0, 10, 20]);
    }
}
