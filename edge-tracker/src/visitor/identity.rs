//! The visitor id: SipHash-2-4 of address and user agent under a key that rotates. SipHash (Aumasson
//! and Bernstein, 2012) tells nothing about what was hashed to who has not the key.
//!
//! Salts live in memory alone and follow from the fleet's secret and the period, so that all nodes
//! agree on them and an id says nothing once the secret is gone. Cookies never belong here.

use siphasher::sip::SipHasher24;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use tracking_events::{Micros, VisitorId};

/// Separates these keys from every other use of the same secret.
const KEY_CONTEXT: &str = "FanzFiliate edge 2026-11 visitor id period key v1";

/// What a user agent string is hashed to before it is hashed with an address, once per distinct
/// string: agents are long and few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentDigest([u8; 16]);

impl AgentDigest {
    /// The digest of `agent`, cut to its limit.
    #[must_use]
    pub fn of(agent: &str) -> Self {
        Self(first_half(blake3::hash(agent.as_bytes())))
    }
}

/// A visitor under the salt of now and under the one before.
///
/// When the salt turns, a visitor of five minutes ago gets another id. Both are told, so that a
/// visit found under either is known for a repeat and the turn makes nobody unique anew; only
/// `current` is ever logged or remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The id in the period of the visit.
    pub current: VisitorId,
    /// The same visitor's id in the period before.
    pub previous: Previous,
    /// When the period of the visit began: before it only `previous` can have been remembered.
    pub since: Micros,
}

/// A visitor's id in the period before; made when asked for, which most visits don't.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Previous {
    /// Made already.
    Made(VisitorId),
    /// To be made of these.
    ToMake {
        /// The period's key.
        key: [u8; 16],
        /// What is hashed under it.
        message: [u8; MESSAGE],
    },
}

/// Address and agent's digest.
const MESSAGE: usize = 16 + 16;

impl Previous {
    /// The id.
    #[must_use]
    pub fn get(&self) -> VisitorId {
        match self {
            Self::Made(id) => *id,
            Self::ToMake { key, message } => id_of(key, message),
        }
    }
}

impl fmt::Debug for Previous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Previous").field(&self.get()).finish()
    }
}

/// Makes visitor ids; each worker has its own, and all of one secret agree.
#[derive(Clone)]
pub struct Identity {
    secret: [u8; 32],
    length: u64,
    keys: Keys,
}

/// The keys of the period last asked for.
#[derive(Clone)]
struct Keys {
    period: u64,
    current: [u8; 16],
    previous: [u8; 16],
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("period_micros", &self.length)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Ids under `secret`, which all nodes of a fleet share, with a salt that lasts for `period`
    /// (at least a microsecond; periods are counted from 1970 in UTC).
    #[must_use]
    pub fn new(secret: [u8; 32], period: Duration) -> Self {
        let length = u64::try_from(period.as_micros()).unwrap_or(u64::MAX).max(1);
        let keys = Keys::of(&secret, length, 0);
        Self {
            secret,
            length,
            keys,
        }
    }

    /// Who visits from `address` with `agent`, cut to its limit, at `now`.
    #[must_use]
    pub fn ids(&mut self, now: Micros, address: IpAddr, agent: &str) -> Ids {
        self.ids_of(now, address, &AgentDigest::of(agent))
    }

    /// The same for an agent whose digest is at hand: a third of the time.
    ///
    /// A home's IPv6 addresses change by the hour within its /64, so only those 64 bits count; an
    /// IPv4 address counts whole, written in IPv6 or not.
    #[must_use]
    pub fn ids_of(&mut self, now: Micros, address: IpAddr, agent: &AgentDigest) -> Ids {
        let index = now.0 / self.length;
        if self.keys.period != index {
            self.keys = Keys::of(&self.secret, self.length, index);
        }
        let keys = &self.keys;
        let mut message = [0; MESSAGE];
        message[..16].copy_from_slice(&home_of(address));
        message[16..].copy_from_slice(&agent.0);
        Ids {
            current: id_of(&keys.current, &message),
            previous: Previous::ToMake {
                key: keys.previous,
                message,
            },
            since: Micros(index * self.length),
        }
    }
}

impl Keys {
    fn of(secret: &[u8; 32], length: u64, period: u64) -> Self {
        Self {
            period,
            current: period_key(secret, length, period),
            previous: period_key(secret, length, period.wrapping_sub(1)),
        }
    }
}

fn period_key(secret: &[u8; 32], length: u64, period: u64) -> [u8; 16] {
    let key = blake3::Hasher::new_derive_key(KEY_CONTEXT)
        .update(secret)
        .update(&length.to_le_bytes())
        .update(&period.to_le_bytes())
        .finalize();
    first_half(key)
}

fn home_of(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

fn id_of(key: &[u8; 16], message: &[u8; MESSAGE]) -> VisitorId {
    VisitorId(SipHasher24::new_with_key(key).hash(message))
}

fn first_half(hash: blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000;
    const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

    fn identity(secret: u8) -> Identity {
        Identity::new([secret; 32], Duration::from_secs(24 * 3600))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_id_holds_for_its_period_and_is_the_previous_one_in_the_next() {
        let mut identity = identity(1);
        let home = ip("192.0.2.7");
        let morning = identity.ids(Micros(240 * HOUR), home, AGENT);
        let evening = identity.ids(Micros(264 * HOUR - 1), home, AGENT);
        let next_day = identity.ids(Micros(264 * HOUR), home, AGENT);
        assert_eq!(morning, evening);
        assert_eq!(morning.since, Micros(240 * HOUR));
        assert_eq!(next_day.since, Micros(264 * HOUR));
        assert_eq!(next_day.previous.get(), morning.current);
        assert_ne!(next_day.current, morning.current);
        let after = identity.ids(Micros(288 * HOUR), home, AGENT);
        assert_ne!(
            after.previous.get(),
            morning.current,
            "forgotten after two periods"
        );
        let back = identity.ids(Micros(240 * HOUR), home, AGENT);
        assert_eq!(back, morning, "a clock that goes back finds the same ids");
    }

    #[test]
    fn nodes_with_the_same_secret_agree_and_others_do_not() {
        let now = Micros(500_000 * HOUR);
        let ids = |secret| identity(secret).ids(now, ip("192.0.2.7"), AGENT);
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1).current, ids(2).current);
        let mut hourly = Identity::new([1; 32], Duration::from_secs(3600));
        assert_ne!(
            hourly.ids(now, ip("192.0.2.7"), AGENT).current,
            ids(1).current
        );
    }

    #[test]
    fn homes_and_agents_are_told_apart() {
        let mut identity = identity(1);
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
    fn the_id_is_fixed_for_ever() {
        // Nodes of different builds must agree, or the same visitor is unique on each.
        let ids = identity(7).ids(Micros(1_800_000_000_000_000), ip("203.0.113.9"), AGENT);
        let expected = (
            VisitorId(14_523_056_276_006_816_013),
            VisitorId(16_399_179_926_522_331_396),
        );
        assert_eq!((ids.current, ids.previous.get()), expected);
        assert_eq!(ids.since, Micros(1_799_971_200_000_000));
    }

    #[test]
    fn the_secret_is_not_in_debug_output() {
        assert!(!format!("{:?}", identity(0xab)).contains("171"));
    }
}
