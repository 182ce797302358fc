//! Figures of the rounds, their tables, and the goals they are held against.

use super::super::client::{Account, Moments, Pace};
use super::super::report::{Goal, Rounds, Sheet};
use super::server::Kind;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Columns of latencies: of calm time, of all, and how much of it was calm.
const LATENCIES: [&str; 5] = ["p50", "p99", "p99.9", "p99 of all", "calm %"];

/// What the rounds of one thing gave; latencies in ms, of calm time (see `calm`) or, where that was
/// hardly any, of all.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) per_second: Rounds,
    pub(super) p50: Rounds,
    pub(super) p99: Rounds,
    pub(super) p999: Rounds,
    pub(super) cpu_micros: Rounds,
    /// Of all the time.
    pub(super) p99_of_all: Rounds,
    /// What of the time was calm.
    pub(super) calm_percent: Rounds,
}

/// Who shares a core with functions that compute without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Neighbours {
    /// Clicks while no function is called.
    Alone,
    /// Clicks beside functions that compute until they are stopped.
    Beside,
    /// Calls of another function, beside them too.
    Hello,
    /// Those that are stopped.
    Spin,
}

/// Half of the edge's most.
#[derive(Debug, Default, Serialize)]
pub(super) struct Half {
    pub(super) servers: BTreeMap<Kind, Figures>,
    /// As many events, written and synced on the server's core without anybody asking for it.
    pub(super) disk: Figures,
}

/// All that was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Results {
    pub(super) hello: BTreeMap<Kind, Figures>,
    /// Postbacks as fast as they are answered.
    pub(super) most: BTreeMap<Kind, Figures>,
    /// Postbacks at half of the edge's most.
    pub(super) half: BTreeMap<Moments, Half>,
    pub(super) neighbours: BTreeMap<Neighbours, Figures>,
    pub(super) allocations: Figures,
    pub(super) slowest_allocation_millis: Rounds,
    /// What of the two cores went to other machines while each figure was taken.
    pub(super) stolen_percent: Rounds,
}

impl Figures {
    /// Adds a round.
    pub(super) fn add(&mut self, account: &Account) {
        let measured = account.measured as f64;
        let millis = |quantile| account.latency.calm().value_at_quantile(quantile) as f64 / 1e6;
        let seconds = account.elapsed.as_secs_f64();
        self.per_second.0.push(measured / seconds);
        let of_all = account.latency.all().value_at_quantile(0.99);
        self.p99_of_all.0.push(of_all as f64 / 1e6);
        self.p50.0.push(millis(0.5));
        self.p99.0.push(millis(0.99));
        self.p999.0.push(millis(0.999));
        let micros = account.cpu.as_secs_f64() * 1e6 / measured.max(1.0);
        self.cpu_micros.0.push(micros);
        self.calm_percent
            .0
            .push(account.latency.calm_share() * 100.0);
    }

    /// For the columns of [`LATENCIES`].
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

impl fmt::Display for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alone => "clicks, no function called",
            Self::Beside => "clicks beside functions that never end",
            Self::Hello => "hello beside functions that never end",
            Self::Spin => "functions that never end, until stopped",
        })
    }
}

/// A pace for people.
pub(super) struct Shown(pub(super) Pace);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Pace::AsAnswered => f.write_str("as fast as they are answered"),
            Pace::PerSecond(rate, moments) => write!(f, "{rate:.0} a second {moments}"),
        }
    }
}

impl Half {
    fn sheet(&self, moments: Moments) -> Sheet {
        let title = format!("Postbacks at half of the edge's most, {moments}, ms");
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
            "none: events written and synced there".into(),
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
        let halves = self.half.iter().map(|(moments, half)| half.sheet(*moments));
        let mut sheets = vec![self.most_sheet()];
        sheets.extend(halves);
        sheets.extend([self.neighbours_sheet(), self.machine_sheet()]);
        sheets
    }

    fn most_sheet(&self) -> Sheet {
        let title = "Calls as fast as they are answered, one core, ms (median of rounds)";
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
        let mut sheet = Sheet::new("Neighbours on one core, ms", &headings);
        let mut row = |what: String, figures: &Figures| {
            let begin = [what, figures.per_second.shown(0)];
            sheet.row(begin.into_iter().chain(figures.latencies()));
        };
        for (what, figures) in &self.neighbours {
            row(what.to_string(), figures);
        }
        row(
            "functions that want all memory, until stopped, one at a time".into(),
            &self.allocations,
        );
        sheet
    }

    fn machine_sheet(&self) -> Sheet {
        let title = "The machine while these figures were taken";
        let mut sheet = Sheet::new(title, &["of the two cores, in %", "median", "most"]);
        let stolen = &self.stolen_percent;
        sheet.row([
            "taken for other machines".into(),
            format!("{:.1}", stolen.median()),
            format!("{:.1}", stolen.0.iter().copied().fold(0.0, f64::max)),
        ]);
        sheet
    }

    /// What is wanted, and what was found.
    pub(super) fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for (kind, what, rate, p99) in [
            (Kind::Fresh, "hello, a fresh instance a call", 5_000.0, 5.0),
            (Kind::Reused, "hello, instances used again", 14_000.0, 3.0),
        ] {
            let figures = &self.hello[&kind];
            let found = figures.per_second.median();
            goals.push(Goal::at_least(&format!("{what}, calls/s"), rate, found));
            let found = Some(figures.p99.median());
            goals.push(Goal::new(&format!("{what}, p99 in ms"), p99, found));
        }
        for (moments, half) in &self.half {
            let what = format!("postbacks at half load, {moments}, p99 in ms");
            let found = half.servers[&Kind::Fresh].p99.median();
            goals.push(Goal::new(&what, 2.0, Some(found)));
        }
        let clicks = |which| &self.neighbours[&which].p99;
        let ratio = clicks(Neighbours::Beside).ratio(clicks(Neighbours::Alone));
        goals.push(Goal::new(
            "p99 of clicks beside functions that never end, to alone",
            2.0,
            Some(ratio.median()),
        ));
        goals.push(Goal::new(
            "slowest stop of a function that wants all memory, ms",
            100.0,
            Some(self.slowest_allocation_millis.median()),
        ));
        goals
    }
}
