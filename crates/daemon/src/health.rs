//! The health of a running daemon, asked at its admin address: for container health checks and operators.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;
use thiserror::Error;

/// The limit for connecting, for writing the request and for each read of the response.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The limit of a response; reasons are a few lines.
const MAX_RESPONSE_BYTES: u64 = 16 * 1024;

/// The question to a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Does the process run?
    Live,
    /// Does it do all of its work?
    Ready,
}

/// A daemon that is not healthy.
#[derive(Debug, Error)]
pub enum Unhealthy {
    /// There is no usable response.
    #[error(
        "{address} does not respond ({error}): is the daemon running, with the same admin address?"
    )]
    NoResponse {
        /// The admin address.
        address: SocketAddr,
        /// The reason.
        #[source]
        error: io::Error,
    },
    /// The configured port is 0.
    #[error(
        "the admin address has port 0, which the system replaces at each start: set a fixed port"
    )]
    UnknownPort,
    /// The daemon's own words: "not ready: " and the reasons.
    #[error("{}", .0.replace('\n', "; "))]
    NotReady(String),
}

/// Asks the daemon whose admin server listens on `listen`.
///
/// # Errors
/// When the daemon does not respond, or is not ready.
pub fn ask(listen: SocketAddr, question: Question) -> Result<(), Unhealthy> {
    if listen.port() == 0 {
        return Err(Unhealthy::UnknownPort);
    }
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    let response =
        get(address, question).map_err(|error| Unhealthy::NoResponse { address, error })?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some("503") => Err(Unhealthy::NotReady(body.trim().to_owned())),
        _ => {
            let error = io::Error::other("the response is not of an admin server");
            Err(Unhealthy::NoResponse { address, error })
        }
    }
}

/// An address of this machine for one that means all addresses.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn get(address: SocketAddr, question: Question) -> io::Result<String> {
    let path = match question {
        Question::Live => "/healthz",
        Question::Ready => "/readyz",
    };
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
    // The admin server ends the connection after its only response.
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{Question, Unhealthy, ask};
    use crate::admin;
    use prometheus::Registry;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

    async fn ask_there(address: SocketAddr, question: Question) -> Result<(), Unhealthy> {
        let asked = tokio::task::spawn_blocking(move || ask(address, question));
        asked.await.expect("no panic")
    }

    #[tokio::test]
    async fn health_follows_the_daemons_readiness() {
        let is_ready = Arc::new(AtomicBool::new(false));
        let ready = {
            let is_ready = Arc::clone(&is_ready);
            move || match is_ready.load(Ordering::SeqCst) {
                true => Ok(()),
                false => Err("the disk is full\nno aggregator".to_owned()),
            }
        };
        let serving = admin::serve(ANY_PORT, Registry::new(), ready, |_| None);
        // It listens on all addresses, and is asked at this machine's own.
        let address = serving.await.expect("serving");
        ask_there(address, Question::Live).await.expect("live");
        let unready = ask_there(address, Question::Ready).await;
        let message = unready.expect_err("not ready").to_string();
        assert_eq!(message, "not ready: the disk is full; no aggregator");
        is_ready.store(true, Ordering::SeqCst);
        ask_there(address, Question::Ready).await.expect("ready");
    }

    #[tokio::test]
    async fn absent_and_silent_daemons_are_unhealthy() {
        let unknown = ask_there(ANY_PORT, Question::Live).await;
        assert!(
            matches!(unknown, Err(Unhealthy::UnknownPort)),
            "{unknown:?}"
        );
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let address = silent.local_addr().expect("bound");
        let unanswered = ask_there(address, Question::Ready).await;
        assert!(
            matches!(unanswered, Err(Unhealthy::NoResponse { .. })),
            "{unanswered:?}"
        );
        drop(silent);
        let absent = ask_there(address, Question::Ready).await;
        assert!(
            matches!(absent, Err(Unhealthy::NoResponse { .. })),
            "{absent:?}"
        );
    }
}
