//! Finds the client's address, and truncates it for storage.
//!
//! Headers count only as far as trusted proxies wrote them. The meaning of an address (location, visitor) never belongs
//! here.

pub mod proxy;

use http::{HeaderName, header};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

/// The maximum number of hops that are followed.
const MAX_HOPS: usize = 32;
/// The maximum number of header bytes that are parsed.
const MAX_HEADER_BYTES: usize = 4 * 1024;

/// How much of an address is stored with an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressStorage {
    /// The network: /24 of IPv4, /48 of IPv6; the rest is zero.
    #[default]
    Truncated,
    /// All of it.
    Full,
}

/// The header in which trusted proxies write the client's address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239).
    #[serde(rename = "forwarded")]
    Forwarded,
}

/// Finds the client's address behind the proxies that are trusted.
#[derive(Debug, Default)]
pub struct ClientAddress {
    trusted: Vec<IpNet>,
    header: ForwardedHeader,
    /// Whether an untrusted proxy was logged.
    warned: AtomicBool,
}

/// The network of an address: a /24 of IPv4, a /48 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network([u8; 16]);

impl Network {
    /// The network that `address` is in.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(store(address, AddressStorage::Truncated))
    }
}

/// `address` as an event stores it, IPv4 mapped into IPv6.
#[must_use]
pub fn store(address: IpAddr, storage: AddressStorage) -> [u8; 16] {
    let mut octets = match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    if storage == AddressStorage::Truncated {
        let kept = network_bytes(&octets);
        octets[kept..].fill(0);
    }
    octets
}

/// The number of network bytes of an address. For an embedded IPv4 address, its last byte and all that follows belong
/// to the host.
fn network_bytes(octets: &[u8; 16]) -> usize {
    const IPV4: usize = 3;
    match octets {
        // IPv4-mapped (RFC 4291, section 2.5.5.2) and NAT64 (RFC 6052, section 2.1).
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..]
        | [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, ..] => 12 + IPV4,
        // 6to4 (RFC 3056, section 2).
        [0x20, 0x02, ..] => 2 + IPV4,
        _ => 6,
    }
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED: HeaderName = header::FORWARDED;

impl ClientAddress {
    /// Accepts `header` from peers within `trusted`; without ranges, from no peer.
    #[must_use]
    pub fn new(trusted: Vec<IpNet>, header: ForwardedHeader) -> Self {
        Self {
            trusted,
            header,
            warned: AtomicBool::new(false),
        }
    }

    /// Whether `address` is a trusted proxy's.
    #[must_use]
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|range| range.contains(&address))
    }

    /// The forwarding header.
    #[must_use]
    pub fn header(&self) -> &'static HeaderName {
        match self.header {
            ForwardedHeader::XForwardedFor => &X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => &FORWARDED,
        }
    }

    /// The client's address: the right-most one that is not a trusted proxy's, starting from
    /// `peer`; `lines` are those of [`header`](Self::header), the last one first.
    ///
    /// Each proxy appends its client, so the header is read from the right and from the last line, and ends at anything
    /// that is not an address (`unknown`, `_hidden`, garbage): everything left of it may be forged by the visitor. The
    /// result is then the last valid address.
    #[must_use]
    pub fn resolve<'l>(&self, peer: IpAddr, mut lines: impl Iterator<Item = &'l [u8]>) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.is_trusted(client) {
            if self.trusted.is_empty() && lines.next().is_some() {
                self.warn_of_proxy(client);
            }
            return client;
        }
        let mut budget = MAX_HEADER_BYTES;
        let elements = lines.flat_map(|line| Elements { rest: Some(line) });
        for element in elements.take(MAX_HOPS) {
            let Some(left) = budget.checked_sub(element.len()) else {
                break;
            };
            budget = left;
            let Some(address) = self.address_in(element) else {
                break;
            };
            client = address;
            if !self.is_trusted(client) {
                break;
            }
        }
        client
    }

    /// A private peer with a forwarding header is most likely a proxy: without a warning all its visitors would have its
    /// address, and count as one.
    fn warn_of_proxy(&self, peer: IpAddr) {
        if is_internal(peer) && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                header = %self.header(),
                "a private peer sends a forwarding header, but http.trusted_proxies is empty: all its visitors count as \
                 one; if it is a proxy of yours, name it in http.trusted_proxies (docs/proxies.md)"
            );
        }
    }

    fn address_in(&self, element: &[u8]) -> Option<IpAddr> {
        let element = std::str::from_utf8(element).ok()?.trim();
        match self.header {
            ForwardedHeader::XForwardedFor => parse_node(element),
            ForwardedHeader::Forwarded => parse_node(forwarded_for(element)?),
        }
    }
}

/// Whether the address is internal, so that no external visitor has it.
pub(crate) fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => it.is_private() || it.is_loopback() || it.is_link_local(),
        IpAddr::V6(it) => it.is_unique_local() || it.is_loopback() || it.is_unicast_link_local(),
    }
}

/// A header line's elements from the right, split at commas outside of quotes.
struct Elements<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.rest?;
        // From the right, so that a quote left open by the visitor can't hide a proxy's addition. Only up to the limit,
        // so that a long line costs no more than a short one.
        let mut quoted = false;
        let from = line.len().saturating_sub(MAX_HEADER_BYTES + 1);
        for (at, byte) in line.iter().enumerate().skip(from).rev() {
            match byte {
                b'"' if !is_escaped(&line[..at]) => quoted = !quoted,
                b',' if !quoted => {
                    self.rest = Some(&line[..at]);
                    return Some(&line[at + 1..]);
                }
                _ => {}
            }
        }
        self.rest = None;
        Some(line)
    }
}

/// Whether a quote is escaped: whether an odd number of backslashes precedes it.
fn is_escaped(before: &[u8]) -> bool {
    let slashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    slashes.count() % 2 == 1
}

/// The value of `for` in an element of `Forwarded`, without quotes; none when a quote is left open.
///
/// Proxies quote values of visitors (`host="…"`), so nothing within quotes may be parsed as a pair.
fn forwarded_for(element: &str) -> Option<&str> {
    let (mut rest, mut found) = (Some(element), None);
    while let Some(text) = rest {
        let (pair, later) = first_pair(text)?;
        rest = later;
        let Some((name, value)) = pair.split_once('=') else {
            continue;
        };
        let value = value.trim();
        let bare = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        if found.is_none() && name.trim().eq_ignore_ascii_case("for") {
            found = Some(bare.unwrap_or(value));
        }
    }
    found
}

/// `text` up to the first semicolon outside of quotes, and the remainder; none when a quote is left open.
fn first_pair(text: &str) -> Option<(&str, Option<&str>)> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => return Some((&text[..at], Some(&text[at + 1..]))),
            _ => {}
        }
    }
    (!quoted).then_some((text, None))
}

/// An address, alone or with a port; IPv6 bare or in brackets.
fn parse_node(node: &str) -> Option<IpAddr> {
    let bracketed = |node: &str| {
        let inner = node.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let address = node
        .parse::<IpAddr>()
        .ok()
        .or_else(|| node.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| bracketed(node))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests;
