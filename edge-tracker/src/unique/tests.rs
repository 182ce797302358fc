//! The window by a simulated clock, the promise on errors, threads.

mod bytes;
mod disk;

use super::*;
use crate::visitor::identity::Previous;
use daemon::settings::Period;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const HOUR: u64 = 3_600_000_000;
/// A day's beginning.
const START: u64 = 480_000 * HOUR;
const LINK: Use = Use::Click(LinkId(7));

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

/// A visitor whose ids turn at midnight, as those of a day's period do.
fn ids(number: u64, now: Micros) -> Ids {
    let day = now.0 / (24 * HOUR);
    let id = |day: u64| {
        VisitorId(
            (number + 1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(day as u32 % 64)
                ^ day,
        )
    };
    Ids {
        current: id(day),
        previous: Previous::Made(id(day - 1)),
        since: Micros(day * 24 * HOUR),
    }
}

fn visit(filters: &Filters, number: u64, now: Micros) -> bool {
    filters.check_and_set(now, LINK, &ids(number, now))
}

#[test]
fn a_visit_is_repeated_for_the_window_and_a_generation_at_most() {
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
fn every_visit_counts_anew() {
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
fn visitors_and_links_are_told_apart() {
    let filters = filters();
    let id = ids(1, at(0));
    assert!(!filters.check_and_set(at(0), Use::Click(LinkId(1)), &id));
    assert!(!filters.check_and_set(at(0), Use::Click(LinkId(2)), &id));
    assert!(!filters.check_and_set(at(0), Use::Click(LinkId(1)), &ids(2, at(0))));
    assert!(filters.check_and_set(at(0), Use::Click(LinkId(1)), &id));
    assert!(!filters.check_and_set(at(0), Use::Impression(LinkId(1)), &id));
}

#[test]
fn a_turn_of_the_salt_within_a_generation_makes_nobody_new() {
    let filters = Filters::new(&UniqueSettings {
        window: Period(Duration::from_secs(15 * 3600)),
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
fn a_clock_that_steps_wipes_nothing() {
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
fn the_promise_on_errors_holds_with_a_peak_and_the_estimate_tells_the_rest() {
    let settings = UniqueSettings {
        false_positive_rate: 1e-2,
        ..settings()
    };
    let filters = Filters::new(&settings).expect("valid settings");
    let measured = |now: Micros| {
        // Looked up in a copy of the present, so that looking does not fill the filters.
        let probes = 100_000;
        let moment = filters.clock.observe(now);
        let found = (0..probes)
            .filter(|number| {
                let key = Key::new(LINK, ids(1 << 40 | number, now).current);
                filters.shard(key).contains(moment, moment.newest, key)
            })
            .count();
        found as f64 / f64::from(probes as u32)
    };
    let mut number = 0;
    let mut fill = |hour: u64, visits: u64| {
        for _ in 0..visits {
            number += 1;
            visit(&filters, number, at(hour));
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
fn stats_tell_generations_entries_and_memory() {
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
fn of_two_threads_exactly_one_is_first() {
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
        "{firsts}: errors of the filters aside"
    );
}

#[test]
fn replayed_visits_are_known_if_the_window_still_holds_them() {
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
