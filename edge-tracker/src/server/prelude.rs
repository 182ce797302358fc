//! The first bytes of a connection: an optional PROXY protocol header, then HTTP/1.1 or HTTP/2.

use super::frames::PREFACE;
use super::watched::Watched;
use crate::refusal::Refusal;
use crate::visitor::address::proxy::{self, Parsed};
use bytes::{Buf, BytesMut};
use std::net::{IpAddr, SocketAddr};
use tokio::io::AsyncReadExt;

/// What the first bytes said.
#[derive(Debug)]
pub(super) struct Prelude {
    /// Who is at the other end, as far as it can be believed.
    pub(super) peer: IpAddr,
    /// Whether HTTP/2 follows.
    pub(super) http2: bool,
    /// Bytes that were read but belong to HTTP.
    pub(super) rest: BytesMut,
}

/// Reads only as much as is needed to tell; `None` when the client left without a request.
pub(super) async fn read(
    stream: &mut Watched,
    peer: SocketAddr,
    expects_proxy_header: bool,
) -> Result<Option<Prelude>, Refusal> {
    let mut rest = BytesMut::new();
    let mut client = peer.ip();
    if expects_proxy_header {
        match read_proxy_header(stream, &mut rest).await? {
            Some(Some(source)) => client = source.ip(),
            Some(None) => {}
            None => return Ok(None),
        }
        if rest.is_empty() {
            stream.nothing_asked();
        }
    }
    loop {
        let seen = rest.len().min(PREFACE.len());
        let http2 = rest[..seen] == PREFACE[..seen];
        if !rest.is_empty() && (!http2 || seen == PREFACE.len()) {
            return Ok(Some(Prelude {
                peer: client,
                http2,
                rest,
            }));
        }
        if !more(stream, &mut rest).await? {
            return if rest.is_empty() {
                Ok(None)
            } else {
                Err(Refusal::ConnectionBroken)
            };
        }
    }
}

async fn read_proxy_header(
    stream: &mut Watched,
    bytes: &mut BytesMut,
) -> Result<Option<Option<SocketAddr>>, Refusal> {
    loop {
        match proxy::parse(bytes).map_err(|_| Refusal::BadProxyHeader)? {
            Parsed::Done { source, len } => {
                bytes.advance(len);
                return Ok(Some(source));
            }
            Parsed::Incomplete if more(stream, bytes).await? => {}
            // Load balancers probe by connecting and leaving.
            Parsed::Incomplete if bytes.is_empty() => return Ok(None),
            Parsed::Incomplete => return Err(Refusal::BadProxyHeader),
        }
    }
}

async fn more(stream: &mut Watched, bytes: &mut BytesMut) -> Result<bool, Refusal> {
    bytes.reserve(1_024);
    match stream.read_buf(bytes).await {
        Ok(0) => Ok(false),
        Ok(_) => Ok(true),
        Err(_) => Err(Refusal::ConnectionBroken),
    }
}
