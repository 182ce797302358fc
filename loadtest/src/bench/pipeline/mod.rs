//! Measures the cost of a click from the visitor to a row in ClickHouse, compared with nginx whose log is inserted
//! with ClickHouse's own JSON reader.
//!
//! All processes share two cores, including the load generator. CPU time is the kernel's count for each process.

mod ours;
mod peer;
pub mod tail;

use super::client::{self, LoadMode, LoadResult, Plan};
use super::machine::Machine;
use super::report::{Goal, Rounds, TextTable};
use super::requests::ClickRequests;
use super::server::{BenchSetup, Kind};
use super::stages::{SETTLE_DURATION, StageFigures, Stages};
use super::{Findings, prepare};
use crate::interrupt::Interrupt;
use anyhow::ensure;
use ours::Step;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 64;

/// Options of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct PipelineOptions {
    /// Number of rounds.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// Seconds of clicks per measurement.
    #[arg(long, default_value_t = 6.0)]
    pub seconds: f64,
    /// Number of distinct visitors.
    #[arg(long, default_value_t = 100_000)]
    pub visitors: u64,
    /// Seed of the requests.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A MaxMind file of countries by IP address.
    #[arg(long, value_name = "FILE")]
    pub geo: PathBuf,
    /// Directory for results and the processes' files.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub out: PathBuf,
    /// Base name of the result files.
    #[arg(long, default_value = "pipeline")]
    pub name: String,
    /// Fail if a goal is missed, not only if clicks are lost.
    #[arg(long)]
    pub strict: bool,
}

/// CPU time per click of each stage in µs, and the number of clicks per second.
#[derive(Debug, Default, Serialize)]
struct Cost {
    stages: BTreeMap<&'static str, Rounds>,
    total: Rounds,
    clicks_per_second: Rounds,
}

#[derive(Debug, Default)]
struct PipelineResults {
    ours: Cost,
    nginx: Cost,
    peer: Cost,
    steps: BTreeMap<u32, Vec<Step>>,
    bytes: BTreeMap<&'static str, Rounds>,
}

struct PipelineBench<'o> {
    options: &'o PipelineOptions,
    setup: BenchSetup,
    results: PipelineResults,
    interrupt: Interrupt,
}

/// Runs the benchmark, prints tables and writes them beside the figures.
///
/// # Errors
/// If a process fails or a click is missing or duplicated; with `strict` also if a goal is missed.
pub fn run(options: &PipelineOptions) -> anyhow::Result<()> {
    ensure!(
        options.rounds > 0 && options.seconds > 0.0,
        "nothing to measure"
    );
    let mut setup = prepare(&options.out, &options.geo, 12)?;
    setup.cores = setup.cores.shared();
    let mut bench = PipelineBench {
        setup,
        options,
        results: PipelineResults::default(),
        interrupt: Interrupt::listen()?,
    };
    let missing: Vec<String> = Kind::Nginx
        .missing_requirement()
        .map(|requirement| format!("nginx is missing: {requirement}"))
        .into_iter()
        .collect();
    missing.iter().for_each(|line| eprintln!("{line}"));
    for round in 0..options.rounds {
        bench.ours(round)?;
        if missing.is_empty() {
            bench.nginx_alone(round)?;
            bench.nginx_inserted(round)?;
        }
    }
    let _ = fs::remove_dir_all(&bench.setup.dir);
    bench.finish(missing)
}

/// A measured run of clicks.
struct CarriedClicks {
    answered: u64,
    elapsed: Duration,
    cpu_micros: StageFigures,
}

impl PipelineBench<'_> {
    /// Sends clicks for the duration of one measurement.
    fn send(
        &self,
        target: SocketAddr,
        load_mode: LoadMode,
        salt: u64,
    ) -> anyhow::Result<LoadResult> {
        self.interrupt.check()?;
        let slugs: Vec<String> = self.setup.slugs.iter().map(|link| link.0.clone()).collect();
        let seed = self.options.seed.wrapping_add(salt << 32);
        let mut requests = ClickRequests::new(&slugs, self.options.visitors, false, seed);
        let plan = Plan {
            target,
            connections: CONNECTIONS,
            keep_alive: true,
            expects: 302,
            spin: false,
            load_mode,
            warm_up: Duration::ZERO,
            measured: Duration::from_secs_f64(self.options.seconds),
        };
        client::run(&plan, &mut requests, &|| Ok(Duration::ZERO))
    }

    /// Sends clicks in closed loop, waits with `arrived` until all have been stored, and returns the cost by stage.
    fn measure_clicks(
        &self,
        target: SocketAddr,
        stages: &Stages,
        round: u32,
        arrived: impl FnOnce(u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<CarriedClicks> {
        let before = stages.cpu_spent()?;
        let started = Instant::now();
        let result = self.send(target, LoadMode::Closed, u64::from(round))?;
        arrived(result.sent)?;
        let elapsed = started.elapsed();
        std::thread::sleep(SETTLE_DURATION);
        Ok(CarriedClicks {
            answered: result.sent,
            elapsed,
            cpu_micros: stages.micros_since(&before, result.sent)?,
        })
    }

    fn progress(&self, round: u32, what: &str) {
        eprintln!("round {} of {}: {what}", round + 1, self.options.rounds);
    }
}

impl Cost {
    fn add(&mut self, carried: &CarriedClicks) {
        for (name, micros) in &carried.cpu_micros {
            self.stages.entry(name).or_default().0.push(*micros);
        }
        self.total.0.push(carried.cpu_micros.values().sum());
        let rate = carried.answered as f64 / carried.elapsed.as_secs_f64();
        self.clicks_per_second.0.push(rate);
    }
}

impl PipelineBench<'_> {
    fn finish(&self, missing: Vec<String>) -> anyhow::Result<()> {
        let results = &self.results;
        let goals = self.goals();
        let sheets = [self.cost_sheet(), self.step_sheet(), self.bytes_sheet()];
        let json = serde_json::json!({
            "machine": Machine::this(),
            "visitors": self.options.visitors,
            "rounds": self.options.rounds,
            "seconds": self.options.seconds,
            "ours": results.ours,
            "nginx": results.nginx,
            "peer": results.peer,
            "loads": results.steps,
            "bytes_per_click": results.bytes,
        });
        let findings = Findings {
            json,
            sheets: sheets.into(),
            goals,
            missing,
        };
        let options = self.options;
        findings.conclude(&options.out, &options.name, options.strict)
    }

    fn goals(&self) -> Vec<Goal> {
        let results = &self.results;
        let to = |other: &Cost| {
            let ratio = results.ours.total.ratio(&other.total);
            (!ratio.0.is_empty()).then(|| ratio.median())
        };
        let half = results.steps.get(&50).map(|steps| {
            Rounds(
                steps
                    .iter()
                    .map(|step| step.freshness_p99_seconds)
                    .collect(),
            )
            .median()
        });
        vec![
            Goal::new(
                "CPU per click, relative to nginx with its log alone",
                1.4,
                to(&results.nginx),
            ),
            Goal::new(
                "CPU per click, relative to nginx with its log inserted",
                0.85,
                to(&results.peer),
            ),
            Goal::new("freshness p99 at half of the maximum, s", 2.0, half),
        ]
    }

    fn cost_sheet(&self) -> TextTable {
        let title = "CPU per click by process in µs, and clicks per second on two cores";
        let headings = ["pipeline", "process", "CPU µs", "clicks/s"];
        let mut sheet = TextTable::new(title, &headings);
        let results = &self.results;
        for (name, cost) in [
            ("ours", &results.ours),
            ("nginx, log only", &results.nginx),
            ("nginx, log inserted", &results.peer),
        ] {
            for (stage, micros) in &cost.stages {
                sheet.row([name.into(), (*stage).into(), micros.shown(2), String::new()]);
            }
            let rate = cost.clicks_per_second.shown(0);
            sheet.row([name.into(), "all".into(), cost.total.shown(2), rate]);
        }
        sheet
    }

    fn step_sheet(&self) -> TextTable {
        let headings = [
            "load",
            "clicks/s",
            "fresh p50 s",
            "fresh p99 s",
            "edge µs",
            "aggregator µs",
            "engine µs",
            "edge MB",
            "aggregator MB",
            "engine MB",
        ];
        let mut sheet = TextTable::new("Ours at shares of the maximum", &headings);
        for (share, steps) in &self.results.steps {
            let median = |value: &dyn Fn(&Step) -> f64, decimals: usize| {
                let value = Rounds(steps.iter().map(value).collect()).median();
                format!("{value:.decimals$}")
            };
            let stage = |name: &'static str| median(&|step| step.cpu_micros[name], 2);
            let shared = |name: &'static str| median(&|step| step.resident_mb[name], 0);
            sheet.row([
                format!("{share}%"),
                median(&|step| step.clicks_per_second, 0),
                median(&|step| step.freshness_p50_seconds, 2),
                median(&|step| step.freshness_p99_seconds, 2),
                stage("edge"),
                stage("aggregator"),
                stage("engine"),
                shared("edge"),
                shared("aggregator"),
                shared("engine"),
            ]);
        }
        sheet
    }

    fn bytes_sheet(&self) -> TextTable {
        let mut sheet = TextTable::new("Bytes per click", &["where", "bytes"]);
        for (place, bytes) in &self.results.bytes {
            sheet.row([(*place).into(), bytes.shown(1)]);
        }
        sheet
    }
}
