//! Real processes under traffic while they are killed and what they stand on fails; then every answered
//! click is compared with ClickHouse.

mod arena;
mod clock;
mod disks;
mod fleet;
mod hand;
mod namespaces;
mod relay;
mod scenario;
mod toll;
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
use crate::{links, traffic, verify};
use arena::Arena;

/// Once faults have ended, everything must have arrived within this.
const DRAINED_WITHIN: Duration = Duration::from_secs(180);
/// Lines of traffic before it begins again.
const LINES: u64 = 20_000;
const CONNECTIONS: usize = 8;
const HEADINGS: &str = "round  kills  answered   present  missing  doubled  unanswered    lost  intrusions  alerts  contradicted  seconds";
/// Clicks that are logged further from now than this, in seconds, have a wrong time.
const MAX_AGE_SECONDS: u32 = 6 * 3_600;

/// What is to go wrong, and how long.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What goes wrong.
    #[arg(long, value_enum)]
    pub scenario: Scenario,
    /// Rounds; after each all must have arrived.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// Says what happens when, and to whom; the processes' own timing it can't say.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Faults (kills, where processes are killed) in each round, instead of what is usual for the scenario.
    #[arg(long, value_name = "N", visible_alias = "kills")]
    pub faults: Option<u32>,
    /// Requests a second over all edges.
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// A folder with older edge-tracker and aggregator, for the scenarios `upgrade` and `everything`.
    #[arg(long, value_name = "FOLDER")]
    pub old: Option<PathBuf>,
    /// Keep data and logs here instead of in a folder that is removed unless something was wrong.
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

/// What came of it, over all rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What went wrong.
    pub scenario: Scenario,
    /// Rounds done.
    pub rounds: u32,
    /// Processes killed.
    pub kills: u64,
    /// Requests answered with a redirect or pixel.
    pub answered: u64,
    /// Of those, how many are in ClickHouse.
    pub present: u64,
    /// Answered, not in ClickHouse, and not counted as lost by an edge.
    pub missing: u64,
    /// Rows beyond one for each request.
    pub duplicated: u64,
    /// Requests without an answer; each is in ClickHouse at most once.
    pub unanswered: u64,
    /// From start to end.
    pub seconds: f64,
    /// As given.
    pub seed: u64,
    /// Answered though there was no room to log them, as the edges counted it.
    pub lost: u64,
    /// Clicks whose row has another id than the visitor was sent away with.
    pub wrong_ids: u64,
    /// Things done that an operator must be alerted to.
    pub intrusions: u64,
    /// Those of which a metric told.
    pub alerts: u64,
    /// Conversions in a state that their sorted reports contradict, reports without a row, events in quarantine, and
    /// clicks with a wrong time.
    pub contradicted: u64,
}

/// Runs the scenario, prints a line for each round and the verdict as the last line.
///
/// # Errors
/// When something can't be started, or an answered request is missing, doubled or has another id.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let verdict = judge(options, &Interrupt::listen()?)?;
    println!("{}", serde_json::to_string(&verdict)?);
    if !verdict.is_right() {
        bail!(
            "an answered request is missing, doubled or has another id, an intrusion was not alerted, or a conversion \
             stands otherwise than it must"
        );
    }
    Ok(())
}

/// Runs the scenario.
///
/// # Errors
/// When something can't be started or does not drain.
pub fn judge(options: &Options, interrupt: &Interrupt) -> anyhow::Result<Verdict> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let mut folder = Folder::make(options.keep.as_deref())?;
    let judged = judge_in(&folder.path, options, interrupt);
    if is_to_be_kept(&judged, interrupt) {
        folder.keep = true;
        eprintln!("data and logs are kept in {}", folder.path.display());
    }
    judged
}

/// Something was wrong, and nobody wanted it to end early.
fn is_to_be_kept(judged: &anyhow::Result<Verdict>, interrupt: &Interrupt) -> bool {
    interrupt.check().is_ok() && !judged.as_ref().is_ok_and(Verdict::is_right)
}

fn judge_in(folder: &Path, options: &Options, interrupt: &Interrupt) -> anyhow::Result<Verdict> {
    let log = folder.join("traffic.log");
    traffic::write(options.seed, LINES, &mut std::fs::File::create(&log)?)?;
    let started = Instant::now();
    let dir = folder.join("stack");
    let mut arena = Arena::start(&dir, options.scenario, options.seed, options.old.as_deref())?;
    for what in &arena.left_out {
        println!("{what}");
    }
    let judged = rounds(&mut arena, options, &log, started, interrupt);
    if options.keep.is_none() && !is_to_be_kept(&judged, interrupt) {
        arena.forget_disks();
    }
    judged
}

fn rounds(
    arena: &mut Arena,
    options: &Options,
    log: &Path,
    started: Instant,
    interrupt: &Interrupt,
) -> anyhow::Result<Verdict> {
    let analyst = Analyst::new(&arena.stack.clickhouse_url, &arena.stack.credentials)?;
    let mut verdict = Verdict::new(options);
    println!("{HEADINGS}");
    for number in 1..=options.rounds {
        interrupt.check()?;
        let round = Round {
            options,
            log,
            number,
        };
        let begun = Instant::now();
        let one = round.run(arena, &analyst, verdict.lost, interrupt)?;
        println!(
            "{}",
            one.line(&number.to_string(), begun.elapsed().as_secs_f64())
        );
        verdict.add(&one);
    }
    verdict.seconds = (started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    println!("{}", verdict.line("all", verdict.seconds));
    arena.stack.stop_edges_and_aggregator()?;
    Ok(verdict)
}

impl Verdict {
    const fn new(options: &Options) -> Self {
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

    /// Every answered request is there, once, as it was answered, or counted as lost; every intrusion was alerted,
    /// and no conversion stands otherwise than it must.
    #[must_use]
    pub const fn is_right(&self) -> bool {
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
    options: &'a Options,
    log: &'a Path,
    number: u32,
}

impl Round<'_> {
    fn run(
        &self,
        arena: &mut Arena,
        analyst: &Analyst,
        lost_before: u64,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Verdict> {
        let scenario = self.options.scenario;
        let stop = Arc::new(AtomicBool::new(false));
        let replaying = self.replay(arena, stop.clone())?;
        let faults = self.options.faults.unwrap_or(scenario.faults_per_round());
        let seed = self.options.seed ^ (u64::from(self.number) << 32);
        let suffered = arena.suffer(faults, seed, interrupt);
        stop.store(true, Ordering::Relaxed);
        let outcome = replaying.join().ok().context("the sender panicked")??;
        let toll = suffered?;
        let lost = match scenario.may_lose() {
            true => arena.lost()? - lost_before,
            false => 0,
        };
        let found = verify::verify(analyst, &outcome, lost, DRAINED_WITHIN)?;
        roll_up_is_right(analyst)?;
        let contradicted = toll.contradicted
            + arena.contradicted(analyst)?
            + arena.quarantined()?
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
            kills: toll.kills,
            intrusions: toll.intrusions,
            alerts: toll.alerts,
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
        arena: &Arena,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<Outcome>>> {
        let options = replay::Options {
            log: self.log.into(),
            targets: arena.stack.edge_urls.clone(),
            slugs: links::sample_slugs(),
            rate: Some(self.options.rate * self.options.scenario.load()),
            connections: CONNECTIONS,
            limit: None,
            repeat: u32::MAX,
            run: format!("chaos-{}", self.number),
            progress: std::io::stderr().is_terminal(),
            stop,
        };
        let runtime = tokio::runtime::Runtime::new()?;
        Ok(std::thread::spawn(move || {
            runtime.block_on(replay::run(options))
        }))
    }
}

/// The hourly sums have what the table has.
fn roll_up_is_right(analyst: &Analyst) -> anyhow::Result<()> {
    let sql = "SELECT (SELECT sum(counted + bots + prefetches + heads) FROM clicks_by_hour) \
               - (SELECT count() FROM clicks)";
    let answer = analyst.query(sql)?;
    ensure!(
        answer.rows[0][0] == "0",
        "the hourly sums differ from the table by {}",
        answer.rows[0][0]
    );
    Ok(())
}

/// Clicks whose time is none of this run.
fn wrong_times(analyst: &Analyst) -> anyhow::Result<u64> {
    let sql = format!(
        "SELECT countIf(abs(dateDiff('second', time, now64())) > {MAX_AGE_SECONDS}) FROM clicks"
    );
    Ok(analyst.query(&sql)?.rows[0][0].parse()?)
}

/// Where everything lies; removed unless it was named.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn make(keep: Option<&Path>) -> anyhow::Result<Self> {
        let path = match keep {
            Some(path) => path.to_owned(),
            None => {
                let name = getrandom::u32().context("no randomness")?;
                std::env::temp_dir().join(format!("fanzfiliate-chaos-{name:08x}"))
            }
        };
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            path: path.canonicalize()?,
            keep: keep.is_some(),
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
