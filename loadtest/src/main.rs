//! The `loadtest` program: arguments in, tables out. What is done lives in the library.
#![forbid(unsafe_code)]

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use loadtest::bench::baseline::{self, Baseline};
use loadtest::bench::click;
use loadtest::bench::edges;
use loadtest::bench::functions;
use loadtest::bench::pipeline::{self, tail};
use loadtest::{chaos, demo, hostile, links, overload, replay};

/// Replays traffic, runs the demo, measures.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Replay a log of Apache or nginx as clicks and impressions: combined format or JSON, plain or gzipped.
    Replay(Replay),
    /// Start ClickHouse, an aggregator and two edges, send traffic, and show what analysts see. The
    /// last line is one JSON object.
    Demo(Demo),
    /// Let processes die, disks fill up, networks and clocks fail while traffic flows, and compare every
    /// answered click with ClickHouse. The last line is one JSON object.
    Chaos(chaos::Options),
    /// Measure what a click costs at the edge, beside nginx and servers that track nothing.
    BenchClick(click::Options),
    /// Measure what a click costs from the visitor to a row in ClickHouse, beside nginx.
    BenchPipeline(pipeline::Options),
    /// Measure what a click costs aggregator and engine when it comes from one edge or from many.
    BenchEdges(edges::Options),
    /// Measure what a call of a function costs, postbacks beside the same decisions compiled natively, and
    /// what functions that never end do to clicks.
    BenchFunctions(functions::Options),
    /// Load an edge past its capacity, and hold what visitors met against what it counted and logged.
    /// The last line is one JSON object.
    Overload(overload::Options),
    /// Send forged, altered and malformed postbacks and webhooks among authentic ones, and hold what was
    /// answered against what each must be, the edge's counters and the tables. The last line is one JSON
    /// object.
    HostileReports(hostile::Options),
    /// Follow nginx's log and insert it, as the pipeline that ours is measured beside.
    #[command(hide = true)]
    Tail(tail::Options),
    /// A server that does less than the edge, to be measured beside it.
    #[command(hide = true)]
    Baseline {
        which: Baseline,
        /// Where one that keeps something keeps it.
        #[arg(long, value_name = "FOLDER")]
        dir: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Demo {
    /// A log to replay, in combined format or nginx's JSON, instead of sample traffic.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Requests a second.
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// A MaxMind-format file of countries by address.
    #[arg(long, value_name = "FILE")]
    geo: Option<PathBuf>,
    /// Kill edges and the aggregator (`kill -9`) while sales are reported.
    #[arg(long)]
    kill: bool,
    /// Stop when everything is shown, instead of staying up until Ctrl-C.
    #[arg(long)]
    exit: bool,
}

#[derive(Args)]
struct Replay {
    /// The log.
    #[arg(long)]
    log: PathBuf,
    /// An edge, `http://host:port`; may be given several times.
    #[arg(long = "target", required = true)]
    targets: Vec<String>,
    /// Requests a second; without it as fast as it can.
    #[arg(long)]
    rate: Option<f64>,
    /// Connections to each target.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Links file whose slugs are used; without it the demo's sample links.
    #[arg(long)]
    links: Option<PathBuf>,
    /// At most this many requests.
    #[arg(long)]
    limit: Option<u64>,
    /// How many times the log is read.
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    /// Where the account of the run is written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Name of the run: `source` of its events; by default a random one.
    #[arg(long)]
    run: Option<String>,
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
        }) => demo::run(&demo::Options {
            replay,
            rate,
            geo,
            kill,
            exit,
        }),
        Task::Chaos(options) => chaos::run(&options),
        Task::BenchClick(options) => click::run(&options),
        Task::BenchPipeline(options) => pipeline::run(&options),
        Task::BenchEdges(options) => edges::run(&options),
        Task::BenchFunctions(options) => functions::run(&options),
        Task::Overload(options) => overload::run(&options),
        Task::HostileReports(options) => hostile::run(&options),
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
    let options = replay::Options {
        log: arguments.log,
        targets: arguments.targets,
        slugs,
        rate: arguments.rate,
        connections: arguments.connections,
        limit: arguments.limit,
        repeat: arguments.repeat,
        run: arguments.run.map_or_else(random_name, Ok)?,
        progress: std::io::stderr().is_terminal(),
        stop: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(replay::run(options))?;
    println!("run {}", outcome.run);
    print!("{}", outcome.table());
    if let Some(file) = arguments.json {
        let json = serde_json::to_string_pretty(&outcome.report())?;
        std::fs::write(&file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn random_name() -> anyhow::Result<String> {
    Ok(format!(
        "run-{:08x}",
        getrandom::u32().context("no randomness")?
    ))
}
