//! Measures the cost of a click at the edge, compared with nginx and with bare hyper, which tracks nothing.
//!
//! All servers run at once and are idle, except for the measured one. Each figure of a round is measured on all
//! servers before the next figure, so that disturbances of the machine affect all of them equally.

use super::client::{self, LoadMode, LoadResult, Plan};
use super::machine::Machine;
use super::report::{Goal, Rounds, TextTable};
use super::requests::ClickRequests;
use super::server::{BenchSetup, Kind, Server};
use super::{Findings, prepare};
use crate::interrupt::Interrupt;
use crate::verify::Distribution;
use anyhow::{Context as _, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const CLICK_LOG: &str = "edge_click_log_seconds";

/// Options of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct ClickOptions {
    /// Number of rounds.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Duration of each measurement in seconds.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Numbers of concurrent connections, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 512])]
    pub connections: Vec<usize>,
    /// Servers to compare with, separated by commas.
    #[arg(long, value_delimiter = ',', default_values = ["nginx", "bare-hyper"])]
    beside: Vec<Kind>,
    /// The edge-tracker of another build, measured with the same settings.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Number of links in the table.
    #[arg(long, default_value_t = 12)]
    pub links: usize,
    /// Number of distinct visitors.
    #[arg(long, default_value_t = 100_000)]
    pub visitors: u64,
    /// Seed of the requests.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A MaxMind file of countries by IP address.
    #[arg(long, value_name = "FILE")]
    pub geo: PathBuf,
    /// Directory for results and the servers' files.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub out: PathBuf,
    /// Base name of the result files.
    #[arg(long, default_value = "click")]
    pub name: String,
    /// Fail if a goal is missed, not only if clicks are lost.
    #[arg(long)]
    pub strict: bool,
}

/// A kind of load; each server gets one figure per round and load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Load {
    connections: usize,
    keep_alive: bool,
}

/// Results of a server under one load.
#[derive(Debug, Default, Serialize)]
struct LoadFigures {
    cpu_micros: Rounds,
    requests_per_second: Rounds,
}

#[derive(Debug, Default, Serialize)]
struct Latencies {
    rate: Rounds,
    p50_micros: Rounds,
    p99_micros: Rounds,
    p999_micros: Rounds,
}

#[derive(Debug, Default)]
struct ClickResults {
    figures: BTreeMap<(Load, Kind), LoadFigures>,
    latencies: BTreeMap<Kind, Latencies>,
    click_log_p99_micros: Rounds,
    click_log_p999_micros: Rounds,
}

struct ClickBench<'o> {
    options: &'o ClickOptions,
    setup: BenchSetup,
    kinds: Vec<Kind>,
    results: ClickResults,
    interrupt: Interrupt,
}

/// Runs the benchmark, prints tables and writes them beside the figures.
///
/// # Errors
/// If a server fails or did not log every answered click; with `strict` also if a goal is missed.
pub fn run(options: &ClickOptions) -> anyhow::Result<()> {
    ensure!(
        options.rounds > 0 && options.seconds > 0.0,
        "nothing to measure"
    );
    let setup = prepare(&options.out, &options.geo, options.links)?;
    let mut bench = ClickBench {
        setup: BenchSetup {
            earlier: options.before.clone(),
            ..setup
        },
        options,
        kinds: Vec::new(),
        results: ClickResults::default(),
        interrupt: Interrupt::listen()?,
    };
    let mut missing = Vec::new();
    let wanted = |kind: &Kind| match kind {
        Kind::Edge => true,
        Kind::EarlierEdge => options.before.is_some(),
        peer => options.beside.contains(peer),
    };
    for kind in Kind::ALL.into_iter().filter(wanted) {
        match kind.missing_requirement() {
            None => bench.kinds.push(kind),
            Some(requirement) => missing.push(format!("{kind} is missing: {requirement}")),
        }
    }
    missing.iter().for_each(|line| eprintln!("{line}"));
    for round in 0..options.rounds {
        bench.round(round)?;
    }
    let _ = fs::remove_dir_all(&bench.setup.dir);
    bench.finish(missing)
}

impl ClickBench<'_> {
    fn round(&mut self, round: u32) -> anyhow::Result<()> {
        let mut servers = Vec::new();
        for kind in &self.kinds {
            servers.push((Server::start(*kind, &self.setup)?, 0_u64));
        }
        for load in self.loads() {
            self.progress(round, &format!("{load}"));
            // No server is always the first.
            servers.rotate_left(1);
            for (server, answered) in &mut servers {
                let result = self.measure(server, load, LoadMode::Closed, round)?;
                *answered += result.sent;
                let figures = self.results.figures.entry((load, server.kind)).or_default();
                let measured = result.measured as f64;
                let cpu = result.cpu.as_secs_f64() * 1e6 / measured;
                figures.cpu_micros.0.push(cpu);
                let rate = measured / result.elapsed.as_secs_f64();
                figures.requests_per_second.0.push(rate);
            }
        }
        self.open_loop(round, &mut servers)?;
        for (server, answered) in servers {
            let kind = server.kind;
            server.stop(answered).with_context(|| kind.name())?;
        }
        Ok(())
    }

    /// All servers at the same rate: half of the edge's maximum.
    fn open_loop(&mut self, round: u32, servers: &mut [(Server, u64)]) -> anyhow::Result<()> {
        let load = self.main_load();
        let most = &self.results.figures[&(load, Kind::Edge)].requests_per_second;
        let rate = most.median() / 2.0;
        self.progress(round, &format!("{load}, {rate:.0} requests/s"));
        for (server, answered) in servers {
            let admin = server.admin().filter(|_| server.kind == Kind::Edge);
            let urls = admin.map(|url| vec![url.to_owned()]);
            let before = urls
                .as_ref()
                .map(|urls| Distribution::read(urls, CLICK_LOG))
                .transpose()?;
            let result = self.measure(server, load, LoadMode::Open(rate), round)?;
            *answered += result.sent;
            let latencies = self.results.latencies.entry(server.kind).or_default();
            let micros = |quantile| result.latency.value_at_quantile(quantile) as f64 / 1e3;
            let sent = result.measured as f64 / result.elapsed.as_secs_f64();
            latencies.rate.0.push(sent);
            latencies.p50_micros.0.push(micros(0.5));
            latencies.p99_micros.0.push(micros(0.99));
            latencies.p999_micros.0.push(micros(0.999));
            if let (Some(urls), Some(before)) = (urls, before) {
                let logged = Distribution::read(&urls, CLICK_LOG)?.since(&before);
                let results = &mut self.results;
                let p99 = logged.quantile(0.99) * 1e6;
                results.click_log_p99_micros.0.push(p99);
                let p999 = logged.quantile(0.999) * 1e6;
                results.click_log_p999_micros.0.push(p999);
            }
        }
        Ok(())
    }

    fn measure(
        &self,
        server: &Server,
        load: Load,
        load_mode: LoadMode,
        round: u32,
    ) -> anyhow::Result<LoadResult> {
        self.interrupt.check()?;
        let slugs: Vec<String> = self.setup.slugs.iter().map(|link| link.0.clone()).collect();
        let options = self.options;
        let seed = options.seed.wrapping_add(u64::from(round) << 32);
        let mut requests = ClickRequests::new(&slugs, options.visitors, !load.keep_alive, seed);
        let plan = Plan {
            target: server.address,
            connections: load.connections,
            keep_alive: load.keep_alive,
            expects: 302,
            spin: true,
            load_mode,
            warm_up: Duration::from_millis(500),
            measured: Duration::from_secs_f64(options.seconds),
        };
        client::run(&plan, &mut requests, &|| server.cpu_time())
            .with_context(|| format!("{}, {load}", server.kind))
    }

    fn loads(&self) -> Vec<Load> {
        let all = |keep_alive| {
            self.options
                .connections
                .iter()
                .map(move |&connections| Load {
                    connections,
                    keep_alive,
                })
        };
        all(true).chain(all(false)).collect()
    }

    /// The load that goals and the open loop use: 64 keep-alive connections, or the nearest number.
    fn main_load(&self) -> Load {
        let connections = self.options.connections.iter().copied();
        Load {
            connections: connections.min_by_key(|&n| n.abs_diff(64)).unwrap_or(64),
            keep_alive: true,
        }
    }

    fn progress(&self, round: u32, what: &str) {
        eprintln!("round {} of {}: {what}", round + 1, self.options.rounds);
    }

    fn finish(&self, missing: Vec<String>) -> anyhow::Result<()> {
        let goals = self.goals();
        let json = serde_json::json!({
            "machine": Machine::this(),
            "links": self.options.links,
            "visitors": self.options.visitors,
            "rounds": self.options.rounds,
            "seconds": self.options.seconds,
            "closed_loop": self.results.figures.iter().map(|((load, kind), figures)| {
                serde_json::json!({ "load": load, "server": kind, "figures": figures })
            }).collect::<Vec<_>>(),
            "open_loop": self.results.latencies,
            "click_log_p99_micros": self.results.click_log_p99_micros,
            "click_log_p999_micros": self.results.click_log_p999_micros,
        });
        let findings = Findings {
            json,
            sheets: vec![self.cost_sheet(), self.latency_sheet()],
            goals,
            missing,
        };
        let options = self.options;
        findings.conclude(&options.out, &options.name, options.strict)
    }

    fn goals(&self) -> Vec<Goal> {
        let load = self.main_load();
        let ratio = |peer| {
            let cpu = |kind| Some(&self.results.figures.get(&(load, kind))?.cpu_micros);
            Some(cpu(Kind::Edge)?.ratio(cpu(peer)?))
        };
        let against = |peer| ratio(peer).map(|ratio| ratio.median());
        let results = &self.results;
        // Differences within the spread of the rounds are noise.
        let unchanged = ratio(Kind::EarlierEdge).map(|ratio| {
            let what = "CPU per request, relative to the earlier edge";
            Goal::new(what, 1.0 + ratio.spread(), Some(ratio.median()))
        });
        let absolute = [
            Goal::new(
                "CPU per request, relative to nginx",
                0.95,
                against(Kind::Nginx),
            ),
            Goal::new(
                "CPU per request, relative to bare hyper",
                1.30,
                against(Kind::BareHyper),
            ),
            Goal::new(
                "click_log p99, µs",
                100.0,
                Some(results.click_log_p99_micros.median()),
            ),
            Goal::new(
                "click_log p99.9, µs",
                1_000.0,
                Some(results.click_log_p999_micros.median()),
            ),
        ];
        unchanged.into_iter().chain(absolute).collect()
    }

    fn cost_sheet(&self) -> TextTable {
        let title = "Server CPU per request and maximum requests per second (median of rounds)";
        let headings = [
            "load",
            "server",
            "CPU µs",
            "requests/s",
            "edge's CPU / its CPU",
        ];
        let mut sheet = TextTable::new(title, &headings);
        for ((load, kind), figures) in &self.results.figures {
            let edge = &self.results.figures[&(*load, Kind::Edge)].cpu_micros;
            let ratio = edge.ratio(&figures.cpu_micros);
            sheet.row([
                load.to_string(),
                kind.to_string(),
                figures.cpu_micros.shown(2),
                figures.requests_per_second.shown(0),
                ratio.shown(2),
            ]);
        }
        sheet
    }

    fn latency_sheet(&self) -> TextTable {
        let title = format!("Latency at a fixed rate, {}, in µs", self.main_load());
        let headings = ["server", "requests/s", "p50", "p99", "p99.9"];
        let mut sheet = TextTable::new(&title, &headings);
        for (kind, latencies) in &self.results.latencies {
            sheet.row([
                kind.to_string(),
                latencies.rate.shown(0),
                latencies.p50_micros.shown(0),
                latencies.p99_micros.shown(0),
                latencies.p999_micros.shown(0),
            ]);
        }
        sheet.row([
            "edge: until accepted (click_log)".into(),
            String::new(),
            String::new(),
            self.results.click_log_p99_micros.shown(1),
            self.results.click_log_p999_micros.shown(1),
        ]);
        sheet
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.keep_alive {
            "keep-alive"
        } else {
            "one request each"
        };
        let plural = if self.connections == 1 { "" } else { "s" };
        write!(f, "{} connection{plural}, {kind}", self.connections)
    }
}
