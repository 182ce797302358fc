//! Taking connections in, and what gives way when there is no room: first who has been idle the
//! longest, and only when nobody is idle, who comes. What is said on a connection never belongs here.

use super::lives::{Ended, Lives, Place, Room};
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

/// How long to wait when there is nothing that could give way.
const PAUSE: Duration = Duration::from_millis(20);
/// Newcomers taken in one turn of the loop at most.
const AT_ONCE: usize = 64;
/// A full table of descriptors, and what else hinders, is said this often and no oftener.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Since when there has always been somebody waiting to be accepted.
#[derive(Debug, Default)]
pub(super) struct Waiting(Cell<Option<Instant>>);

impl Waiting {
    /// For how long, at `now`.
    pub(super) fn time(&self, now: Instant) -> Duration {
        let since = self.0.get().unwrap_or(now);
        now.saturating_duration_since(since)
    }

    fn nobody(&self) {
        self.0.set(None);
    }

    fn somebody(&self) {
        self.0.set(self.0.get().or_else(|| Some(Instant::now())));
    }
}

/// Accepts for ever: a few in each turn of the loop, so that who was let in is answered before more
/// are. Those for whom there is no time wait in the system's queue, where they cost nothing.
pub(super) async fn accept(
    listener: TcpListener,
    path: Rc<ClickPath>,
    lives: Rc<Lives>,
    waiting: Rc<Waiting>,
    limits: Limits,
) {
    let (mut reserve, mut complained) = (Reserve::new(), Complained::default());
    let mut taken = 0;
    loop {
        // What was lost to somebody else comes first: without it nobody can be turned away.
        reserve.fill();
        let next = poll_fn(|cx| {
            let polled = listener.poll_accept(cx);
            if polled.is_pending() {
                taken = 0;
                waiting.nobody();
            }
            polled
        });
        match next.await {
            Ok((stream, peer)) => {
                let mut room = lives.room(limits.connections);
                while room == Room::Soon {
                    waiting.somebody();
                    yield_now().await;
                    room = lives.room(limits.connections);
                }
                if room == Room::Here {
                    let open = Open::new(lives.begin(), path.clone());
                    spawn_local(serve(stream, peer, open, limits));
                } else {
                    turn_away(stream, &path);
                }
            }
            Err(error) if out_of_descriptors(&error) => {
                reserve.complain(&error);
                if lives.make_room() {
                    // It goes when its turn comes, and its descriptor with it.
                    yield_now().await;
                } else if !reserve.turn_one_away(&listener, &path).await {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            // Others wait.
            Err(error) if gone_before(&error) => {}
            Err(error) => {
                if complained.is_due(Instant::now()) {
                    tracing::error!(%error, "nothing can be accepted; trying again");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        taken += 1;
        if taken >= AT_ONCE {
            taken = 0;
            waiting.somebody();
            yield_now().await;
        }
    }
}

fn turn_away(stream: TcpStream, path: &ClickPath) {
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

/// Whether the connection broke before it was taken, as Linux says in many ways (accept(2)).
fn gone_before(error: &io::Error) -> bool {
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

/// When something was said that would otherwise be said again and again.
#[derive(Default)]
struct Complained(Option<Instant>);

impl Complained {
    /// Whether to say it at `now`, which is taken for done then.
    fn is_due(&mut self, now: Instant) -> bool {
        let lately = |last| now.saturating_duration_since(last) < COMPLAIN_EVERY;
        let due = !self.0.is_some_and(lately);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

/// A descriptor that is given up to accept a connection that has to be turned away: without it the
/// connection would wait, and wake us again and again.
struct Reserve {
    file: Option<File>,
    complained: Complained,
}

impl Reserve {
    fn new() -> Self {
        Self {
            file: File::open("/dev/null").ok(),
            complained: Complained::default(),
        }
    }

    /// False when there was no reserve, or nobody to turn away.
    async fn turn_one_away(&mut self, listener: &TcpListener, path: &ClickPath) -> bool {
        if self.file.take().is_none() {
            self.fill();
            return false;
        }
        let accepted = poll_fn(|cx| match listener.poll_accept(cx) {
            Poll::Ready(Ok((stream, _))) => Poll::Ready(Some(stream)),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
        });
        let accepted = accepted.await;
        let anybody = accepted.is_some();
        if let Some(stream) = accepted {
            turn_away(stream, path);
        }
        self.fill();
        anybody
    }

    /// Somebody else in the process may have been faster to take what was given up.
    fn fill(&mut self) {
        if self.file.is_none() {
            self.file = File::open("/dev/null").ok();
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_due(Instant::now()) {
            tracing::error!(
                %error,
                "connections are shed since no more can be opened; raise the limit of open files"
            );
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, open: Open, limits: Limits) {
    let life = &open.place.life;
    match connection::serve(stream, peer, &open.path, life, limits).await {
        Ok(()) => {}
        Err(Ended::Refused(refusal)) => open.path.metrics().refused(refusal),
        Err(Ended::Idle) => {}
        Err(Ended::MadeRoom) => open.path.metrics().shed(Shed::IdleConnection),
    }
}

/// Counts a connection for as long as it lives.
struct Open {
    place: Place,
    path: Rc<ClickPath>,
}

impl Open {
    fn new(place: Place, path: Rc<ClickPath>) -> Self {
        path.metrics().connections.inc();
        Self { place, path }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.path.metrics().connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_said_now_and_then() {
        let (mut complained, start) = (Complained::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let said: Vec<u64> = (0..25).filter(|it| complained.is_due(at(*it))).collect();
        assert_eq!(said, [0, 10, 20]);
    }
}
