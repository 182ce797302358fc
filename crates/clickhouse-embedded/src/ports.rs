//! Free ports for servers that can't choose one themselves, or must return to their previous one.
//!
//! A port chosen by the system is free again once it is known, and the system chooses from a few
//! thousand: of a dozen servers that start concurrently some would find their port in use. These ports
//! lie below the ephemeral range, and none is returned twice.

use parking_lot::Mutex;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;

/// Lower ports are used by well-known services.
const FIRST_PORT: u16 = 10_000;
/// The start of the ephemeral range when the system does not report it.
const DEFAULT_EPHEMERAL_START: u16 = 32_768;
/// The minimum size of the range to be searched.
const MIN_RANGE_PORTS: usize = 1_000;

/// The last returned port.
static LAST_PORT: Mutex<Option<u16>> = Mutex::new(None);

/// A port of 127.0.0.1 that is free for TCP and UDP and that no other call in this process returns. If
/// the ephemeral range includes nearly all ports, the system chooses the port.
///
/// # Errors
/// When all ports are in use.
pub fn free_port() -> io::Result<u16> {
    let mut last = LAST_PORT.lock();
    let range = FIRST_PORT..ephemeral_start();
    if range.len() < MIN_RANGE_PORTS {
        return system_port();
    }
    let port = next_free(&range, *last, is_free).ok_or(io::ErrorKind::AddrInUse)?;
    *last = Some(port);
    Ok(port)
}

/// The next port in `range` after `last` that `is_free`; the search wraps around at the end. Without
/// `last` it starts at a random port, so that concurrent processes get different ports.
fn next_free(range: &Range<u16>, last: Option<u16>, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    let begin = match last {
        Some(last) => usize::from(last.saturating_sub(range.start)) + 1,
        None => RandomState::new().hash_one(()) as usize % range.len(),
    };
    let mut ports = range.clone().cycle().skip(begin).take(range.len());
    ports.find(|port| is_free(*port))
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

/// The first port of the ephemeral range.
fn ephemeral_start() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(DEFAULT_EPHEMERAL_START)
}

fn system_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

#[cfg(test)]
mod tests {
    use super::{ephemeral_start, free_port, next_free};
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    #[test]
    fn ports_are_distinct_and_below_the_ephemeral_range() {
        let ports: Vec<u16> = std::thread::scope(|scope| {
            let some = || Vec::from_iter((0..100).map(|_| free_port().expect("free port")));
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(some)).collect();
            let ended = threads
                .into_iter()
                .map(|thread| thread.join().expect("ended"));
            ended.flatten().collect()
        });
        let distinct: BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), ports.len(), "{ports:?}");
        assert!(
            ports.iter().all(|port| *port < ephemeral_start()),
            "{ports:?}"
        );
    }

    #[test]
    fn used_port_is_skipped() {
        let held = TcpListener::bind(("127.0.0.1", 0)).expect("free port");
        let port = held.local_addr().expect("bound").port();
        assert_eq!(
            next_free(&(port..port + 1), None, super::is_free),
            None,
            "the port is in use"
        );
    }

    #[test]
    fn search_wraps_around_once() {
        let range = 10..14;
        assert_eq!(next_free(&range, Some(10), |_| true), Some(11));
        assert_eq!(next_free(&range, Some(13), |_| true), Some(10));
        assert_eq!(next_free(&range, Some(12), |port| port == 12), Some(12));
        assert_eq!(next_free(&range, Some(10), |_| false), None);
        let anywhere = next_free(&range, None, |_| true);
        assert!(anywhere.is_some_and(|port| range.contains(&port)));
    }
}
