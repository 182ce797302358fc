//! The first bytes of a connection: an optional PROXY protocol header, then HTTP/1.1 or HTTP/2.

use super::activity::{ActivityTrackingStream, Transport};
use super::h2_frame_tracker::PREFACE;
use crate::refusal::Refusal;
use crate::visitor::address::proxy::{self, Parsed};
use bytes::{Buf, BytesMut};
use std::net::{IpAddr, SocketAddr};
use tokio::io::AsyncReadExt;

/// The result of protocol detection.
#[derive(Debug)]
pub(super) struct DetectedProtocol {
    /// The client's address, from a trusted PROXY header or the socket.
    pub(super) peer: IpAddr,
    /// Whether HTTP/2 follows.
    pub(super) http2: bool,
    /// Bytes that were read but belong to HTTP.
    pub(super) rest: BytesMut,
}

/// Reads only as many bytes as detection needs; `None` when the client closed without a request.
pub(super) async fn read<S: Transport>(
    stream: &mut ActivityTrackingStream<S>,
    peer: SocketAddr,
    expects_proxy_header: bool,
) -> Result<Option<DetectedProtocol>, Refusal> {
    let mut rest = BytesMut::new();
    let mut client = peer.ip();
    if expects_proxy_header {
        match read_proxy_header(stream, &mut rest).await? {
            Some(Some(source)) => client = source.ip(),
            Some(None) => {}
            None => return Ok(None),
        }
        if rest.is_empty() {
            stream.await_first_request();
        }
    }
    loop {
        let seen = rest.len().min(PREFACE.len());
        let http2 = rest[..seen] == PREFACE[..seen];
        if !rest.is_empty() && (!http2 || seen == PREFACE.len()) {
            return Ok(Some(DetectedProtocol {
                peer: client,
                http2,
                rest,
            }));
        }
        if !read_more(stream, &mut rest).await? {
            return if rest.is_empty() {
                Ok(None)
            } else {
                Err(Refusal::ConnectionBroken)
            };
        }
    }
}

async fn read_proxy_header<S: Transport>(
    stream: &mut ActivityTrackingStream<S>,
    bytes: &mut BytesMut,
) -> Result<Option<Option<SocketAddr>>, Refusal> {
    loop {
        match proxy::parse(bytes).map_err(|_| Refusal::BadProxyHeader)? {
            Parsed::Done { source, len } => {
                bytes.advance(len);
                return Ok(Some(source));
            }
            Parsed::Incomplete if read_more(stream, bytes).await? => {}
            // Load balancers probe by connecting and closing.
            Parsed::Incomplete if bytes.is_empty() => return Ok(None),
            Parsed::Incomplete => return Err(Refusal::BadProxyHeader),
        }
    }
}

async fn read_more<S: Transport>(
    stream: &mut ActivityTrackingStream<S>,
    bytes: &mut BytesMut,
) -> Result<bool, Refusal> {
    bytes.reserve(1_024);
    match stream.read_buf(bytes).await {
        Ok(0) => Ok(false),
        Ok(_) => Ok(true),
        Err(_) => Err(Refusal::ConnectionBroken),
    }
}
