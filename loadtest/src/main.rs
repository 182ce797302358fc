//! The `loadtest` program: parses arguments and prints results. The work is in the library.
#![forbid(unsafe_code)]

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use loadtest::bench::baseline::{self, Baseline};
use loadtest::bench::click;
use loadtest::bench::functions;
use loadtest::bench::pipeline::{self, tail};
use loadtest::clickhouse::Analyst;
use loadtest::replay::Outcome;
use loadtest::{chaos, demo, links, replay, traffic, verify};

/// The time in which answered requests must become rows.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Load tests, benchmarks and the demo of FanzFiliate Edge.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Replay an access log of Apache or nginx as clicks and impressions (combined format or JSON, plain or gzip).
    Replay(Replay),
    /// Start ClickHouse, an aggregator and two edges, send traffic, and show the analysts' tables. The last line is
    /// a JSON object.
    Demo(Demo),
    /// Kill processes, fill disks and break networks and clocks under traffic, then compare every answered click
    /// with ClickHouse. The last line is a JSON object.
    Chaos(chaos::ChaosOptions),
    /// Measure the cost of a click at the edge, compared with nginx and with bare hyper.
    BenchClick(click::ClickOptions),
    /// Measure the cost of a click from the visitor to a row in ClickHouse, compared with nginx.
    BenchPipeline(pipeline::PipelineOptions),
    /// Measure the cost of a function call, of postbacks compared with native code, and the effect of functions
    /// that never return on clicks.
    BenchFunctions(functions::FunctionsOptions),
    /// Follow nginx's log and insert it: the pipeline that ours is compared with.
    #[command(hide = true)]
    Tail(tail::TailOptions),
    /// A server that does less than the edge, for comparison.
    #[command(hide = true)]
    Baseline {
        which: Baseline,
        /// Directory of servers that store data.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Demo {
    /// Replay this log (combined format or nginx's JSON) instead of sample traffic.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Requests per second.
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// A MaxMind file of countries by IP address.
    #[arg(long, value_name = "FILE")]
    geo: Option<PathBuf>,
    /// Kill edges and the aggregator (SIGKILL) while sales are reported.
    #[arg(long)]
    kill: bool,
    /// Exit when everything is shown, instead of running until Ctrl-C.
    #[arg(long)]
    exit: bool,
}

#[derive(Args)]
struct Replay {
    /// The access log; sample traffic of 10,000 requests if absent.
    #[arg(long)]
    log: Option<PathBuf>,
    /// An edge, `http://host:port`; may be repeated.
    #[arg(long = "target", required = true)]
    targets: Vec<String>,
    /// Requests per second; unlimited if absent.
    #[arg(long)]
    rate: Option<f64>,
    /// Connections per target.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Links file whose slugs are used; the demo's sample links if absent.
    #[arg(long)]
    links: Option<PathBuf>,
    /// Maximum number of requests.
    #[arg(long)]
    limit: Option<u64>,
    /// Number of times the log is replayed.
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    /// Name of the run, stored as the events' `source`; random if absent.
    #[arg(long)]
    run: Option<String>,
    /// ClickHouse, `http://host:port`, with `--credentials`.
    #[arg(long, default_value = "http://127.0.0.1:8123", value_name = "URL")]
    clickhouse: String,
    /// Wait until each answered request is a row of the ClickHouse with this `credentials.json`, and exit with 1 if
    /// one is missing or duplicated.
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Task::Replay(arguments) => run_replay(arguments),
        Task::Demo(Demo {
            replay,
            rate,
            geo,
            kill,
            exit,
        }) => demo::run(&demo::DemoOptions {
            replay,
            rate,
            geo,
            kill,
            exit,
        }),
        Task::Chaos(options) => chaos::run(&options),
        Task::BenchClick(options) => click::run(&options),
        Task::BenchPipeline(options) => pipeline::run(&options),
        Task::BenchFunctions(options) => functions::run(&options),
        Task::Tail(options) => tail::run(&options),
        Task::Baseline { which, dir } => baseline::serve(which, dir.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_replay(arguments: Replay) -> anyhow::Result<()> {
    let slugs = match &arguments.links {
        Some(file) => links::slugs_of(file)?,
        None => links::sample_slugs(),
    };
    let run = arguments.run.map_or_else(random_name, Ok)?;
    let directory = tempfile::tempdir()?;
    let log = match arguments.log {
        Some(log) => log,
        None => traffic::sample(directory.path())?,
    };
    let options = replay::ReplayOptions {
        slugs,
        rate: arguments.rate,
        connections: arguments.connections,
        limit: arguments.limit,
        repeat: arguments.repeat,
        progress: std::io::stderr().is_terminal(),
        ..replay::ReplayOptions::new(&log, &arguments.targets, &run)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(replay::run(options))?;
    println!("run {}", outcome.run);
    print!("{}", outcome.table());
    match &arguments.credentials {
        Some(file) => compare(&Analyst::new(&arguments.clickhouse, file)?, &outcome),
        None => Ok(()),
    }
}

fn compare(analyst: &Analyst, outcome: &Outcome) -> anyhow::Result<()> {
    let found = verify::verify(analyst, outcome, 0, ARRIVAL_TIMEOUT)?;
    let (missing, duplicated, wrong_ids) = (found.missing, found.duplicated, found.wrong_ids);
    println!("missing {missing}, duplicated {duplicated}, with another id {wrong_ids}");
    ensure!(
        missing + duplicated + wrong_ids == 0,
        "ClickHouse does not hold what was answered"
    );
    ensure!(!outcome.answered.is_empty(), "no request was answered");
    Ok(())
}

fn random_name() -> anyhow::Result<String> {
    Ok(format!(
        "run-{:08x}",
        getrandom::u32().context("no randomness")?
    ))
}
