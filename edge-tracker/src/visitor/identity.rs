//! The visitor id: SipHash-2-4 of address and user agent under a key that rotates. SipHash (Aumasson and Bernstein,
//! 2012) reveals nothing about its input without the key.
//!
//! The key of a period follows from the [visitor salt](super::salt) and cannot be computed once the period
//! after it has ended. Cookies never belong here.

use super::salt::PeriodKeys;
use arc_swap::{ArcSwap, Cache};
use domain::{Micros, VisitorId};
use siphasher::sip::SipHasher24;
use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The hash of a user agent, computed once per distinct string before it is hashed with addresses: agents are long
/// and few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentDigest([u8; 16]);

impl AgentDigest {
    /// The digest of `agent`, cut to its limit.
    #[must_use]
    pub fn of(agent: &str) -> Self {
        Self(first_half(blake3::hash(agent.as_bytes())))
    }
}

/// A visitor's ids under the current and the previous salt.
///
/// When the salt rotates, a visitor of five minutes ago gets another id. A visit found under either id is a repeat,
/// so that the rotation makes no visitor unique again; only `current` is ever logged or remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisitorIds {
    /// The id in the period of the visit.
    pub current: VisitorId,
    /// The same visitor's id in the previous period.
    pub previous: PreviousId,
    /// The start of the visit's period: before it only `previous` can have been remembered.
    pub since: Micros,
}

/// A visitor's id in the previous period; computed on demand, because most visits don't need it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PreviousId {
    /// Computed already.
    Computed(VisitorId),
    /// To be computed.
    Deferred {
        /// The period's key.
        key: [u8; 16],
        /// The input of the hash.
        message: [u8; MESSAGE_BYTES],
    },
}

/// The bytes of an address and an agent's digest.
const MESSAGE_BYTES: usize = 16 + 16;

impl PreviousId {
    /// The id.
    #[must_use]
    pub fn get(&self) -> VisitorId {
        match self {
            Self::Computed(id) => *id,
            Self::Deferred { key, message } => id_of(key, message),
        }
    }
}

impl fmt::Debug for PreviousId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PreviousId").field(&self.get()).finish()
    }
}

/// Derives visitor ids; each worker has its own instance, and all nodes with the same salt agree.
#[derive(Clone)]
pub struct Identity {
    keys: Cache<Arc<ArcSwap<PeriodKeys>>, Arc<PeriodKeys>>,
}

/// The keys for one time.
struct KeysAt {
    current: [u8; 16],
    previous: [u8; 16],
    since: Micros,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// Derives ids with the keys in `keys`, which are replaced at each rotation.
    #[must_use]
    pub fn new(keys: Arc<ArcSwap<PeriodKeys>>) -> Self {
        Self {
            keys: Cache::new(keys),
        }
    }

    /// Derives ids with keys that never change.
    #[must_use]
    pub fn fixed(keys: PeriodKeys) -> Self {
        Self::new(Arc::new(ArcSwap::from_pointee(keys)))
    }

    /// The ids of a visitor with `address` and `agent`, truncated to its limit, at `now`.
    #[must_use]
    pub fn ids(&mut self, now: Micros, address: IpAddr, agent: &str) -> VisitorIds {
        self.ids_of(now, address, &AgentDigest::of(agent))
    }

    /// The same for a known digest of the agent: a third of the time.
    ///
    /// A household's IPv6 addresses change hourly within its /64, so only those 64 bits count; an IPv4 address counts
    /// completely, also when it is mapped into IPv6.
    #[must_use]
    pub fn ids_of(&mut self, now: Micros, address: IpAddr, agent: &AgentDigest) -> VisitorIds {
        let keys = KeysAt::of(self.keys.load(), now);
        let mut message = [0; MESSAGE_BYTES];
        message[..16].copy_from_slice(&household_of(address));
        message[16..].copy_from_slice(&agent.0);
        VisitorIds {
            current: id_of(&keys.current, &message),
            previous: PreviousId::Deferred {
                key: keys.previous,
                message,
            },
            since: keys.since,
        }
    }
}

impl KeysAt {
    /// The keys for `now`. The time of the visit decides, not the moment at which the keys are replaced: keys of the
    /// next period exist before it begins, and the previous one is kept for clocks that are slightly behind. A time
    /// further away gets the nearest keys.
    fn of(keys: &PeriodKeys, now: Micros) -> Self {
        let index = now.0 / keys.period_micros;
        let before = keys.previous.unwrap_or(keys.current);
        let (period, current, previous) = match index.cmp(&keys.period) {
            Ordering::Equal => (keys.period, keys.current, before),
            Ordering::Greater => (keys.period.saturating_add(1), keys.next, keys.current),
            Ordering::Less => (keys.period - 1, before, before),
        };
        Self {
            current: current.0,
            previous: previous.0,
            since: Micros(period.saturating_mul(keys.period_micros)),
        }
    }
}

fn household_of(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

fn id_of(key: &[u8; 16], message: &[u8; MESSAGE_BYTES]) -> VisitorId {
    VisitorId(SipHasher24::new_with_key(key).hash(message))
}

fn first_half(hash: blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::super::salt::{Ratchet, SaltState};
    use super::*;

    const HOUR: u64 = 3_600_000_000;
    const DAY: u64 = 24 * HOUR;
    const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

    fn ratchet(secret: u8, period: u64) -> Ratchet {
        let mut ratchet = Ratchet::new(DAY, 0, SaltState([secret; 32]));
        ratchet.advance_to(period);
        ratchet
    }

    fn identity(secret: u8, period: u64) -> Identity {
        Identity::fixed(ratchet(secret, period).keys())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn id_is_known_in_its_period_and_the_next() {
        let home = ip("192.0.2.7");
        let mut today = identity(1, 10);
        let morning = today.ids(Micros(240 * HOUR), home, AGENT);
        let evening = today.ids(Micros(264 * HOUR - 1), home, AGENT);
        assert_eq!(morning, evening);
        assert_eq!(morning.since, Micros(240 * HOUR));
        let midnight = today.ids(Micros(264 * HOUR), home, AGENT);
        let mut tomorrow = identity(1, 11);
        let next_day = tomorrow.ids(Micros(264 * HOUR), home, AGENT);
        assert_eq!(
            midnight, next_day,
            "the rotation does not wait for the replacement"
        );
        assert_eq!(next_day.since, Micros(264 * HOUR));
        assert_eq!(next_day.previous.get(), morning.current);
        assert_ne!(next_day.current, morning.current);
        let behind = tomorrow.ids(Micros(264 * HOUR - 1), home, AGENT);
        assert_eq!(
            (behind.current, behind.since),
            (morning.current, morning.since)
        );
        let after = identity(1, 12).ids(Micros(288 * HOUR), home, AGENT);
        assert_ne!(after.previous.get(), morning.current);
    }

    #[test]
    fn nodes_agree_only_with_equal_salts() {
        let now = Micros(10 * DAY);
        let ids = |secret| identity(secret, 10).ids(now, ip("192.0.2.7"), AGENT);
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1).current, ids(2).current);
    }

    #[test]
    fn households_and_agents_are_distinguished() {
        let mut identity = identity(1, 0);
        let mut id = |address, agent| identity.ids(Micros(HOUR), ip(address), agent).current;
        assert_eq!(
            id("2001:db8:1:2::1", AGENT),
            id("2001:db8:1:2:ffff::9", AGENT)
        );
        assert_ne!(id("2001:db8:1:2::1", AGENT), id("2001:db8:1:3::1", AGENT));
        assert_ne!(id("192.0.2.1", AGENT), id("192.0.2.2", AGENT));
        assert_ne!(id("192.0.2.1", AGENT), id("192.0.2.1", "curl/8.0"));
        assert_eq!(id("192.0.2.1", AGENT), id("::ffff:192.0.2.1", AGENT));
    }

    #[test]
    fn ids_are_the_same_in_every_build() {
        // Nodes of different builds must agree, or the same visitor is unique on each.
        let ids = identity(7, 20).ids(Micros(20 * DAY + 5), ip("203.0.113.9"), AGENT);
        let expected = (
            VisitorId(9_206_749_515_304_710_056),
            VisitorId(16_693_201_319_238_599_159),
        );
        assert_eq!((ids.current, ids.previous.get()), expected);
        assert_eq!(ids.since, Micros(20 * DAY));
    }
}
