//! Results of the rounds, their tables, and their goals.

use super::super::client::LoadResult;
use super::super::report::{Goal, Rounds, TextTable};
use super::server::FunctionsServerKind;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Results of the rounds of one measurement. Latencies are in ms.
#[derive(Debug, Default, Serialize)]
pub(super) struct CallFigures {
    pub(super) per_second: Rounds,
    pub(super) p50: Rounds,
    pub(super) p99: Rounds,
    pub(super) cpu_micros: Rounds,
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

/// All results.
#[derive(Debug, Default, Serialize)]
pub(super) struct FunctionsResults {
    pub(super) hello: BTreeMap<FunctionsServerKind, CallFigures>,
    pub(super) postbacks: BTreeMap<FunctionsServerKind, CallFigures>,
    pub(super) shared_core: BTreeMap<SharedCore, CallFigures>,
}

impl CallFigures {
    /// Adds a round.
    pub(super) fn add(&mut self, result: &LoadResult) {
        let measured = result.measured as f64;
        let millis = |quantile| result.latency.value_at_quantile(quantile) as f64 / 1e6;
        let seconds = result.elapsed.as_secs_f64();
        self.per_second.0.push(measured / seconds);
        self.p50.0.push(millis(0.5));
        self.p99.0.push(millis(0.99));
        let micros = result.cpu.as_secs_f64() * 1e6 / measured.max(1.0);
        self.cpu_micros.0.push(micros);
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

impl FunctionsResults {
    /// All tables.
    pub(super) fn sheets(&self) -> Vec<TextTable> {
        let headings = [
            "call",
            "server",
            "calls/s",
            "CPU µs",
            "its CPU / native's",
            "p50",
            "p99",
        ];
        let title = "Calls in closed loop on one core, ms (median of rounds)";
        let mut calls = TextTable::new(title, &headings);
        for (call, by_kind) in [("hello", &self.hello), ("postback", &self.postbacks)] {
            for (kind, figures) in by_kind {
                let native = by_kind.get(&FunctionsServerKind::Native);
                let ratio = native.map(|it| figures.cpu_micros.ratio(&it.cpu_micros).shown(1));
                calls.row([
                    call.into(),
                    kind.to_string(),
                    figures.per_second.shown(0),
                    figures.cpu_micros.shown(1),
                    ratio.unwrap_or_default(),
                    figures.p50.shown(2),
                    figures.p99.shown(2),
                ]);
            }
        }
        let headings = ["what", "calls/s", "p50", "p99"];
        let mut shared = TextTable::new("Traffic sharing one core, ms", &headings);
        for (what, figures) in &self.shared_core {
            shared.row([
                what.to_string(),
                figures.per_second.shown(0),
                figures.p50.shown(2),
                figures.p99.shown(2),
            ]);
        }
        vec![calls, shared]
    }

    pub(super) fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for (kind, what, rate, p99) in [
            (
                FunctionsServerKind::Fresh,
                "hello, a fresh instance per call",
                5_000.0,
                5.0,
            ),
            (
                FunctionsServerKind::Reused,
                "hello, reused instances",
                14_000.0,
                3.0,
            ),
        ] {
            let figures = &self.hello[&kind];
            let found = figures.per_second.median();
            goals.push(Goal::at_least(&format!("{what}, calls/s"), rate, found));
            let found = Some(figures.p99.median());
            goals.push(Goal::new(&format!("{what}, p99 in ms"), p99, found));
        }
        let clicks = |which| &self.shared_core[&which].p99;
        let ratio = clicks(SharedCore::Beside).ratio(clicks(SharedCore::Alone));
        goals.push(Goal::new(
            "p99 of clicks alongside functions that never return, relative to alone",
            2.0,
            Some(ratio.median()),
        ));
        goals
    }
}
