//! What a click costs at the edge, beside nginx and beside servers that track nothing.
//!
//! All servers run at once, idle but for the one that is measured; each figure of a round is taken
//! of all of them before the next figure, so that what the machine does meanwhile hits all alike.

use super::client::{self, Account, Moments, Pace, Plan};
use super::machine::Machine;
use super::report::{Goal, Rounds, Sheet};
use super::requests::Requests;
use super::server::{Kind, Server, Setting};
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

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How often each figure is taken.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Seconds each figure is measured.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Connections at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 512])]
    pub connections: Vec<usize>,
    /// What to measure beside the edge.
    #[arg(long, value_delimiter = ',', default_values = ["nginx", "bare-hyper", "floor"])]
    beside: Vec<Kind>,
    /// The edge-tracker of another build, measured beside this one with the same settings.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Links in the table.
    #[arg(long, default_value_t = 12)]
    pub links: usize,
    /// Different visitors.
    #[arg(long, default_value_t = 100_000)]
    pub visitors: u64,
    /// Seed of the requests.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A MaxMind-format file of countries by address.
    #[arg(long, value_name = "FILE")]
    pub geo: PathBuf,
    /// Where results and the servers' files go.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    pub out: PathBuf,
    /// The results' name.
    #[arg(long, default_value = "click")]
    pub name: String,
    /// Fail when a goal is missed, not only when clicks are.
    #[arg(long)]
    pub strict: bool,
}

/// One way of sending, of which each server gets a figure a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Load {
    connections: usize,
    keep_alive: bool,
}

/// What one server's rounds of one load gave.
#[derive(Debug, Default, Serialize)]
struct Figures {
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
struct Results {
    figures: BTreeMap<(Load, Kind), Figures>,
    latencies: BTreeMap<Kind, Latencies>,
    click_log_p99_micros: Rounds,
    click_log_p999_micros: Rounds,
}

struct Bench<'o> {
    options: &'o Options,
    setting: Setting,
    kinds: Vec<Kind>,
    results: Results,
    interrupt: Interrupt,
}

/// Runs the benchmark, prints tables and writes them beside the figures.
///
/// # Errors
/// When a server fails or did not log what it answered; with `strict` also when a goal is missed.
pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.rounds > 0 && options.seconds > 0.0,
        "nothing to measure"
    );
    let setting = prepare(&options.out, &options.geo, options.links)?;
    let mut bench = Bench {
        setting: Setting {
            earlier: options.before.clone(),
            ..setting
        },
        options,
        kinds: Vec::new(),
        results: Results::default(),
        interrupt: Interrupt::listen()?,
    };
    let mut missing = Vec::new();
    let wanted = |kind: &Kind| match kind {
        Kind::Edge => true,
        Kind::EarlierEdge => options.before.is_some(),
        peer => options.beside.contains(peer),
    };
    for kind in Kind::ALL.into_iter().filter(wanted) {
        match kind.lacks() {
            None => bench.kinds.push(kind),
            Some(lack) => missing.push(format!("{kind} is missing: {lack}")),
        }
    }
    missing.iter().for_each(|line| eprintln!("{line}"));
    for round in 0..options.rounds {
        bench.round(round)?;
    }
    let _ = fs::remove_dir_all(&bench.setting.dir);
    bench.finish(missing)
}

impl Bench<'_> {
    fn round(&mut self, round: u32) -> anyhow::Result<()> {
        let mut servers = Vec::new();
        for kind in &self.kinds {
            servers.push((Server::start(*kind, &self.setting)?, 0_u64));
        }
        for load in self.loads() {
            self.progress(round, &format!("{load}"));
            // Nobody is always the one who comes first.
            servers.rotate_left(1);
            for (server, answered) in &mut servers {
                let account = self.measure(server, load, Pace::AsAnswered, round)?;
                *answered += account.sent;
                let figures = self.results.figures.entry((load, server.kind)).or_default();
                let measured = account.measured as f64;
                let cpu = account.cpu.as_secs_f64() * 1e6 / measured;
                figures.cpu_micros.0.push(cpu);
                let rate = measured / account.elapsed.as_secs_f64();
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

    /// All at the same rate: half of what the edge can do.
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
            let account = self.measure(
                server,
                load,
                Pace::PerSecond(rate, Moments::AtRandom),
                round,
            )?;
            *answered += account.sent;
            let latencies = self.results.latencies.entry(server.kind).or_default();
            let micros = |quantile| account.latency.all().value_at_quantile(quantile) as f64 / 1e3;
            let sent = account.measured as f64 / account.elapsed.as_secs_f64();
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
        pace: Pace,
        round: u32,
    ) -> anyhow::Result<Account> {
        self.interrupt.check()?;
        let slugs: Vec<String> = self
            .setting
            .slugs
            .iter()
            .map(|link| link.0.clone())
            .collect();
        let options = self.options;
        let seed = options.seed.wrapping_add(u64::from(round) << 32);
        let mut requests = Requests::new(&slugs, options.visitors, !load.keep_alive, seed);
        let plan = Plan {
            target: server.address,
            connections: load.connections,
            keep_alive: load.keep_alive,
            expects: 302,
            spin: true,
            pace,
            warm_up: Duration::from_millis(500),
            measured: Duration::from_secs_f64(options.seconds),
            cores: None,
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

    /// What goals and the open loop are about: 64 connections kept open, or what is nearest.
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
        // What is within the spread of the rounds is noise.
        let unchanged = ratio(Kind::EarlierEdge).map(|ratio| {
            let what = "CPU of a request, to the earlier edge's";
            Goal::new(what, 1.0 + ratio.spread(), Some(ratio.median()))
        });
        let absolute = [
            Goal::new("CPU of a request, to nginx's", 0.95, against(Kind::Nginx)),
            Goal::new(
                "CPU of a request, to bare hyper's",
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

    fn cost_sheet(&self) -> Sheet {
        let title = "Server CPU per request and most requests a second (median of rounds)";
        let headings = [
            "load",
            "server",
            "CPU µs",
            "requests/s",
            "edge's CPU to its",
        ];
        let mut sheet = Sheet::new(title, &headings);
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

    fn latency_sheet(&self) -> Sheet {
        let title = format!("Latency at a fixed rate, {}, in µs", self.main_load());
        let headings = ["server", "requests/s", "p50", "p99", "p99.9"];
        let mut sheet = Sheet::new(&title, &headings);
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
            "edge: to acceptance (click_log)".into(),
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
            "kept open"
        } else {
            "one request each"
        };
        let plural = if self.connections == 1 { "" } else { "s" };
        write!(f, "{} connection{plural}, {kind}", self.connections)
    }
}
