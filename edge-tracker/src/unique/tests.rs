//! The window under a simulated clock, the error rate, threads.

mod bytes;
mod disk;

use super::*;
use crate::visitor::identity::PreviousId;
use daemon::settings::HumanDuration;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const HOUR: u64 = 3_600_000_000;
/// The start of a day.
const START: u64 = 480_000 * HOUR;
const LINK: LinkUse = LinkUse::Click(LinkId(7));

/// A day in six generations of four hours.
fn settings() -> UniqueSettings {
    UniqueSettings {
        shards: 8,
        expected_visits: 60_000,
        ..UniqueSettings::default()
    }
}

fn filters() -> Filters {
    Filters::new(&settings()).expect("valid settings")
}

fn at(hours: u64) -> Micros {
    Micros(START + hours * HOUR)
}

/// A visitor whose ids rotate at midnight, as with a period of a day.
fn ids(number: u64, now: Micros) -> VisitorIds {
    let day = now.0 / (24 * HOUR);
    let id = |day: u64| {
        VisitorId(
            (number + 1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(day as u32 % 64)
                ^ day,
        )
    };
    VisitorIds {
        current: id(day),
        previous: PreviousId::Computed(id(day - 1)),
        since: Micros(day * 24 * HOUR),
    }
}

/// A network of the visitor's own.
fn network(number: u64) -> Network {
    Network::of(IpAddr::V4(Ipv4Addr::from((number as u32) << 8)))
}

fn visit(filters: &Filters, number: u64, now: Micros) -> bool {
    let known = filters.check_and_set(now, LINK, &ids(number, now), network(number));
    known != Uniqueness::Unique
}

#[test]
fn visit_is_repeated_for_window_and_at_most_a_generation() {
    let last_found = |first: u64| {
        (first..first + 40)
            .filter(|hour| {
                let filters = filters();
                assert!(!visit(&filters, 1, at(first)));
                visit(&filters, 1, at(*hour))
            })
            .max()
            .expect("found at least at once")
    };
    // Found up to the end of the sixth generation after its own.
    assert_eq!([0, 1, 3].map(last_found), [27, 27, 27]);
    assert_eq!([4, 7].map(last_found), [31, 31]);
}

#[test]
fn every_visit_restarts_the_window() {
    let filters = filters();
    assert!(!visit(&filters, 1, at(0)));
    for hour in (20..400).step_by(20) {
        assert!(visit(&filters, 1, at(hour)), "hour {hour}");
    }
    assert!(
        !visit(&filters, 1, at(380 + 28 + 1)),
        "after a gap of more than the window"
    );
}

#[test]
fn visitors_and_links_are_distinguished() {
    let filters = filters();
    let id = ids(1, at(0));
    let visit = |used, id| filters.check_and_set(at(0), used, id, network(1));
    assert_eq!(visit(LinkUse::Click(LinkId(1)), &id), Uniqueness::Unique);
    assert_eq!(visit(LinkUse::Click(LinkId(2)), &id), Uniqueness::Unique);
    let other = ids(2, at(0));
    assert_eq!(visit(LinkUse::Click(LinkId(1)), &other), Uniqueness::Unique);
    assert_eq!(visit(LinkUse::Click(LinkId(1)), &id), Uniqueness::Repeated);
    assert_eq!(
        visit(LinkUse::Impression(LinkId(1)), &id),
        Uniqueness::Unique
    );
}

#[test]
fn salt_rotation_within_a_generation_keeps_visitors_known() {
    let filters = Filters::new(&UniqueSettings {
        window: HumanDuration(Duration::from_secs(15 * 3600)),
        generations: 3,
        ..settings()
    })
    .expect("valid settings");
    // Generations of five hours don't begin at midnight.
    for (number, before) in (1..=14).enumerate() {
        let number = number as u64;
        assert!(
            !visit(&filters, number, at(24 - before)),
            "{before} hours before"
        );
    }
    for number in 0..14 {
        assert!(visit(&filters, number, at(24)), "{number}");
        assert!(visit(&filters, number, at(25)), "{number}");
    }
}

#[test]
fn clock_steps_keep_visits_known() {
    let filters = filters();
    assert!(!visit(&filters, 1, at(100)));
    assert!(visit(&filters, 1, at(99)));
    assert!(!visit(&filters, 2, at(90)));
    // Far back, as after a start without a clock, and forth again.
    assert!(!visit(&filters, 3, Micros(25 * HOUR)));
    assert!(visit(&filters, 3, Micros(26 * HOUR)));
    assert!(visit(&filters, 1, at(101)));
    assert!(visit(&filters, 2, at(101)));
}

#[test]
fn error_rate_is_bounded_at_peak_and_estimated_beyond() {
    let settings = UniqueSettings {
        false_positive_rate: 1e-2,
        ..settings()
    };
    let filters = Filters::new(&settings).expect("valid settings");
    let measured = |now: Micros| {
        // Searched without setting, so that probes do not fill the filters.
        let probes = 100_000;
        let moment = filters.clock.observe(now);
        let found = (0..probes)
            .filter(|number| {
                let key = VisitKey::new(LINK, ids(1 << 40 | number, now).current);
                let seen = filters.shard(key).find(&filters.plan, moment, .., key);
                seen != Membership::Absent
            })
            .count();
        found as f64 / f64::from(probes as u32)
    };
    let mut number = 0;
    let mut fill = |hour: u64, visits: u64| {
        for _ in 0..visits {
            number += 1;
            let now = at(hour);
            filters.check_and_set(now, LINK, &ids(number, now), network(number));
        }
    };
    for hour in (0..24).step_by(4) {
        fill(hour, if hour == 12 { 15_000 } else { 9_000 });
    }
    let expected = measured(at(23));
    assert!(expected <= 1e-2, "{expected}");
    assert!(filters.stats().false_positive_rate <= 1e-2);
    fill(23, 20_000);
    let (overfull, estimate) = (measured(at(23)), filters.stats().false_positive_rate);
    assert!(overfull > 1e-2, "{overfull}");
    assert!(
        (0.8..1.25).contains(&(overfull / estimate)),
        "{overfull} but {estimate} estimated"
    );
}

#[test]
fn visits_beyond_capacity_are_unknown_not_repeated() {
    let filters = Filters::new(&UniqueSettings {
        expected_visits: 6_000,
        ..settings()
    })
    .expect("valid settings");
    let known = |number| filters.check_and_set(at(0), LINK, &ids(number, at(0)), network(number));
    // Ten times the capacity of a generation: so many false hits that it is nearly full.
    let mut counts = [0; 3];
    for number in 0..20_000 {
        counts[known(number) as usize] += 1;
    }
    let [unique, repeated, unknown] = counts;
    assert!(unique > 10_000 && unknown > 1_000, "{counts:?}");
    assert!(repeated <= 2, "{counts:?}");
    // A returning visitor is found in overfull filters only.
    assert_eq!(known(1), Uniqueness::Unknown);
    // The next generation is empty.
    let later = |number| filters.check_and_set(at(4), LINK, &ids(number, at(4)), network(number));
    assert_eq!(later(1), Uniqueness::Unknown);
    assert_eq!(later(1), Uniqueness::Repeated);
}

#[test]
fn network_beyond_its_share_sets_nothing() {
    let filters = filters();
    let flood = network(0);
    let known = |number, hour| filters.check_and_set(at(hour), LINK, &ids(number, at(hour)), flood);
    let share = u64::from(filters.plan.network_keys);
    for number in 0..share {
        assert_eq!(known(number, 0), Uniqueness::Unique, "{number}");
    }
    for number in share..10_000 {
        assert_eq!(known(number, 0), Uniqueness::Unknown, "{number}");
    }
    let entries = |filters: &Filters| filters.stats().generations[0].entries;
    assert_eq!(entries(&filters), share);
    // Visits set before are still known, and other networks are unaffected by the flood.
    assert_eq!(known(0, 0), Uniqueness::Repeated);
    assert!(!visit(&filters, 20_000, at(0)));
    assert_eq!(known(share, 4), Uniqueness::Unique);
}

#[test]
fn stats_contain_generations_entries_and_memory() {
    let filters = filters();
    for number in 0..1000 {
        visit(&filters, number, at(u64::from(number >= 400) * 5));
        visit(&filters, number, at(5));
    }
    let stats = filters.stats();
    let entries: Vec<_> = stats
        .generations
        .iter()
        .map(|g| (g.since, g.entries))
        .collect();
    assert_eq!(entries, [(at(0), 400), (at(4), 1000)]);
    let memory = 2 * filters.plan.bytes * filters.plan.shards;
    assert_eq!(stats.memory_bytes, memory as u64);
    let fill = stats.generations[1].fill;
    assert!(
        (0.008..0.013).contains(&fill),
        "1000 of 15,000 at 15%: {fill}"
    );
}

#[test]
fn of_two_threads_exactly_one_visit_is_unique() {
    let filters = filters();
    let firsts = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for number in 0..20_000 {
                    let new = !visit(&filters, number, at(number / 2_000));
                    firsts.fetch_add(new.into(), Ordering::Relaxed);
                }
            });
        }
    });
    let firsts = firsts.into_inner();
    assert!(
        (19_990..=20_000).contains(&firsts),
        "{firsts}, apart from errors of the filters"
    );
}

#[test]
fn replayed_visits_are_known_within_the_window() {
    let filters = filters();
    visit(&filters, 1, at(100));
    let id = |number, hour| ids(number, at(hour)).current;
    filters.replay(at(98), LINK, id(2, 98));
    filters.replay(at(60), LINK, id(3, 60));
    filters.replay(at(5000), LINK, id(4, 100));
    assert!(visit(&filters, 2, at(100)));
    assert!(
        !visit(&filters, 3, at(60 + 25)),
        "older than the window when replayed"
    );
    assert!(
        visit(&filters, 4, at(100)),
        "a future visit counts as of now"
    );
    assert!(visit(&filters, 1, at(101)), "and moves nothing");
}
