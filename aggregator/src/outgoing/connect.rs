//! Connects to affiliates' servers. Names are resolved here, so that the address that was validated is the one
//! connected to. Of several addresses, one that accepts suffices (Happy Eyeballs, RFC 8305).

use super::egress_policy::may_reach;
use http::Uri;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower_service::Service;

/// The wait for a connection before the next address is tried as well.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The number of a name's addresses that are tried.
const MAX_ADDRESSES: usize = 8;

#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("the URL has no host")]
    NoHost,
    #[error("failed to look up {host}: {cause}")]
    Unknown { host: String, cause: io::Error },
    #[error("{host} has no public address and none in allowed_networks")]
    NotPublic { host: String },
    #[error("{address}: {cause}")]
    Refused {
        address: SocketAddr,
        cause: io::Error,
    },
}

/// The source of names' addresses.
#[derive(Clone)]
pub(super) enum Names {
    /// The system's resolver.
    System,
    /// A table for tests, with ports.
    #[cfg(test)]
    Fixed(Arc<std::collections::HashMap<&'static str, Vec<SocketAddr>>>),
}

/// Connects to permitted addresses.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) allowed: Arc<[IpNet]>,
    pub(super) names: Names,
}

type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, ConnectError>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let connector = self.clone();
        Box::pin(async move { connector.connect(&uri).await.map(TokioIo::new) })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri) -> Result<TcpStream, ConnectError> {
        let host = uri.host().ok_or(ConnectError::NoHost)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let usual = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let mut addresses = self
            .names
            .addresses(host, uri.port_u16().unwrap_or(usual))
            .await?;
        addresses.retain(|address| may_reach(address.ip(), &self.allowed));
        if addresses.is_empty() {
            return Err(ConnectError::NotPublic { host: host.into() });
        }
        first_to_connect(interleaved(addresses)).await
    }
}

impl Names {
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let found = match self {
            Self::System => lookup_host((host, port)).await.map(Iterator::collect),
            #[cfg(test)]
            Self::Fixed(names) => {
                let known = names.get(host).cloned();
                known.ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        };
        found.map_err(|cause| ConnectError::Unknown {
            host: host.into(),
            cause,
        })
    }
}

/// Alternates between address families, starting with that of the first address: one family may be unreachable.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|it| it.is_ipv6() == is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            ordered.truncate(MAX_ADDRESSES);
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// Tries one address after the other; a silent one does not delay the next.
async fn first_to_connect(addresses: Vec<SocketAddr>) -> Result<TcpStream, ConnectError> {
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failed = ConnectError::NoHost;
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(attempt(address));
        }
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failed = error,
                Some(Err(_)) => {}
                None => return Err(failed),
            },
            () = sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
        }
    }
}

async fn attempt(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let connected = TcpStream::connect(address).await;
    let stream = connected.map_err(|cause| ConnectError::Refused { address, cause })?;
    // A request is one small write.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_take_turns() {
        let of = |texts: &[&str]| -> Vec<SocketAddr> {
            let each = texts.iter().map(|it| it.parse().expect("address"));
            each.collect()
        };
        let (a, b, c) = ("[2001:db8::1]:80", "[2001:db8::2]:80", "[2001:db8::3]:80");
        let (d, e) = ("192.0.2.1:80", "192.0.2.2:80");
        assert_eq!(
            interleaved(of(&[a, b, c, d, e])),
            of(&[a, d, b, e, c]),
            "beginning with the resolver's first"
        );
        assert_eq!(interleaved(of(&[d, e, a])), of(&[d, a, e]));
        assert_eq!(interleaved(of(&[a; 20])), of(&[a; MAX_ADDRESSES]));
        assert_eq!(interleaved(Vec::new()), []);
    }
}
