//! Runs the real processes under traffic, injects faults, and then compares every answered click with ClickHouse.

mod clock;
mod cluster;
mod context;
mod counts;
mod disks;
mod fleet;
mod injector;
mod namespaces;
mod relay;
mod scenario;
mod wrong_clock;

pub use scenario::Scenario;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::clickhouse::Analyst;
use crate::interrupt::Interrupt;
use crate::replay::{self, Outcome};
use crate::{traffic, verify};
use cluster::FaultCluster;

/// Maximum time until everything has arrived once faults have ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(180);
/// Lines of the traffic log, which is replayed in a loop.
const TRAFFIC_LINES: u64 = 20_000;
const CONNECTIONS: usize = 8;
const TABLE_HEADER: &str = "round  kills  answered   present  missing  doubled  unanswered    lost  intrusions  alerts  contradicted  seconds";
/// Clicks whose logged time differs more from now have a wrong time.
const MAX_AGE_SECONDS: u32 = 6 * 3_600;

/// Options of a chaos run.
#[derive(Debug, Clone, Args)]
pub struct ChaosOptions {
    /// The faults to inject.
    #[arg(long, value_enum)]
    pub scenario: Scenario,
    /// Number of rounds; after each all events must arrive.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// Seed of the schedule of faults. The processes' own timing is not reproducible.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Faults per round (kills in scenarios that kill); by default the scenario's own number.
    #[arg(long, value_name = "N", visible_alias = "kills")]
    pub faults: Option<u32>,
    /// Requests per second over all edges.
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// A directory with an older edge-tracker and aggregator, for the scenarios `upgrade` and `everything`.
    #[arg(long, value_name = "DIR")]
    pub old: Option<PathBuf>,
    /// A directory with the newer programs for these scenarios. Default: the directory of this program.
    #[arg(long, value_name = "DIR", requires = "old")]
    pub new: Option<PathBuf>,
    /// Keep data and logs in this directory. By default a temporary directory is removed unless the run fails.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// Results of all rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The scenario that ran.
    pub scenario: Scenario,
    /// Completed rounds.
    pub rounds: u32,
    /// Killed processes.
    pub kills: u64,
    /// Requests answered with a redirect or a pixel.
    pub answered: u64,
    /// Answered requests that are in ClickHouse.
    pub present: u64,
    /// Answered requests that are neither in ClickHouse nor counted as lost by an edge.
    pub missing: u64,
    /// Rows beyond one per request.
    pub duplicated: u64,
    /// Requests without a response; each is in ClickHouse at most once.
    pub unanswered: u64,
    /// Duration of the run.
    pub seconds: f64,
    /// The seed of the run.
    pub seed: u64,
    /// Requests that were answered though they could not be journaled, by the edges' counters.
    pub lost: u64,
    /// Clicks whose row has another id than their redirect.
    pub wrong_ids: u64,
    /// Faults that must alert an operator.
    pub intrusions: u64,
    /// Faults of these that raised a metric.
    pub alerts: u64,
    /// Conversions that differ from the result of their sorted reports, reports without a row, events in
    /// quarantine, and clicks with a wrong time.
    pub contradicted: u64,
}

/// Runs the scenario, prints a line per round and the verdict as JSON in the last line.
///
/// # Errors
/// If a process can't be started, or an answered request is missing, duplicated or has another id.
pub fn run(options: &ChaosOptions) -> anyhow::Result<()> {
    let verdict = run_scenario(options, &Interrupt::listen()?)?;
    println!("{}", serde_json::to_string(&verdict)?);
    if !verdict.passed() {
        bail!(
            "an answered request is missing, duplicated or has another id, an intrusion was not alerted, or a conversion \
             is in a wrong state"
        );
    }
    Ok(())
}

/// Runs the scenario without printing the verdict.
///
/// # Errors
/// If a process can't be started or events don't arrive in time.
pub fn run_scenario(options: &ChaosOptions, interrupt: &Interrupt) -> anyhow::Result<Verdict> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let mut dir = DataDir::create(options.keep.as_deref())?;
    let result = run_scenario_in(&dir.path, options, interrupt);
    if must_keep(&result, interrupt) {
        dir.keep();
        eprintln!("data and logs are kept in {}", dir.path.display());
    }
    result
}

/// The run failed, and it was not interrupted.
fn must_keep(result: &anyhow::Result<Verdict>, interrupt: &Interrupt) -> bool {
    interrupt.check().is_ok() && !result.as_ref().is_ok_and(Verdict::passed)
}

fn run_scenario_in(
    dir: &Path,
    options: &ChaosOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Verdict> {
    let log = dir.join("traffic.log");
    traffic::write(
        options.seed,
        TRAFFIC_LINES,
        &mut std::fs::File::create(&log)?,
    )?;
    let started = Instant::now();
    let dir = dir.join("stack");
    let builds = [options.old.as_deref(), options.new.as_deref()];
    let mut cluster = FaultCluster::start(&dir, options.scenario, options.seed, builds)?;
    for what in &cluster.skipped {
        println!("{what}");
    }
    let result = rounds(&mut cluster, options, &log, started, interrupt);
    if options.keep.is_none() && !must_keep(&result, interrupt) {
        cluster.discard_disks();
    }
    result
}

fn rounds(
    cluster: &mut FaultCluster,
    options: &ChaosOptions,
    log: &Path,
    started: Instant,
    interrupt: &Interrupt,
) -> anyhow::Result<Verdict> {
    let analyst = Analyst::new(&cluster.stack.clickhouse_url, &cluster.stack.credentials)?;
    let mut verdict = Verdict::new(options);
    println!("{TABLE_HEADER}");
    for number in 1..=options.rounds {
        interrupt.check()?;
        let round = Round {
            options,
            log,
            number,
        };
        let begun = Instant::now();
        let one = round.run(cluster, &analyst, verdict.lost, interrupt)?;
        println!(
            "{}",
            one.line(&number.to_string(), begun.elapsed().as_secs_f64())
        );
        verdict.add(&one);
    }
    verdict.seconds = (started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    println!("{}", verdict.line("all", verdict.seconds));
    cluster.stack.stop_edges_and_aggregator()?;
    Ok(verdict)
}

impl Verdict {
    const fn new(options: &ChaosOptions) -> Self {
        Self {
            scenario: options.scenario,
            rounds: 0,
            kills: 0,
            answered: 0,
            present: 0,
            missing: 0,
            duplicated: 0,
            unanswered: 0,
            seconds: 0.0,
            seed: options.seed,
            lost: 0,
            wrong_ids: 0,
            intrusions: 0,
            alerts: 0,
            contradicted: 0,
        }
    }

    const fn add(&mut self, other: &Self) {
        self.rounds += 1;
        self.kills += other.kills;
        self.answered += other.answered;
        self.present += other.present;
        self.missing += other.missing;
        self.duplicated += other.duplicated;
        self.unanswered += other.unanswered;
        self.lost += other.lost;
        self.wrong_ids += other.wrong_ids;
        self.intrusions += other.intrusions;
        self.alerts += other.alerts;
        self.contradicted += other.contradicted;
    }

    /// Every answered request is stored exactly once with its id or counted as lost, every intrusion raised a
    /// metric, and every conversion is in the right state.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.missing + self.duplicated + self.wrong_ids + self.contradicted == 0
            && self.intrusions == self.alerts
    }

    fn line(&self, round: &str, seconds: f64) -> String {
        format!(
            "{round:>5}  {:>5}  {:>8}  {:>8}  {:>7}  {:>7}  {:>10}  {:>6}  {:>10}  {:>6}  {:>12}  {seconds:>7.1}",
            self.kills,
            self.answered,
            self.present,
            self.missing,
            self.duplicated,
            self.unanswered,
            self.lost,
            self.intrusions,
            self.alerts,
            self.contradicted,
        )
    }
}

struct Round<'a> {
    options: &'a ChaosOptions,
    log: &'a Path,
    number: u32,
}

impl Round<'_> {
    fn run(
        &self,
        cluster: &mut FaultCluster,
        analyst: &Analyst,
        lost_before: u64,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Verdict> {
        let scenario = self.options.scenario;
        let stop = Arc::new(AtomicBool::new(false));
        let replaying = self.replay(cluster, stop.clone())?;
        let faults = self
            .options
            .faults
            .unwrap_or(scenario.default_faults_per_round());
        let seed = self.options.seed ^ (u64::from(self.number) << 32);
        let counts = cluster.run_faults(faults, seed, interrupt);
        stop.store(true, Ordering::Relaxed);
        let outcome = replaying.join().ok().context("the sender panicked")??;
        let counts = counts?;
        let lost = match scenario.may_lose_clicks() {
            true => cluster.lost()? - lost_before,
            false => 0,
        };
        let found = verify::verify(analyst, &outcome, lost, DRAIN_TIMEOUT)?;
        check_hourly_sums(analyst)?;
        let contradicted = counts.contradicted
            + cluster.contradicted(analyst)?
            + cluster.quarantined()?
            + wrong_times(analyst)?;
        let (answered, unanswered) = (
            outcome.answered.len() as u64,
            outcome.unanswered.len() as u64,
        );
        ensure!(
            lost <= found.missing + unanswered,
            "edges counted {lost} events as lost, but only {} are not there",
            found.missing
        );
        Ok(Verdict {
            kills: counts.kills,
            intrusions: counts.intrusions,
            alerts: counts.alerts,
            contradicted,
            answered,
            present: answered - found.missing,
            missing: found.missing.saturating_sub(lost),
            duplicated: found.duplicated,
            unanswered,
            lost,
            wrong_ids: found.wrong_ids,
            ..Verdict::new(self.options)
        })
    }

    fn replay(
        &self,
        cluster: &FaultCluster,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<Outcome>>> {
        let run = format!("chaos-{}", self.number);
        let options = replay::ReplayOptions {
            rate: Some(self.options.rate * self.options.scenario.rate_factor()),
            connections: CONNECTIONS,
            repeat: u32::MAX,
            progress: std::io::stderr().is_terminal(),
            stop,
            ..replay::ReplayOptions::new(self.log, &cluster.stack.edge_urls, &run)
        };
        let runtime = tokio::runtime::Runtime::new()?;
        Ok(std::thread::spawn(move || {
            runtime.block_on(replay::run(options))
        }))
    }
}

/// Checks that the hourly sums match the table.
fn check_hourly_sums(analyst: &Analyst) -> anyhow::Result<()> {
    let sql = "SELECT (SELECT sum(counted + bots + prefetches + heads) FROM clicks_by_hour) \
               - (SELECT count() FROM clicks)";
    let response = analyst.query(sql)?;
    ensure!(
        response.rows[0][0] == "0",
        "the hourly sums differ from the table by {}",
        response.rows[0][0]
    );
    Ok(())
}

/// Clicks with a time outside of this run.
fn wrong_times(analyst: &Analyst) -> anyhow::Result<u64> {
    let sql = format!(
        "SELECT countIf(abs(dateDiff('second', time, now64())) > {MAX_AGE_SECONDS}) FROM clicks"
    );
    Ok(analyst.query(&sql)?.rows[0][0].parse()?)
}

/// The run's data directory; removed unless it was given by the user.
struct DataDir {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl DataDir {
    fn create(keep: Option<&Path>) -> anyhow::Result<Self> {
        let temporary = match keep {
            Some(path) => {
                std::fs::create_dir_all(path)
                    .with_context(|| format!("failed to create {}", path.display()))?;
                None
            }
            None => {
                let named = tempfile::Builder::new()
                    .prefix("fanzfiliate-chaos-")
                    .tempdir();
                Some(named.context("failed to create a temporary directory")?)
            }
        };
        let path = temporary.as_ref().map(tempfile::TempDir::path).or(keep);
        Ok(Self {
            path: path.context("one of them")?.canonicalize()?,
            temporary,
        })
    }

    fn keep(&mut self) {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
    }
}
