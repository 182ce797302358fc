//! Parses the PROXY protocol, versions 1 and 2, with which a TCP load balancer reports its client.
//!
//! A pure function of bytes; sockets and trust in peers never belong here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use thiserror::Error;

/// The longest accepted header: address and extensions of version 2.
pub const MAX_HEADER_BYTES: usize = 1024;

/// The longest line of version 1 the protocol allows, CR LF included.
const MAX_LINE_BYTES: usize = 107;
const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// The result of parsing the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A possible start of a header; parse again with more bytes.
    Incomplete,
    /// A complete header.
    Done {
        /// The client, or none for the balancer's own checks and unknown protocols.
        source: Option<SocketAddr>,
        /// The length of the header; the request follows.
        len: usize,
    },
}

/// Why the first bytes are no header; the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProxyError {
    /// Neither version's signature.
    #[error("no PROXY header; enable the PROXY protocol on the load balancer or disable it here")]
    NotProxy,
    /// Above [`MAX_HEADER_BYTES`], or a line of version 1 above 107 bytes.
    #[error("the PROXY header is too long")]
    TooLong,
    /// The signature is valid, the remainder is not.
    #[error("the PROXY header is malformed")]
    Malformed,
}

/// Parses the header at the start of `bytes`, of either version.
///
/// # Errors
/// When `bytes` is neither a header nor the start of one.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let begins = |signature: &[u8]| {
        let common = bytes.len().min(signature.len());
        bytes[..common] == signature[..common]
    };
    if begins(V1) {
        return if bytes.len() < V1.len() {
            Ok(Parsed::Incomplete)
        } else {
            parse_v1(bytes)
        };
    }
    if begins(V2) {
        return if bytes.len() < V2_FIXED {
            Ok(Parsed::Incomplete)
        } else {
            parse_v2(bytes)
        };
    }
    Err(ProxyError::NotProxy)
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let line = &bytes[..bytes.len().min(MAX_LINE_BYTES)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        let full = line.len() == MAX_LINE_BYTES;
        return if full {
            Err(ProxyError::TooLong)
        } else {
            Ok(Parsed::Incomplete)
        };
    };
    let text = std::str::from_utf8(&line[V1.len()..end]).map_err(|_| ProxyError::Malformed)?;
    let source = v1_source(text).ok_or(ProxyError::Malformed)?;
    Ok(Parsed::Done {
        source,
        len: end + 2,
    })
}

/// The source in `TCP4 source destination port port`; none within for `UNKNOWN …`.
fn v1_source(text: &str) -> Option<Option<SocketAddr>> {
    let mut words = text.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (source, destination) = match family {
        "TCP4" => {
            let mut next = || words.next()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
            (next()?, next()?)
        }
        "TCP6" => {
            let mut next = || words.next()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
            (next()?, next()?)
        }
        _ => return None,
    };
    let port = words.next()?.parse::<u16>().ok()?;
    words.next()?.parse::<u16>().ok()?;
    let alone = words.next().is_none() && source.is_ipv4() == destination.is_ipv4();
    alone.then_some(Some(SocketAddr::new(source.to_canonical(), port)))
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let (version_command, family) = (bytes[12], bytes[13]);
    let len = V2_FIXED + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if version_command >> 4 != 2 || version_command & 15 > 1 {
        return Err(ProxyError::Malformed);
    }
    if len > MAX_HEADER_BYTES {
        return Err(ProxyError::TooLong);
    }
    let Some(body) = bytes.get(V2_FIXED..len) else {
        return Ok(Parsed::Incomplete);
    };
    let local = version_command & 15 == 0;
    let source = if local {
        None
    } else {
        v2_source(family, body)?
    };
    Ok(Parsed::Done { source, len })
}

/// The source of a connection by its family; none for local sockets and unspecified families.
fn v2_source(family: u8, body: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let socket = |ip: IpAddr, port: &[u8; 2]| {
        Some(SocketAddr::new(
            ip.to_canonical(),
            u16::from_be_bytes(*port),
        ))
    };
    let field = |from: usize, to: usize| body.get(from..to).ok_or(ProxyError::Malformed);
    match (family >> 4, family & 15) {
        (1, 1 | 2) => {
            let ip: [u8; 4] = array(field(0, 4)?)?;
            Ok(socket(
                ip.into(),
                &array(field(8, 12)?.get(..2).unwrap_or_default())?,
            ))
        }
        (2, 1 | 2) => {
            let ip: [u8; 16] = array(field(0, 16)?)?;
            Ok(socket(
                ip.into(),
                &array(field(32, 36)?.get(..2).unwrap_or_default())?,
            ))
        }
        (0 | 3, 0..=2) => Ok(None),
        _ => Err(ProxyError::Malformed),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ProxyError> {
    bytes.try_into().map_err(|_| ProxyError::Malformed)
}

#[cfg(test)]
mod tests;
