//! Ports for servers that can't choose one themselves, or have to come back to theirs.
//!
//! A port that the system chose is free for all again as soon as it is known, and the system draws
//! from few thousands: of a dozen servers that start side by side some would find theirs taken. So
//! these lie below those that the system draws from, and none is given twice.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::Mutex;

/// Below it are ports that services have by custom.
const FIRST: u16 = 10_000;
/// Where the ports that the system draws from begin, when it does not say.
const DRAWN_FROM: u16 = 32_768;
/// Fewer than these are not worth walking through.
const ENOUGH: usize = 1_000;

/// The port given last.
static LAST: Mutex<Option<u16>> = Mutex::new(None);

/// A port of 127.0.0.1 that nobody has, neither for TCP nor for UDP, and that no other call in this
/// process is given. (Where the system draws from nearly all ports, one that it draws.)
///
/// # Errors
/// When all are taken.
pub fn free_port() -> io::Result<u16> {
    let mut last = LAST
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let range = FIRST..drawn_from();
    if range.len() < ENOUGH {
        return drawn();
    }
    let port = next_free(&range, *last, is_free).ok_or(io::ErrorKind::AddrInUse)?;
    *last = Some(port);
    Ok(port)
}

/// The next in `range` after `last` that `is_free`, from the beginning again after the end. With no
/// last one it begins anywhere, so that processes side by side are given different ones.
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

/// The first port that the system draws from for connections and for those who ask for any.
fn drawn_from() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(DRAWN_FROM)
}

fn drawn() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

#[cfg(test)]
mod tests {
    use super::{drawn_from, free_port, next_free};
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    #[test]
    fn no_port_is_given_twice_nor_drawn_by_the_system() {
        let given: Vec<u16> = std::thread::scope(|scope| {
            let some = || Vec::from_iter((0..100).map(|_| free_port().expect("one is free")));
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(some)).collect();
            let ended = threads
                .into_iter()
                .map(|thread| thread.join().expect("ended"));
            ended.flatten().collect()
        });
        let distinct: BTreeSet<u16> = given.iter().copied().collect();
        assert_eq!(distinct.len(), given.len(), "{given:?}");
        assert!(given.iter().all(|port| *port < drawn_from()), "{given:?}");
    }

    #[test]
    fn a_port_that_somebody_has_is_passed_over() {
        let held = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = held.local_addr().expect("bound").port();
        assert_eq!(
            next_free(&(port..port + 1), None, super::is_free),
            None,
            "it is taken"
        );
    }

    #[test]
    fn the_search_goes_round_once() {
        let range = 10..14;
        assert_eq!(next_free(&range, Some(10), |_| true), Some(11));
        assert_eq!(next_free(&range, Some(13), |_| true), Some(10));
        assert_eq!(next_free(&range, Some(12), |port| port == 12), Some(12));
        assert_eq!(next_free(&range, Some(10), |_| false), None);
        let anywhere = next_free(&range, None, |_| true);
        assert!(anywhere.is_some_and(|port| range.contains(&port)));
    }
}
