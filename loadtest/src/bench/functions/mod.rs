//! What a call of a function costs, what a postback costs beside the same decisions compiled natively,
//! and what functions that compute without end, or want all memory, do to their neighbours.
//!
//! Servers are on one core, the load generator on the other. All servers run at once, idle but for the
//! one that is measured; each figure of a round is taken of all of them before the next figure. One that
//! was taken while the machine's host gave much of the two cores to other machines is taken again. The cores do
//! not halt meanwhile, if that is allowed.

mod disk;
mod figures;
mod requests;
mod server;

use super::client::{self, Account, Moments, Pace, Plan};
use super::machine::{Awake, Cores, Machine, Stolen};
use super::requests::{Requests, Source};
use super::{Findings, work_folder};
use crate::interrupt::Interrupt;
use crate::links;
use anyhow::{Context as _, ensure};
use figures::{Neighbours, Results, Shown};
use requests::{Postbacks, Same};
use server::{Kind, Server};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const WARM_UP: Duration = Duration::from_millis(500);
/// What of the two cores may be taken for other machines while a figure is taken.
const CALM: f64 = 0.02;
/// So often a figure is taken at most; that of the calmest time counts.
const ATTEMPTS: u32 = 5;
/// Connections that clicks come on, beside functions.
const CLICK_CONNECTIONS: usize = 4;
/// Calls a second of a well-behaved function, beside those that are not.
const BESIDE: f64 = 20.0;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How often each figure is taken.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Seconds each figure is measured.
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// Connections at once that call a function that only says hello.
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// Connections at once that postbacks are fired on.
    #[arg(long, default_value_t = 64)]
    pub postback_connections: usize,
    /// Clicks a second, beside functions that compute without end.
    #[arg(long, default_value_t = 5_000.0)]
    pub clicks: f64,
    /// Connections at once that call a function that computes without end.
    #[arg(long, default_value_t = 100)]
    pub spinning: usize,
    /// Seed of the clicks.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where results and the servers' files go.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    pub out: PathBuf,
    /// The results' name.
    #[arg(long, default_value = "functions")]
    pub name: String,
    /// Fail when a goal is missed, not only when something is not answered as it should be, or answered
    /// but not in the journal.
    #[arg(long)]
    pub strict: bool,
}

struct Bench<'o> {
    options: &'o Options,
    cores: Cores,
    work: PathBuf,
    results: Results,
    awake: Option<Awake>,
    interrupt: Interrupt,
    /// Postbacks have been fired so often, each time others.
    fired: u32,
}

/// Runs the benchmark, prints tables and writes them beside the figures.
///
/// # Errors
/// When a server fails, answers otherwise than it should, or has not logged what it answered; with
/// `strict` also when a goal is missed.
pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.rounds > 0 && options.seconds > 0.0,
        "nothing to measure"
    );
    let mut bench = Bench {
        options,
        cores: Cores::find()?,
        work: work_folder(&options.out)?,
        results: Results::default(),
        awake: Awake::keep(),
        interrupt: Interrupt::listen()?,
        fired: 0,
    };
    if bench.awake.is_none() {
        eprintln!(
            "the cores may halt while they have nothing to do: only root can keep them from it"
        );
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
        // Nobody is always the one who comes first.
        let turn = round as usize % servers.len();
        servers.rotate_left(turn);
        for server in servers.iter().filter(|it| it.kind != Kind::Native) {
            self.hello(server)?;
        }
        for server in &mut servers {
            self.most_postbacks(server)?;
        }
        for moments in [Moments::Evenly, Moments::AtRandom] {
            for server in &mut servers {
                self.postbacks_at_half(server, moments)?;
            }
            self.no_server(moments)?;
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

    /// What `measure` gives at a time when nobody else wants the cores.
    fn calmly<T>(
        &mut self,
        mut measure: impl FnMut(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut calmest: Option<(f64, T)> = None;
        for _ in 0..ATTEMPTS {
            let stolen = Stolen::from_now(self.cores)?;
            let found = measure(self)?;
            let stolen = stolen.share()?;
            if calmest.as_ref().is_none_or(|(least, _)| stolen < *least) {
                calmest = Some((stolen, found));
            }
            if stolen <= CALM {
                break;
            }
            let percent = stolen * 100.0;
            eprintln!("  {percent:.1}% of the cores went to other machines meanwhile");
        }
        let (stolen, found) = calmest.context("no attempt")?;
        self.results.stolen_percent.0.push(stolen * 100.0);
        Ok(found)
    }

    /// The dearest part of a call is what it costs to be one.
    fn hello(&mut self, server: &Server) -> anyhow::Result<()> {
        let account = self.calmly(|bench| {
            bench.progress(&format!("{}: hello", server.kind))?;
            let plan = bench.plan(server, bench.options.connections, 200, Pace::AsAnswered);
            client::run(&plan, &mut Same::get("/hello"), &|| server.cpu_time())
        })?;
        let figures = self.results.hello.entry(server.kind).or_default();
        figures.add(&account);
        Ok(())
    }

    fn most_postbacks(&mut self, server: &mut Server) -> anyhow::Result<()> {
        let account = self.calmly(|bench| bench.postbacks(server, Pace::AsAnswered))?;
        let figures = self.results.most.entry(server.kind).or_default();
        figures.add(&account);
        Ok(())
    }

    /// Half of what the edge can do.
    fn half(&self) -> f64 {
        self.results.most[&Kind::Fresh].per_second.median() / 2.0
    }

    /// All at the same rate.
    fn postbacks_at_half(&mut self, server: &mut Server, moments: Moments) -> anyhow::Result<()> {
        let rate = self.half();
        let account =
            self.calmly(|bench| bench.postbacks(server, Pace::PerSecond(rate, moments)))?;
        let half = self.results.half.entry(moments).or_default();
        half.servers.entry(server.kind).or_default().add(&account);
        Ok(())
    }

    /// As many events as there are postbacks at half of the edge's most.
    fn no_server(&mut self, moments: Moments) -> anyhow::Result<()> {
        let (rate, lasts) = (self.half(), Duration::from_secs_f64(self.options.seconds));
        let account = self.calmly(|bench| {
            let pace = Shown(Pace::PerSecond(rate, moments));
            bench.progress(&format!("no server: events, {pace}"))?;
            disk::run(&bench.work, bench.cores, rate, moments, lasts)
        })?;
        let half = self.results.half.entry(moments).or_default();
        half.disk.add(&account);
        Ok(())
    }

    fn postbacks(&mut self, server: &mut Server, pace: Pace) -> anyhow::Result<Account> {
        self.progress(&format!("{}: postbacks, {}", server.kind, Shown(pace)))?;
        let plan = self.plan(server, self.options.postback_connections, 200, pace);
        self.fired += 1;
        let mut postbacks = Postbacks::new(format!("bench{}", self.fired))?;
        let account = client::run(&plan, &mut postbacks, &|| server.cpu_time())
            .with_context(|| server.kind.to_string())?;
        server.postbacks += account.sent;
        Ok(account)
    }

    /// Who wants all memory, one after another on an idle machine.
    fn allocations(&mut self, server: &Server) -> anyhow::Result<()> {
        let account = self.calmly(|bench| {
            bench.progress("a function that allocates without end")?;
            let plan = bench.plan(server, 1, 500, Pace::AsAnswered);
            client::run(&plan, &mut Same::get("/allocate"), &|| server.cpu_time())
        })?;
        let slowest = account.latency.all().max() as f64 / 1e6;
        self.results.allocations.add(&account);
        self.results.slowest_allocation_millis.0.push(slowest);
        Ok(())
    }

    /// Clicks by themselves, and beside functions that compute until they are stopped.
    fn neighbours(&mut self, server: &mut Server, round: u32) -> anyhow::Result<()> {
        let calm_first = round.is_multiple_of(2);
        for alone in [calm_first, !calm_first] {
            let found = self.calmly(|bench| match alone {
                true => bench.clicks_alone(server, round),
                false => bench.clicks_beside(server, round),
            })?;
            for (what, account) in &found {
                let figures = self.results.neighbours.entry(*what).or_default();
                figures.add(account);
            }
        }
        Ok(())
    }

    fn clicks_alone(
        &self,
        server: &mut Server,
        round: u32,
    ) -> anyhow::Result<Vec<(Neighbours, Account)>> {
        self.progress("clicks by themselves")?;
        let (plan, mut clicks) = self.clicks(server, round);
        let account = client::run(&plan, &mut clicks, &|| server.cpu_time())?;
        server.clicks += account.sent;
        Ok(vec![(Neighbours::Alone, account)])
    }

    fn clicks_beside(
        &self,
        server: &mut Server,
        round: u32,
    ) -> anyhow::Result<Vec<(Neighbours, Account)>> {
        let spinning = self.options.spinning;
        self.progress(&format!("clicks beside {spinning} calls that never end"))?;
        let failed = server.failed()?;
        let (plan, mut clicks) = self.clicks(server, round);
        let hello = self.plan(server, 1, 200, Pace::PerSecond(BESIDE, Moments::AtRandom));
        let spin = self.plan(server, spinning, 500, Pace::AsAnswered);
        let (mut hellos, mut spins) = (Same::get("/hello"), Same::get("/spin"));
        let accounts = client::run_beside(
            &mut [
                (&plan, &mut clicks as &mut dyn Source),
                (&hello, &mut hellos),
                (&spin, &mut spins),
            ],
            &|| server.cpu_time(),
        )?;
        let failed = server.failed()? - failed;
        let [clicks, _, spins] = &accounts[..] else {
            unreachable!("as many accounts as plans");
        };
        server.clicks += clicks.sent;
        ensure!(
            failed == spins.sent as f64,
            "{} functions computed without end, but {failed} calls failed",
            spins.sent
        );
        let whats = [Neighbours::Beside, Neighbours::Hello, Neighbours::Spin];
        Ok(whats.into_iter().zip(accounts).collect())
    }

    fn clicks(&self, server: &Server, round: u32) -> (Plan, Requests) {
        let pace = Pace::PerSecond(self.options.clicks, Moments::AtRandom);
        let seed = self.options.seed.wrapping_add(u64::from(round) << 32);
        let clicks = Requests::new(&links::sample_slugs(), 100_000, false, seed);
        (self.plan(server, CLICK_CONNECTIONS, 302, pace), clicks)
    }

    fn plan(&self, server: &Server, connections: usize, expects: u16, pace: Pace) -> Plan {
        Plan {
            target: server.address,
            connections,
            keep_alive: true,
            expects,
            spin: true,
            pace,
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
                "cores_may_halt": self.awake.is_none(),
                "results": self.results,
            }),
            sheets: self.results.sheets(),
            goals: self.results.goals(),
            missing: Vec::new(),
        };
        findings.conclude(&options.out, &options.name, options.strict)
    }
}
