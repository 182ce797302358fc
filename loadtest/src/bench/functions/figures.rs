//! Results of the rounds, their tables, and their goals.

use super::super::client::{Arrivals, LoadMode, LoadResult};
use super::super::report::{Goal, Rounds, Sheet};
use super::server::Kind;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Columns of latencies: without steal time, of all time, and the share without steal time.
const LATENCIES: [&str; 5] = ["p50", "p99", "p99.9", "p99 of all", "calm %"];

/// Results of the rounds of one measurement. Latencies are in ms and without steal time (see `steal_filter`),
/// unless there was hardly any such time.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) per_second: Rounds,
    pub(super) p50: Rounds,
    pub(super) p99: Rounds,
    pub(super) p999: Rounds,
    pub(super) cpu_micros: Rounds,
    /// Of all time.
    pub(super) p99_of_all: Rounds,
    /// Share of time without steal.
    pub(super) calm_percent: Rounds,
}

/// Traffic on one core with functions that never return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SharedCore {
    /// Clicks without function calls.
    Alone,
    /// Clicks alongside functions that compute until they are stopped.
    Beside,
    /// Calls of another function alongside them.
    Hello,
    /// The functions that are stopped.
    Spin,
}

/// Half of the edge's maximum.
#[derive(Debug, Default, Serialize)]
pub(super) struct HalfLoad {
    pub(super) servers: BTreeMap<Kind, Figures>,
    /// As many events, written and synced on the server's core without any request.
    pub(super) disk: Figures,
}

/// All results.
#[derive(Debug, Default, Serialize)]
pub(super) struct Results {
    pub(super) hello: BTreeMap<Kind, Figures>,
    /// Postbacks in closed loop.
    pub(super) most: BTreeMap<Kind, Figures>,
    /// Postbacks at half of the edge's maximum.
    pub(super) half: BTreeMap<Arrivals, HalfLoad>,
    pub(super) neighbours: BTreeMap<SharedCore, Figures>,
    pub(super) allocations: Figures,
    pub(super) slowest_allocation_millis: Rounds,
    /// Share of both cores that other machines took during each measurement.
    pub(super) stolen_percent: Rounds,
}

impl Figures {
    /// Adds a round.
    pub(super) fn add(&mut self, result: &LoadResult) {
        let measured = result.measured as f64;
        let millis = |quantile| result.latency.calm().value_at_quantile(quantile) as f64 / 1e6;
        let seconds = result.elapsed.as_secs_f64();
        self.per_second.0.push(measured / seconds);
        let of_all = result.latency.all().value_at_quantile(0.99);
        self.p99_of_all.0.push(of_all as f64 / 1e6);
        self.p50.0.push(millis(0.5));
        self.p99.0.push(millis(0.99));
        self.p999.0.push(millis(0.999));
        let micros = result.cpu.as_secs_f64() * 1e6 / measured.max(1.0);
        self.cpu_micros.0.push(micros);
        self.calm_percent
            .0
            .push(result.latency.calm_share() * 100.0);
    }

    /// Cells for the columns of [`LATENCIES`].
    fn latencies(&self) -> [String; 5] {
        let [p50, p99, p999, of_all] =
            [&self.p50, &self.p99, &self.p999, &self.p99_of_all].map(|rounds| rounds.shown(2));
        [
            p50,
            p99,
            p999,
            of_all,
            format!("{:.0}", self.calm_percent.median()),
        ]
    }
}

impl fmt::Display for SharedCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alone => "clicks, no function called",
            Self::Beside => "clicks alongside functions that never return",
            Self::Hello => "hello alongside functions that never return",
            Self::Spin => "functions that never return, until stopped",
        })
    }
}

/// A load mode as text for tables.
pub(super) struct LoadModeText(pub(super) LoadMode);

impl fmt::Display for LoadModeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            LoadMode::Closed => f.write_str("closed loop"),
            LoadMode::Open(rate, arrivals) => write!(f, "{rate:.0} per second {arrivals}"),
        }
    }
}

impl HalfLoad {
    fn sheet(&self, arrivals: Arrivals) -> Sheet {
        let title = format!("Postbacks at half of the edge's maximum, {arrivals}, ms");
        let headings = [&["server", "calls/s", "CPU µs"], &LATENCIES[..]].concat();
        let mut sheet = Sheet::new(&title, &headings);
        for (kind, figures) in &self.servers {
            let begin = [
                kind.to_string(),
                figures.per_second.shown(0),
                figures.cpu_micros.shown(1),
            ];
            sheet.row(begin.into_iter().chain(figures.latencies()));
        }
        let begin = [
            "none: events written and synced".into(),
            self.disk.per_second.shown(0),
            String::new(),
        ];
        sheet.row(begin.into_iter().chain(self.disk.latencies()));
        if let (Some(edge), Some(native)) = (
            self.servers.get(&Kind::Fresh),
            self.servers.get(&Kind::Native),
        ) {
            let added = |of: fn(&Figures) -> &Rounds| {
                let added = of(edge).0.iter().zip(&of(native).0).map(|(a, b)| a - b);
                format!("{:.2}", Rounds(added.collect()).median())
            };
            sheet.row([
                "added by the edge and WebAssembly".into(),
                String::new(),
                added(|it| &it.cpu_micros),
                added(|it| &it.p50),
                added(|it| &it.p99),
                added(|it| &it.p999),
                added(|it| &it.p99_of_all),
                String::new(),
            ]);
        }
        sheet
    }
}

impl Results {
    /// All tables.
    pub(super) fn sheets(&self) -> Vec<Sheet> {
        let halves = self
            .half
            .iter()
            .map(|(arrivals, half)| half.sheet(*arrivals));
        let mut sheets = vec![self.most_sheet()];
        sheets.extend(halves);
        sheets.extend([self.neighbours_sheet(), self.machine_sheet()]);
        sheets
    }

    fn most_sheet(&self) -> Sheet {
        let title = "Calls in closed loop on one core, ms (median of rounds)";
        let headings = [&["call", "server", "calls/s", "CPU µs"], &LATENCIES[..]].concat();
        let mut sheet = Sheet::new(title, &headings);
        let calls = [("hello", &self.hello), ("postback", &self.most)];
        for (call, by_kind) in calls {
            for (kind, figures) in by_kind {
                let begin = [
                    call.into(),
                    kind.to_string(),
                    figures.per_second.shown(0),
                    figures.cpu_micros.shown(1),
                ];
                sheet.row(begin.into_iter().chain(figures.latencies()));
            }
        }
        sheet
    }

    fn neighbours_sheet(&self) -> Sheet {
        let headings = [&["what", "calls/s"], &LATENCIES[..]].concat();
        let mut sheet = Sheet::new("Traffic sharing one core, ms", &headings);
        let mut row = |what: String, figures: &Figures| {
            let begin = [what, figures.per_second.shown(0)];
            sheet.row(begin.into_iter().chain(figures.latencies()));
        };
        for (what, figures) in &self.neighbours {
            row(what.to_string(), figures);
        }
        row(
            "functions that allocate without limit, until stopped, one at a time".into(),
            &self.allocations,
        );
        sheet
    }

    fn machine_sheet(&self) -> Sheet {
        let title = "The machine during these measurements";
        let mut sheet = Sheet::new(title, &["of the two cores, in %", "median", "maximum"]);
        let stolen = &self.stolen_percent;
        sheet.row([
            "steal time".into(),
            format!("{:.1}", stolen.median()),
            format!("{:.1}", stolen.0.iter().copied().fold(0.0, f64::max)),
        ]);
        sheet
    }

    /// The goals with the measured values.
    pub(super) fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for (kind, what, rate, p99) in [
            (
                Kind::Fresh,
                "hello, a fresh instance per call",
                5_000.0,
                5.0,
            ),
            (Kind::Reused, "hello, reused instances", 14_000.0, 3.0),
        ] {
            let figures = &self.hello[&kind];
            let found = figures.per_second.median();
            goals.push(Goal::at_least(&format!("{what}, calls/s"), rate, found));
            let found = Some(figures.p99.median());
            goals.push(Goal::new(&format!("{what}, p99 in ms"), p99, found));
        }
        for (arrivals, half) in &self.half {
            let what = format!("postbacks at half load, {arrivals}, p99 in ms");
            let found = half.servers[&Kind::Fresh].p99.median();
            goals.push(Goal::new(&what, 2.0, Some(found)));
        }
        let clicks = |which| &self.neighbours[&which].p99;
        let ratio = clicks(SharedCore::Beside).ratio(clicks(SharedCore::Alone));
        goals.push(Goal::new(
            "p99 of clicks alongside functions that never return, relative to alone",
            2.0,
            Some(ratio.median()),
        ));
        goals.push(Goal::new(
            "slowest stop of a function that allocates without limit, ms",
            100.0,
            Some(self.slowest_allocation_millis.median()),
        ));
        goals
    }
}
