//! Measures the cost of a function call, of a postback compared with native code, and the effect of functions that
//! never return or allocate without limit on other traffic.
//!
//! Servers use one core, the load generator the other. All servers run at once and are idle, except for the
//! measured one. Each figure of a round is measured on all servers before the next figure. A measurement with much
//! steal time is repeated. The cores are kept from halting, if that is allowed.

mod disk;
mod figures;
mod requests;
mod server;

use super::client::{self, Arrivals, LoadMode, LoadResult, Plan};
use super::machine::{Cores, CpuLatencyGuard, Machine, StealTime};
use super::requests::{ClickRequests, RequestSource};
use super::{Findings, create_work_dir};
use crate::interrupt::Interrupt;
use crate::links;
use anyhow::{Context as _, ensure};
use figures::{LoadModeText, Results, SharedCore};
use requests::{Postbacks, RepeatedRequest};
use server::{Kind, Server};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const WARM_UP: Duration = Duration::from_millis(500);
/// Maximum share of steal time during a measurement.
const MAX_STEAL_SHARE: f64 = 0.02;
/// Maximum number of attempts per measurement; the one with the least steal time counts.
const MAX_ATTEMPTS: u32 = 5;
/// Connections of clicks alongside functions.
const CLICK_CONNECTIONS: usize = 4;
/// Calls per second of a well-behaved function alongside those that never return.
const HELLO_RATE: f64 = 20.0;

/// Options of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Number of rounds.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Duration of each measurement in seconds.
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// Concurrent connections that call the hello function.
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// Concurrent connections that send postbacks.
    #[arg(long, default_value_t = 64)]
    pub postback_connections: usize,
    /// Clicks per second alongside functions that never return.
    #[arg(long, default_value_t = 5_000.0)]
    pub clicks: f64,
    /// Concurrent connections that call a function that never returns.
    #[arg(long, default_value_t = 100)]
    pub spinning: usize,
    /// Seed of the clicks.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Directory for results and the servers' files.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub out: PathBuf,
    /// Base name of the result files.
    #[arg(long, default_value = "functions")]
    pub name: String,
    /// Fail if a goal is missed, not only if a response is wrong or an answered request is not in the journal.
    #[arg(long)]
    pub strict: bool,
}

struct Bench<'o> {
    options: &'o Options,
    cores: Cores,
    work: PathBuf,
    results: Results,
    latency_guard: Option<CpuLatencyGuard>,
    interrupt: Interrupt,
    /// Number of runs of postbacks; each uses other transactions.
    postback_runs: u32,
}

/// Runs the benchmark, prints tables and writes them beside the figures.
///
/// # Errors
/// If a server fails, sends a wrong response, or has not logged every answered request; with `strict` also if a
/// goal is missed.
pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.rounds > 0 && options.seconds > 0.0,
        "nothing to measure"
    );
    let mut bench = Bench {
        options,
        cores: Cores::find()?,
        work: create_work_dir(&options.out)?,
        results: Results::default(),
        latency_guard: CpuLatencyGuard::acquire(),
        interrupt: Interrupt::listen()?,
        postback_runs: 0,
    };
    if bench.latency_guard.is_none() {
        eprintln!("idle cores may halt, which increases latencies: preventing that needs root");
    }
    for round in 0..options.rounds {
        bench.round(round)?;
    }
    let _ = fs::remove_dir_all(&bench.work);
    bench.finish()
}

impl Bench<'_> {
    fn round(&mut self, round: u32) -> anyhow::Result<()> {
        let mut servers = Vec::new();
        for kind in [Kind::Fresh, Kind::Reused, Kind::Native] {
            servers.push(Server::start(kind, &self.work, self.cores)?);
        }
        // No server is always the first.
        let turn = round as usize % servers.len();
        servers.rotate_left(turn);
        for server in servers.iter().filter(|it| it.kind != Kind::Native) {
            self.hello(server)?;
        }
        for server in &mut servers {
            self.max_postbacks(server)?;
        }
        for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
            for server in &mut servers {
                self.postbacks_at_half(server, arrivals)?;
            }
            self.disk_alone(arrivals)?;
        }
        let fresh = servers.iter_mut().find(|it| it.kind == Kind::Fresh);
        let fresh = fresh.context("the first kind")?;
        self.allocations(fresh)?;
        self.neighbours(fresh, round)?;
        for server in servers {
            server.stop()?;
        }
        Ok(())
    }

    /// Repeats `measure` until there was little steal time.
    fn with_little_steal<T>(
        &mut self,
        mut measure: impl FnMut(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut calmest: Option<(f64, T)> = None;
        for _ in 0..MAX_ATTEMPTS {
            let stolen = StealTime::from_now(self.cores)?;
            let found = measure(self)?;
            let stolen = stolen.share()?;
            if calmest.as_ref().is_none_or(|(least, _)| stolen < *least) {
                calmest = Some((stolen, found));
            }
            if stolen <= MAX_STEAL_SHARE {
                break;
            }
            let percent = stolen * 100.0;
            eprintln!("  {percent:.1}% steal time during the measurement");
        }
        let (stolen, found) = calmest.context("no attempt")?;
        self.results.stolen_percent.0.push(stolen * 100.0);
        Ok(found)
    }

    /// The fixed cost of a call.
    fn hello(&mut self, server: &Server) -> anyhow::Result<()> {
        let result = self.with_little_steal(|bench| {
            bench.progress(&format!("{}: hello", server.kind))?;
            let plan = bench.plan(server, bench.options.connections, 200, LoadMode::Closed);
            client::run(&plan, &mut RepeatedRequest::get("/hello"), &|| {
                server.cpu_time()
            })
        })?;
        let figures = self.results.hello.entry(server.kind).or_default();
        figures.add(&result);
        Ok(())
    }

    fn max_postbacks(&mut self, server: &mut Server) -> anyhow::Result<()> {
        let result = self.with_little_steal(|bench| bench.postbacks(server, LoadMode::Closed))?;
        let figures = self.results.most.entry(server.kind).or_default();
        figures.add(&result);
        Ok(())
    }

    /// Half of the edge's maximum.
    fn half(&self) -> f64 {
        self.results.most[&Kind::Fresh].per_second.median() / 2.0
    }

    /// All servers at the same rate.
    fn postbacks_at_half(&mut self, server: &mut Server, arrivals: Arrivals) -> anyhow::Result<()> {
        let rate = self.half();
        let result = self
            .with_little_steal(|bench| bench.postbacks(server, LoadMode::Open(rate, arrivals)))?;
        let half = self.results.half.entry(arrivals).or_default();
        half.servers.entry(server.kind).or_default().add(&result);
        Ok(())
    }

    /// As many events as postbacks at half of the edge's maximum.
    fn disk_alone(&mut self, arrivals: Arrivals) -> anyhow::Result<()> {
        let (rate, duration) = (self.half(), Duration::from_secs_f64(self.options.seconds));
        let result = self.with_little_steal(|bench| {
            let load_mode = LoadModeText(LoadMode::Open(rate, arrivals));
            bench.progress(&format!("no server: events, {load_mode}"))?;
            disk::run(&bench.work, bench.cores, rate, arrivals, duration)
        })?;
        let half = self.results.half.entry(arrivals).or_default();
        half.disk.add(&result);
        Ok(())
    }

    fn postbacks(
        &mut self,
        server: &mut Server,
        load_mode: LoadMode,
    ) -> anyhow::Result<LoadResult> {
        self.progress(&format!(
            "{}: postbacks, {}",
            server.kind,
            LoadModeText(load_mode)
        ))?;
        let plan = self.plan(server, self.options.postback_connections, 200, load_mode);
        self.postback_runs += 1;
        let mut postbacks = Postbacks::new(format!("bench{}", self.postback_runs))?;
        let result = client::run(&plan, &mut postbacks, &|| server.cpu_time())
            .with_context(|| server.kind.to_string())?;
        server.postbacks += result.sent;
        Ok(result)
    }

    /// Functions that allocate without limit, one after another on an idle machine.
    fn allocations(&mut self, server: &Server) -> anyhow::Result<()> {
        let result = self.with_little_steal(|bench| {
            bench.progress("a function that allocates without end")?;
            let plan = bench.plan(server, 1, 500, LoadMode::Closed);
            client::run(&plan, &mut RepeatedRequest::get("/allocate"), &|| {
                server.cpu_time()
            })
        })?;
        let slowest = result.latency.all().max() as f64 / 1e6;
        self.results.allocations.add(&result);
        self.results.slowest_allocation_millis.0.push(slowest);
        Ok(())
    }

    /// Clicks alone, and alongside functions that compute until they are stopped.
    fn neighbours(&mut self, server: &mut Server, round: u32) -> anyhow::Result<()> {
        let calm_first = round.is_multiple_of(2);
        for alone in [calm_first, !calm_first] {
            let found = self.with_little_steal(|bench| match alone {
                true => bench.clicks_alone(server, round),
                false => bench.clicks_beside(server, round),
            })?;
            for (what, result) in &found {
                let figures = self.results.neighbours.entry(*what).or_default();
                figures.add(result);
            }
        }
        Ok(())
    }

    fn clicks_alone(
        &self,
        server: &mut Server,
        round: u32,
    ) -> anyhow::Result<Vec<(SharedCore, LoadResult)>> {
        self.progress("clicks alone")?;
        let (plan, mut clicks) = self.clicks(server, round);
        let result = client::run(&plan, &mut clicks, &|| server.cpu_time())?;
        server.clicks += result.sent;
        Ok(vec![(SharedCore::Alone, result)])
    }

    fn clicks_beside(
        &self,
        server: &mut Server,
        round: u32,
    ) -> anyhow::Result<Vec<(SharedCore, LoadResult)>> {
        let spinning = self.options.spinning;
        self.progress(&format!(
            "clicks alongside {spinning} calls that never return"
        ))?;
        let failed = server.failed()?;
        let (plan, mut clicks) = self.clicks(server, round);
        let hello = self.plan(
            server,
            1,
            200,
            LoadMode::Open(HELLO_RATE, Arrivals::Poisson),
        );
        let spin = self.plan(server, spinning, 500, LoadMode::Closed);
        let (mut hellos, mut spins) = (
            RepeatedRequest::get("/hello"),
            RepeatedRequest::get("/spin"),
        );
        let results = client::run_streams(
            &mut [
                (&plan, &mut clicks as &mut dyn RequestSource),
                (&hello, &mut hellos),
                (&spin, &mut spins),
            ],
            &|| server.cpu_time(),
        )?;
        let failed = server.failed()? - failed;
        let [clicks, _, spins] = &results[..] else {
            unreachable!("one result per plan");
        };
        server.clicks += clicks.sent;
        ensure!(
            failed == spins.sent as f64,
            "{} calls never return, but {failed} calls failed",
            spins.sent
        );
        let whats = [SharedCore::Beside, SharedCore::Hello, SharedCore::Spin];
        Ok(whats.into_iter().zip(results).collect())
    }

    fn clicks(&self, server: &Server, round: u32) -> (Plan, ClickRequests) {
        let load_mode = LoadMode::Open(self.options.clicks, Arrivals::Poisson);
        let seed = self.options.seed.wrapping_add(u64::from(round) << 32);
        let clicks = ClickRequests::new(&links::sample_slugs(), 100_000, false, seed);
        (self.plan(server, CLICK_CONNECTIONS, 302, load_mode), clicks)
    }

    fn plan(&self, server: &Server, connections: usize, expects: u16, load_mode: LoadMode) -> Plan {
        Plan {
            target: server.address,
            connections,
            keep_alive: true,
            expects,
            spin: true,
            load_mode,
            warm_up: WARM_UP,
            measured: Duration::from_secs_f64(self.options.seconds),
            cores: Some(self.cores),
        }
    }

    fn progress(&self, what: &str) -> anyhow::Result<()> {
        eprintln!("{what}");
        self.interrupt.check()
    }

    fn finish(&self) -> anyhow::Result<()> {
        let options = self.options;
        let findings = Findings {
            json: serde_json::json!({
                "machine": Machine::this(),
                "rounds": options.rounds,
                "seconds": options.seconds,
                "connections": options.connections,
                "postback_connections": options.postback_connections,
                "clicks_per_second": options.clicks,
                "spinning": options.spinning,
                "cores_may_halt": self.latency_guard.is_none(),
                "results": self.results,
            }),
            sheets: self.results.sheets(),
            goals: self.results.goals(),
            missing: Vec::new(),
        };
        findings.conclude(&options.out, &options.name, options.strict)
    }
}
