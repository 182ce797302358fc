//! Measures how the costs of aggregator and ClickHouse depend on the number of edges: the same clicks from one edge
//! and from many.
//!
//! Edges are simulated in this process; aggregator and ClickHouse are real, and all share two cores.

mod clicks;
mod edge;
mod fleet;
mod schedule;

use super::client::{Arrivals, LoadMode};
use super::machine::Machine;
use super::report::{Rounds, Sheet};
use super::rows::{VISIBILITY_TIMEOUT, check_rows};
use super::stages::{Figures, SETTLE_DURATION, Stages, processes};
use super::{Findings, create_work_dir};
use crate::clickhouse::Analyst;
use crate::interrupt::Interrupt;
use crate::stack::{Stack, wait_for_tables};
use crate::verify::{Distribution, counter};
use anyhow::{Context as _, bail, ensure};
use edge::Shipped;
use fleet::Fleet;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const FRESHNESS: &str = "aggregator_freshness_seconds";
const BLOCKS: &str = "aggregator_blocks_total";

/// Options of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Numbers of edges, measured one after another; 256 is the aggregator's default limit.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 200],
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub edges: Vec<u16>,
    /// Clicks per second of all edges together.
    #[arg(long, default_value_t = 20_000.0)]
    pub rate: f64,
    /// Seconds of clicks per measurement.
    #[arg(long, default_value_t = 15.0)]
    pub seconds: f64,
    /// Send this many clicks at full speed instead.
    #[arg(long, conflicts_with_all = ["rate", "seconds"])]
    pub clicks: Option<u64>,
    /// Number of rounds.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// Directory for results and the processes' files.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub out: PathBuf,
    /// Base name of the result files.
    #[arg(long, default_value = "edges")]
    pub name: String,
}

/// Results for one number of edges.
#[derive(Debug, Serialize)]
struct Step {
    clicks_per_second: f64,
    cpu_micros: Figures,
    resident_mb: Figures,
    freshness_p50_seconds: f64,
    freshness_p99_seconds: f64,
    inserts_per_second: f64,
    clicks_per_batch: f64,
    batch_bytes_per_click: f64,
    udp_bytes_per_click: f64,
}

struct Bench<'o> {
    options: &'o Options,
    clicks: u64,
    load_mode: LoadMode,
    dir: PathBuf,
    interrupt: Interrupt,
}

/// Runs the benchmark, prints a table and writes it beside the figures.
///
/// # Errors
/// If a process or an edge fails, or a click is missing or duplicated.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (clicks, load_mode) = match options.clicks {
        Some(clicks) => (clicks, LoadMode::Closed),
        None => (
            (options.rate * options.seconds) as u64,
            LoadMode::Open(options.rate, Arrivals::Uniform),
        ),
    };
    ensure!(
        options.rounds > 0 && options.rate > 0.0 && options.seconds > 0.0 && clicks > 0,
        "nothing to measure"
    );
    let bench = Bench {
        options,
        clicks,
        load_mode,
        dir: create_work_dir(&options.out)?,
        interrupt: Interrupt::listen()?,
    };
    let mut found: BTreeMap<u16, Vec<Step>> = BTreeMap::new();
    for round in 1..=options.rounds {
        for &edges in &options.edges {
            eprintln!("round {round} of {}: edges: {edges}", options.rounds);
            let step = bench.measure(edges);
            let step = step.with_context(|| format!("edges: {edges}"))?;
            found.entry(edges).or_default().push(step);
        }
    }
    let _ = fs::remove_dir_all(&bench.dir);
    bench
        .findings(&found)
        .conclude(&options.out, &options.name, false)
}

impl Bench<'_> {
    /// A round with this many edges on a fresh aggregator and ClickHouse.
    fn measure(&self, edges: u16) -> anyhow::Result<Step> {
        let dir = self.dir.join("edges");
        let _ = fs::remove_dir_all(&dir);
        let stack = Stack::start(&dir, 0, None, |_| {})?;
        wait_for_tables(&stack.aggregator_admin_url, &dir)?;
        let step = self.step(edges, &stack)?;
        let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials)?;
        check_rows(&analyst, self.clicks)?;
        stack.stop()?;
        Ok(step)
    }

    fn step(&self, edges: u16, stack: &Stack) -> anyhow::Result<Step> {
        let stages = Stages(vec![
            ("aggregator", processes(&stack.aggregator)?),
            ("engine", processes(&stack.engine)?),
        ]);
        let admin = &stack.aggregator_admin_url;
        let runtime = tokio::runtime::Runtime::new()?;
        let fleet = runtime.block_on(Fleet::connect(edges, stack))?;
        let cpu_spent = stages.cpu_spent()?;
        let started = Instant::now();
        let shipped = runtime.block_on(self.ship(fleet))?;
        let elapsed = started.elapsed().as_secs_f64();
        std::thread::sleep(SETTLE_DURATION);
        let fresh = Distribution::read(std::slice::from_ref(admin), FRESHNESS)?;
        let clicks = self.clicks as f64;
        Ok(Step {
            clicks_per_second: clicks / elapsed,
            cpu_micros: stages.micros_since(&cpu_spent, self.clicks)?,
            resident_mb: stages.resident_mb()?,
            freshness_p50_seconds: fresh.quantile(0.5),
            freshness_p99_seconds: fresh.quantile(0.99),
            inserts_per_second: counter(admin, BLOCKS)? / elapsed,
            clicks_per_batch: clicks / shipped.batches as f64,
            batch_bytes_per_click: shipped.batch_bytes as f64 / clicks,
            udp_bytes_per_click: shipped.udp_bytes as f64 / clicks,
        })
    }

    /// Ships all clicks, with a time limit.
    async fn ship(&self, fleet: Fleet) -> anyhow::Result<Shipped> {
        let within = VISIBILITY_TIMEOUT + Duration::from_secs_f64(self.options.seconds);
        let mut interrupt = self.interrupt.clone();
        tokio::select! {
            shipped = fleet.ship(self.clicks, self.load_mode) => shipped,
            () = tokio::time::sleep(within) => bail!("not all clicks were stored within {within:?}"),
            () = interrupt.received() => bail!("interrupted"),
        }
    }

    fn findings(&self, found: &BTreeMap<u16, Vec<Step>>) -> Findings {
        Findings {
            json: serde_json::json!({
                "machine": Machine::this(),
                "rounds": self.options.rounds,
                "clicks": self.clicks,
                "rate": match self.load_mode {
                    LoadMode::Closed => None,
                    LoadMode::Open(rate, _) => Some(rate),
                },
                "edges": found,
            }),
            sheets: vec![sheet(found)],
            goals: Vec::new(),
            missing: Vec::new(),
        }
    }
}

fn sheet(found: &BTreeMap<u16, Vec<Step>>) -> Sheet {
    let headings = [
        "edges",
        "clicks/s",
        "aggregator µs",
        "engine µs",
        "aggregator MB",
        "engine MB",
        "fresh p50 s",
        "fresh p99 s",
        "inserts/s",
        "clicks/batch",
        "batch B",
        "UDP B",
    ];
    let title = "Aggregator and engine by number of edges; CPU µs and bytes are per click";
    let mut sheet = Sheet::new(title, &headings);
    for (edges, steps) in found {
        let rounds = |value: &dyn Fn(&Step) -> f64| Rounds(steps.iter().map(value).collect());
        let median = |value: &dyn Fn(&Step) -> f64, decimals: usize| {
            let value = rounds(value).median();
            format!("{value:.decimals$}")
        };
        let stage = |name: &'static str| rounds(&|step| step.cpu_micros[name]).shown(2);
        let shared = |name: &'static str| median(&|step| step.resident_mb[name], 0);
        sheet.row([
            edges.to_string(),
            median(&|step| step.clicks_per_second, 0),
            stage("aggregator"),
            stage("engine"),
            shared("aggregator"),
            shared("engine"),
            median(&|step| step.freshness_p50_seconds, 2),
            median(&|step| step.freshness_p99_seconds, 2),
            median(&|step| step.inserts_per_second, 2),
            median(&|step| step.clicks_per_batch, 0),
            median(&|step| step.batch_bytes_per_click, 1),
            median(&|step| step.udp_bytes_per_click, 1),
        ]);
    }
    sheet
}
