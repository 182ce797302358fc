//! Results of a phase as a table and as JSON, and the faults in them.

use super::edge::Counted;
use super::visitors::Tally;
use ahash::AHashSet;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::ops::RangeInclusive;

/// A phase after counting.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    /// Description of the load.
    pub(super) what: String,
    pub(super) visitors: Visitors,
    pub(super) swarm: Held,
    pub(super) edge: Counted,
    /// Whether edge and client never agreed on the open connections, which makes the counts inexact.
    pub(super) unsettled: bool,
    /// Events in the journal.
    pub(super) logged: u64,
    /// Redirects that a visitor received and the journal does not contain.
    pub(super) missing: u64,
    /// Maximum of the edge's anonymous memory in bytes, and its bound.
    pub(super) memory: u64,
    pub(super) memory_bound: u64,
    /// Bytes per held connection, if measured.
    pub(super) bytes_per_connection: Option<u64>,
    /// Whether idle connections always exist, so that no new connection may be rejected.
    pub(super) always_idle: bool,
}

/// Connections that were held open.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Held {
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) redirects: u64,
    /// Whether its responses can't be counted because it does not read them.
    pub(super) deaf: bool,
}

/// Results of the visitors.
#[derive(Debug, Default, Serialize)]
pub(super) struct Visitors {
    pub(super) offered: u64,
    pub(super) stayed_away: u64,
    pub(super) redirects: u64,
    pub(super) pixels: u64,
    pub(super) busy: u64,
    pub(super) closed: u64,
    pub(super) unanswered: u64,
    /// Responses with any status while visitors came, including 503.
    pub(super) answered_a_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Visitors {
    /// The same as numbers, and the ids of the redirects.
    pub(super) fn of(tally: &Tally, answered_a_second: f64) -> Self {
        let ms = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            offered: tally.offered,
            stayed_away: tally.stayed_away,
            redirects: tally.redirects,
            pixels: tally.pixels,
            busy: tally.busy,
            closed: tally.closed,
            unanswered: tally.unanswered,
            answered_a_second,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
        }
    }
}

/// Number of `ids` that are not in `logged`.
pub(super) fn missing(ids: &[String], logged: &AHashSet<String>) -> u64 {
    ids.iter().filter(|id| !logged.contains(*id)).count() as u64
}

impl Phase {
    /// Violated expectations.
    pub(super) fn faults(&self) -> Vec<String> {
        let (visitors, swarm, edge) = (&self.visitors, &self.swarm, &self.edge);
        let mut faults = Vec::new();
        let mut within = |what: &str, met: RangeInclusive<u64>, counted: u64| {
            if !met.contains(&counted) {
                let (least, most) = (met.start(), met.end());
                faults.push(format!(
                    "{what}: clients counted {least} to {most}, the edge counted {counted}"
                ));
            }
        };
        let redirects = visitors.redirects + swarm.redirects;
        // The number of responses to a client that does not read them is unknown.
        let most = if swarm.deaf { u64::MAX } else { redirects };
        within("redirects", redirects..=most, edge.clicks);
        let exactly = |met| met..=met;
        within("pixels", exactly(visitors.pixels), edge.pixels);
        within("pixels shed", exactly(visitors.busy), edge.shed_impressions);
        // The kernel gives up some connections that it dropped at first, and the edge never sees them.
        let closed = visitors.closed + swarm.closed;
        within(
            "connections closed",
            closed.saturating_sub(edge.listen_drops)..=closed,
            edge.shed_idle + edge.shed_connections + edge.cut_off,
        );
        within(
            "events in the journal",
            exactly(self.logged),
            (edge.clicks + edge.pixels).saturating_sub(edge.lost),
        );
        if visitors.unanswered > 0 {
            faults.push(format!(
                "{} visitors were neither answered nor closed",
                visitors.unanswered
            ));
        }
        if self.unsettled {
            faults.push("the edge has others open than those who are held".into());
        }
        if self.missing > 0 {
            faults.push(format!(
                "{} answered redirects are not in the journal",
                self.missing
            ));
        }
        if self.always_idle && edge.shed_connections > 0 {
            faults.push(format!(
                "{} newcomers were turned away while others were idle",
                edge.shed_connections
            ));
        }
        if self.memory > self.memory_bound {
            faults.push(format!(
                "memory: {} MB are more than the bound of {} MB",
                self.memory >> 20,
                self.memory_bound >> 20
            ));
        }
        faults
    }

    /// For people.
    pub(super) fn table(&self) -> Table {
        let (visitors, swarm, edge) = (&self.visitors, &self.swarm, &self.edge);
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([self.name, "visitors", "held", "edge counted"]);
        let number = |number: u64| number.to_string();
        let none = String::new;
        let closed_by_edge = edge.shed_idle + edge.shed_connections + edge.cut_off;
        table.add_row([
            "came".into(),
            number(visitors.offered),
            number(swarm.opened),
            none(),
        ]);
        table.add_row([
            "redirected".into(),
            number(visitors.redirects),
            if swarm.deaf {
                "not read".into()
            } else {
                number(swarm.redirects)
            },
            number(edge.clicks),
        ]);
        table.add_row([
            "pixels".into(),
            number(visitors.pixels),
            none(),
            number(edge.pixels),
        ]);
        table.add_row([
            "shed: pixels, 503".into(),
            number(visitors.busy),
            none(),
            number(edge.shed_impressions),
        ]);
        table.add_row([
            "closed".into(),
            number(visitors.closed),
            number(swarm.closed),
            number(closed_by_edge),
        ]);
        for (what, count) in [
            ("  shed: idle", edge.shed_idle),
            ("  shed: newcomers", edge.shed_connections),
            ("  cut off", edge.cut_off),
            ("queue full, tried again", edge.listen_drops),
        ] {
            table.add_row([what.into(), none(), none(), number(count)]);
        }
        table.add_row([
            "found no descriptor to set out".into(),
            number(visitors.stayed_away),
            none(),
            none(),
        ]);
        table.add_row([
            "neither".into(),
            number(visitors.unanswered),
            none(),
            none(),
        ]);
        table.add_row(["in the journal".into(), none(), none(), number(self.logged)]);
        table.add_row([
            "redirected, not logged".into(),
            number(self.missing),
            none(),
            none(),
        ]);
        if visitors.redirects > 0 {
            let (p50, p99) = (visitors.p50_ms, visitors.p99_ms);
            let answered = format!("{:.0}", visitors.answered_a_second);
            table.add_row(["answered a second".into(), answered, none(), none()]);
            table.add_row([
                "redirect p50, ms".into(),
                format!("{p50:.1}"),
                none(),
                none(),
            ]);
            table.add_row([
                "redirect p99, ms".into(),
                format!("{p99:.1}"),
                none(),
                none(),
            ]);
        }
        let mb = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        table.add_row(["memory, MB".into(), none(), none(), mb(self.memory)]);
        table.add_row([
            "its bound, MB".into(),
            none(),
            none(),
            mb(self.memory_bound),
        ]);
        if let Some(bytes) = self.bytes_per_connection {
            table.add_row(["bytes a connection".into(), none(), number(bytes), none()]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Phase {
        Phase {
            name: "tried",
            what: String::new(),
            visitors: Visitors {
                redirects: 7,
                pixels: 3,
                busy: 2,
                closed: 5,
                ..Visitors::default()
            },
            swarm: Held::default(),
            edge: Counted {
                clicks: 7,
                pixels: 3,
                shed_impressions: 2,
                shed_connections: 5,
                ..Counted::default()
            },
            unsettled: false,
            logged: 10,
            missing: 0,
            memory: 1,
            memory_bound: 1,
            bytes_per_connection: None,
            always_idle: false,
        }
    }

    fn faults(change: impl Fn(&mut Phase)) -> usize {
        let mut phase = sound();
        change(&mut phase);
        phase.faults().len()
    }

    #[test]
    fn difference_of_one_is_a_fault() {
        assert_eq!(faults(|_| {}), 0);
        assert_eq!(faults(|it| it.visitors.redirects += 1), 1);
        assert_eq!(faults(|it| it.visitors.redirects -= 1), 1);
        assert_eq!(faults(|it| it.visitors.pixels -= 1), 1);
        assert_eq!(faults(|it| it.edge.shed_impressions += 1), 1);
        assert_eq!(faults(|it| it.edge.shed_idle += 1), 1);
        assert_eq!(faults(|it| it.visitors.closed += 1), 1);
        assert_eq!(faults(|it| it.logged += 1), 1);
        assert_eq!(faults(|it| it.visitors.unanswered += 1), 1);
        assert_eq!(faults(|it| it.unsettled = true), 1);
    }

    #[test]
    fn only_what_can_not_be_known_is_spared() {
        let drops = |it: &mut Phase| it.edge.listen_drops = 3;
        assert_eq!(faults(|it| (drops(it), it.visitors.closed += 3).1), 0);
        assert_eq!(faults(|it| (drops(it), it.visitors.closed += 4).1), 1);
        assert_eq!(faults(|it| (drops(it), it.visitors.closed -= 1).1), 1);
        let deaf = |it: &mut Phase| it.swarm.deaf = true;
        assert_eq!(faults(|it| (deaf(it), it.visitors.redirects -= 1).1), 0);
        assert_eq!(faults(|it| (deaf(it), it.visitors.redirects += 1).1), 1);
    }
}
