//! Measures the cost of a function call, of a postback compared with native code, and the effect of functions that
//! never return on clicks.
//!
//! Servers use one core, the load generator the other. All servers run at once and are idle, except for the
//! measured one. Each figure of a round is measured on all servers before the next figure.

mod figures;
mod requests;
mod server;

use super::client::{self, LoadMode, LoadResult, Plan};
use super::machine::{Cores, Machine};
use super::requests::{ClickRequests, RequestSource};
use super::{Findings, create_work_dir};
use crate::interrupt::Interrupt;
use crate::links;
use anyhow::{Context as _, ensure};
use figures::{FunctionsResults, SharedCore};
use requests::{Postbacks, RepeatedRequest};
use server::{FunctionsServer, FunctionsServerKind};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const WARM_UP: Duration = Duration::from_millis(500);
/// Concurrent connections that call the hello function.
const HELLO_CONNECTIONS: usize = 16;
/// Concurrent connections that send postbacks.
const POSTBACK_CONNECTIONS: usize = 64;
/// Connections of clicks alongside functions.
const CLICK_CONNECTIONS: usize = 4;
/// Clicks per second alongside functions that never return.
const CLICK_RATE: f64 = 5_000.0;
/// Calls per second of a well-behaved function alongside those that never return.
const HELLO_RATE: f64 = 20.0;
/// Concurrent calls that never return.
const SPINNING_CALLS: usize = 100;

/// Options of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct FunctionsOptions {
    /// Number of rounds.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Duration of each measurement in seconds.
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
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

struct FunctionsBench<'o> {
    options: &'o FunctionsOptions,
    cores: Cores,
    work: PathBuf,
    results: FunctionsResults,
    interrupt: Interrupt,
}

/// Runs the benchmark, prints tables and writes them beside the figures.
///
/// # Errors
/// If a server fails, sends a wrong response, or has not logged every answered request; with `strict` also if a
/// goal is missed.
pub fn run(options: &FunctionsOptions) -> anyhow::Result<()> {
    ensure!(
        options.rounds > 0 && options.seconds > 0.0,
        "nothing to measure"
    );
    let mut bench = FunctionsBench {
        options,
        cores: Cores::find()?,
        work: create_work_dir(&options.out)?,
        results: FunctionsResults::default(),
        interrupt: Interrupt::listen()?,
    };
    for round in 0..options.rounds {
        bench.round(round)?;
    }
    let _ = fs::remove_dir_all(&bench.work);
    bench.finish()
}

impl FunctionsBench<'_> {
    fn round(&mut self, round: u32) -> anyhow::Result<()> {
        eprintln!("round {} of {}", round + 1, self.options.rounds);
        let mut servers = Vec::new();
        for kind in [
            FunctionsServerKind::Fresh,
            FunctionsServerKind::Reused,
            FunctionsServerKind::Native,
        ] {
            servers.push(FunctionsServer::start(kind, &self.work, self.cores)?);
        }
        // No server is always the first.
        let turn = round as usize % servers.len();
        servers.rotate_left(turn);
        for server in servers
            .iter()
            .filter(|it| it.kind != FunctionsServerKind::Native)
        {
            self.hello(server)?;
        }
        for server in &mut servers {
            self.postbacks(server)?;
        }
        let fresh = servers
            .iter_mut()
            .find(|it| it.kind == FunctionsServerKind::Fresh);
        self.shared_core(fresh.context("the first kind")?, round)?;
        for server in servers {
            server.stop()?;
        }
        Ok(())
    }

    /// The fixed cost of a call.
    fn hello(&mut self, server: &FunctionsServer) -> anyhow::Result<()> {
        self.progress(&format!("{}: hello", server.kind))?;
        let plan = self.plan(server, HELLO_CONNECTIONS, 200, LoadMode::Closed);
        let mut hello = RepeatedRequest::get("/hello");
        let result = client::run(&plan, &mut hello, &|| server.cpu_time())?;
        let figures = self.results.hello.entry(server.kind).or_default();
        figures.add(&result);
        Ok(())
    }

    fn postbacks(&mut self, server: &mut FunctionsServer) -> anyhow::Result<()> {
        self.progress(&format!("{}: postbacks", server.kind))?;
        let plan = self.plan(server, POSTBACK_CONNECTIONS, 200, LoadMode::Closed);
        let mut postbacks = Postbacks::new()?;
        let result = client::run(&plan, &mut postbacks, &|| server.cpu_time())
            .with_context(|| server.kind.to_string())?;
        server.postbacks += result.sent;
        let figures = self.results.postbacks.entry(server.kind).or_default();
        figures.add(&result);
        Ok(())
    }

    /// Clicks alone, and alongside functions that compute until they are stopped.
    fn shared_core(&mut self, server: &mut FunctionsServer, round: u32) -> anyhow::Result<()> {
        let alone_first = round.is_multiple_of(2);
        for alone in [alone_first, !alone_first] {
            let found = match alone {
                true => self.clicks_alone(server, round)?,
                false => self.clicks_beside(server, round)?,
            };
            for (what, result) in &found {
                let figures = self.results.shared_core.entry(*what).or_default();
                figures.add(result);
            }
        }
        Ok(())
    }

    fn clicks_alone(
        &self,
        server: &mut FunctionsServer,
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
        server: &mut FunctionsServer,
        round: u32,
    ) -> anyhow::Result<Vec<(SharedCore, LoadResult)>> {
        self.progress(&format!(
            "clicks alongside {SPINNING_CALLS} calls that never return"
        ))?;
        let failed = server.failed()?;
        let (plan, mut clicks) = self.clicks(server, round);
        let hello = self.plan(server, 1, 200, LoadMode::Open(HELLO_RATE));
        let spin = self.plan(server, SPINNING_CALLS, 500, LoadMode::Closed);
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

    fn clicks(&self, server: &FunctionsServer, round: u32) -> (Plan, ClickRequests) {
        let load_mode = LoadMode::Open(CLICK_RATE);
        let seed = self.options.seed.wrapping_add(u64::from(round) << 32);
        let clicks = ClickRequests::new(&links::sample_slugs(), 100_000, false, seed);
        (self.plan(server, CLICK_CONNECTIONS, 302, load_mode), clicks)
    }

    fn plan(
        &self,
        server: &FunctionsServer,
        connections: usize,
        expects: u16,
        load_mode: LoadMode,
    ) -> Plan {
        Plan {
            target: server.address,
            connections,
            keep_alive: true,
            expects,
            spin: true,
            load_mode,
            warm_up: WARM_UP,
            measured: Duration::from_secs_f64(self.options.seconds),
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
                "results": self.results,
            }),
            sheets: self.results.sheets(),
            goals: self.results.goals(),
            missing: Vec::new(),
        };
        findings.conclude(&options.out, &options.name, options.strict)
    }
}
