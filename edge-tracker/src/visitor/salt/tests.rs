//! Nodes of a fleet: they agree across turns, restarts and joins, and no wrong clock separates them permanently.

use super::*;
use crate::visitor::identity::Identity;
use domain::VisitorId;
use std::net::{IpAddr, Ipv4Addr};

const DAY: u64 = 86_400_000_000;
const PERIOD: Duration = Duration::from_secs(86_400);
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

struct Node {
    directory: tempfile::TempDir,
    salt: VisitorSalt,
}

impl Node {
    fn start(now: u64) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let salt = open(directory.path(), now);
        Self { directory, salt }
    }

    fn restart(self, now: u64) -> Self {
        let salt = open(self.directory.path(), now);
        Self { salt, ..self }
    }

    /// The ids of one visitor now and in the period before.
    fn ids(&self, now: u64) -> (VisitorId, VisitorId) {
        let ids = Identity::new(self.salt.keys()).ids(Micros(now), HOME, "agent");
        (ids.current, ids.previous.get())
    }

    fn welcome(&self, fleet: &FleetSalt, now: u64) -> SaltAdoption {
        let adopted = self.salt.adopt(fleet, Some(Micros(now)));
        adopted.expect("writable")
    }

    fn turn(&self, now: u64) {
        self.salt.turn(Micros(now)).expect("writable");
    }
}

fn open(directory: &Path, now: u64) -> VisitorSalt {
    let file = directory.join("visitor-salt");
    VisitorSalt::open(&file, PERIOD, Some(Micros(now)), Micros(now)).expect("usable")
}

/// The aggregator's state of the fleet at a time.
fn fleet(now: u64) -> FleetSalt {
    fleet_of(9, now)
}

fn fleet_of(secret: u8, now: u64) -> FleetSalt {
    let mut ratchet = Ratchet::new(DAY, 100, SaltState([secret; 32]));
    ratchet.advance_to(now / DAY);
    FleetSalt {
        period_micros: DAY,
        period: ratchet.period(),
        state: ratchet.state().0,
    }
}

#[test]
fn nodes_agree_across_rotations_restarts_and_joins() {
    let now = 100 * DAY + 5;
    let (running, mut restarted) = (Node::start(now), Node::start(now));
    assert_ne!(
        running.ids(now),
        restarted.ids(now),
        "provisional salts differ"
    );
    for node in [&running, &restarted] {
        assert_eq!(node.welcome(&fleet(now), now), SaltAdoption::Adopted);
        assert_eq!(node.welcome(&fleet(now), now), SaltAdoption::Agreed);
    }
    assert_eq!(running.ids(now), restarted.ids(now));
    let today = running.ids(now).0;

    // The aggregator is unavailable at the end of the period: one node keeps running, the other restarts later.
    let tomorrow = now + DAY;
    running.turn(tomorrow);
    assert_eq!(running.ids(tomorrow).1, today, "recognised across the turn");
    let later = tomorrow + DAY;
    running.turn(later);
    restarted = restarted.restart(later);
    assert_eq!(running.ids(later), restarted.ids(later));

    let joined = Node::start(later);
    assert_eq!(joined.welcome(&fleet(later), later), SaltAdoption::Adopted);
    assert_eq!(joined.ids(later).0, running.ids(later).0);
    for node in [&running, &restarted, &joined] {
        assert_eq!(node.welcome(&fleet(later), later), SaltAdoption::Agreed);
        assert_eq!(node.salt.period(), (102, false));
    }
}

#[test]
fn time_of_the_visit_decides_while_rotations_are_late() {
    let midnight = 101 * DAY;
    let (early, late) = (Node::start(midnight - 5), Node::start(midnight - 5));
    for node in [&early, &late] {
        node.welcome(&fleet(midnight - 5), midnight - 5);
    }
    early.turn(midnight);
    for now in [midnight - 1, midnight, midnight + 1] {
        assert_eq!(early.ids(now).0, late.ids(now).0, "{now}");
    }
    // The aggregator may be a little ahead or behind at midnight.
    assert_eq!(
        late.welcome(&fleet(midnight), midnight - 1),
        SaltAdoption::Agreed
    );
    assert_eq!(
        early.welcome(&fleet(midnight - 1), midnight + 1),
        SaltAdoption::Agreed
    );
}

#[test]
fn another_salt_of_a_fleet_is_replaced() {
    let now = 100 * DAY;
    let node = Node::start(now);
    node.welcome(&fleet(now), now);
    assert_eq!(node.welcome(&fleet_of(8, now), now), SaltAdoption::Replaced);
    let other = Node::start(now);
    other.welcome(&fleet_of(8, now), now);
    assert_eq!(node.ids(now).0, other.ids(now).0);
}

#[test]
fn wrong_clock_separates_no_node_permanently() {
    let now = 100 * DAY;
    let wrong = now + 50 * DAY;
    let node = Node::start(now);
    node.welcome(&fleet(now), now);
    let ids = node.ids(now);
    node.turn(wrong);
    // With the wrong clock it agrees with the fleet; after the correction the fleet's salt replaces its own.
    assert_eq!(node.welcome(&fleet(now), wrong), SaltAdoption::Agreed);
    assert_eq!(node.welcome(&fleet(now), now), SaltAdoption::Replaced);
    assert_eq!(node.ids(now).0, ids.0);

    // The ratchet advances within bounds only, and a salt of a distant time is rejected.
    let far = now + (visitor_salt::MAX_ADVANCE_PERIODS + 9) * DAY;
    assert_eq!(node.welcome(&fleet(now), far), SaltAdoption::OtherTime);
    let ahead = fleet(now + 9 * DAY);
    assert_eq!(node.welcome(&ahead, now), SaltAdoption::OtherTime);
    let restarted = node.restart(far);
    assert_eq!(
        restarted.salt.period(),
        (far / DAY, true),
        "a provisional one"
    );
}

#[test]
fn file_is_unchanged_without_a_trusted_time() {
    let now = 100 * DAY;
    let node = Node::start(now);
    node.welcome(&fleet(now), now);
    let file = node.directory.path().join("visitor-salt");
    let before = std::fs::read(&file).expect("readable");
    let salt = VisitorSalt::open(&file, PERIOD, None, Micros(now + 3 * DAY)).expect("usable");
    assert_eq!(salt.period(), (100, false));
    assert_eq!(std::fs::read(&file).expect("readable"), before);
    assert_eq!(VisitorSalt::last_known_time(&file), Micros(now));
    let agreed = salt.adopt(&fleet(now + DAY), None);
    assert_eq!(
        agreed.expect("writable"),
        SaltAdoption::Agreed,
        "turned as far as the fleet is"
    );
}

#[test]
fn other_period_length_is_rejected() {
    let now = 100 * DAY;
    let node = Node::start(now);
    let hourly = FleetSalt {
        period_micros: DAY / 24,
        ..fleet(now)
    };
    assert_eq!(node.welcome(&hourly, now), SaltAdoption::OtherLength);
    let file = node.directory.path().join("visitor-salt");
    std::fs::write(&file, "nonsense").expect("writable");
    let salt = VisitorSalt::open(&file, PERIOD, Some(Micros(now)), Micros(now)).expect("usable");
    assert!(
        salt.period().1,
        "a malformed file is replaced by a provisional salt"
    );
}
