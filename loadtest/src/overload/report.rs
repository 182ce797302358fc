//! What a phase found: for people as a table, for programs as JSON, and what is wrong with it.

use super::edge::Counted;
use super::visitors::Tally;
use ahash::AHashSet;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// One phase, once everything is counted.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    /// What was done.
    pub(super) what: String,
    pub(super) visitors: Visitors,
    pub(super) crowd: Held,
    pub(super) edge: Counted,
    /// Events in the journal.
    pub(super) logged: u64,
    /// Redirects that a visitor had and the journal has not.
    pub(super) missing: u64,
    /// The edge's memory but for mapped files, in bytes: the most that was seen, and its bound.
    pub(super) memory: u64,
    pub(super) memory_bound: u64,
    /// Bytes that each connection of the crowd took, where that was what was measured.
    pub(super) bytes_per_connection: Option<u64>,
    /// Whether there is always somebody idle, so that no newcomer is to be turned away.
    pub(super) always_idle: bool,
}

/// Connections that were held open.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Held {
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) redirects: u64,
    /// Whether it took no answer that it could count.
    pub(super) deaf: bool,
}

/// What visitors met.
#[derive(Debug, Default, Serialize)]
pub(super) struct Visitors {
    pub(super) offered: u64,
    pub(super) stayed_away: u64,
    pub(super) redirects: u64,
    pub(super) pixels: u64,
    pub(super) busy: u64,
    pub(super) closed: u64,
    pub(super) unanswered: u64,
    /// While visitors came, with whatever, 503 included.
    pub(super) answered_a_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Visitors {
    /// The same in figures, and the ids of those who were redirected.
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

/// How many of `ids` are not in `logged`.
pub(super) fn missing(ids: &[String], logged: &AHashSet<String>) -> u64 {
    ids.iter().filter(|id| !logged.contains(*id)).count() as u64
}

impl Phase {
    /// What does not hold.
    pub(super) fn faults(&self) -> Vec<String> {
        let (visitors, crowd, edge) = (&self.visitors, &self.crowd, &self.edge);
        let mut faults = Vec::new();
        let mut alike = |what: &str, met: u64, counted: u64, spare: u64| {
            if counted < met || counted > met + spare {
                faults.push(format!(
                    "{what}: {met} were met and the edge counted {counted}"
                ));
            }
        };
        // What the edge answered and nobody read.
        let unread = visitors.unanswered;
        let redirects = visitors.redirects + crowd.redirects;
        let deaf = if crowd.deaf { u64::MAX / 2 } else { unread };
        alike("redirects", redirects, edge.clicks, deaf);
        alike("pixels", visitors.pixels, edge.pixels, unread);
        alike("pixels shed", visitors.busy, edge.shed_impressions, unread);
        // The system gives up some of those whom it turned away at first.
        let closed = (visitors.closed + crowd.closed).saturating_sub(edge.listen_drops);
        alike(
            "connections closed",
            closed,
            edge.shed_idle + edge.shed_connections + edge.cut_off,
            unread + edge.listen_drops,
        );
        alike(
            "events in the journal",
            edge.clicks + edge.pixels - edge.lost,
            self.logged,
            0,
        );
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
        let (visitors, crowd, edge) = (&self.visitors, &self.crowd, &self.edge);
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([self.name, "visitors", "held", "edge counted"]);
        let number = |number: u64| number.to_string();
        let none = String::new;
        let closed_by_edge = edge.shed_idle + edge.shed_connections + edge.cut_off;
        table.add_row([
            "came".into(),
            number(visitors.offered),
            number(crowd.opened),
            none(),
        ]);
        table.add_row([
            "redirected".into(),
            number(visitors.redirects),
            if crowd.deaf {
                "not read".into()
            } else {
                number(crowd.redirects)
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
            number(crowd.closed),
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
