//! The aggregator's command line.
#![forbid(unsafe_code)]

mod issue;

use aggregator::settings;
use anyhow::Context;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use daemon::error_chain::explain;
use daemon::health::{self, Question};
use daemon::traces::{SpanExport, TracedProcess};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Receives batches of events from edges and inserts each event into ClickHouse once.
#[derive(Parser)]
#[command(version, after_help = daemon::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs until SIGTERM or Ctrl-C; prints its addresses as one line of JSON when ready.
    Serve(Config),
    /// Checks the settings and every file that `serve` would read, and prints all errors; connects to nothing.
    Check(Config),
    /// Asks the running aggregator whether it is ready; exits with 1 and prints the reasons if it is not.
    Health {
        #[command(flatten)]
        config: Config,
        /// Ask only whether the process runs.
        #[arg(long)]
        live: bool,
    },
    /// Writes man pages and shell completions, for packages.
    #[command(hide = true)]
    Manual {
        /// The output directory.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Prints settings, metrics and refusals as JSON, for `cargo xtask docs`.
    #[command(hide = true)]
    Reference,
    /// Copies the store, reports that are not evaluated yet, the settings file, certificates, passwords and
    /// `postbacks.toml` to a new directory, while the aggregator runs.
    Backup {
        #[command(flatten)]
        config: Config,
        /// The directory to create.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Restores the store and the reports from a backup, and its other files where they are absent, while no
    /// aggregator runs. At the next start the aggregator loads from ClickHouse what the backup lacks.
    Restore {
        #[command(flatten)]
        config: Config,
        /// The directory of the backup.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
    },
    /// Rebuilds the store from ClickHouse, or updates one that was restored by other means, while no aggregator runs.
    RebuildStore(Config),
    /// Maintains the store while no aggregator runs.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Creates a certificate authority: certificate and key.
    CreateAuthority(issue::CreateAuthority),
    /// Issues the certificate of an edge node.
    IssueEdgeCertificate(issue::IssueEdge),
    /// Issues the certificate of an aggregator.
    IssueAggregatorCertificate(issue::Issue),
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Copies the store from SQLite's file to the empty PostgreSQL database at `store.url`, and renames the file.
    Copy(Config),
}

#[derive(Args)]
struct Config {
    /// The settings file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    daemon::private::restrict_new_files();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            daemon::logs::report_failure("aggregator", &explain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Serve(Config { config }) => {
            let settings = settings::read(&config)?;
            let process = TracedProcess {
                program: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
                instance: &settings.instance,
            };
            let export = SpanExport::start(&settings.traces, process)?;
            daemon::logs::init_with_traces(settings.log.format, export.as_ref());
            block_on(serve(settings))
        }
        Command::Reference => {
            let reference = aggregator::reference::describe()?;
            report(&[serde_json::to_string_pretty(&reference)?])
        }
        Command::Health { config, live } => {
            let settings = settings::read(&config.config)?;
            let question = if live {
                Question::Live
            } else {
                Question::Ready
            };
            Ok(health::ask(settings.admin_listen, question)?)
        }
        Command::Manual { to } => Ok(daemon::manual::write(Cli::command(), &to)?),
        Command::Backup { config, to } => {
            let settings = settings::read(&config.config)?;
            report(&block_on(aggregator::backup(
                &settings,
                &config.config,
                &to,
            ))?)
        }
        Command::Restore { config, from } => {
            let settings = settings::read(&config.config)?;
            report(&block_on(aggregator::restore(&settings, &from))?)
        }
        Command::RebuildStore(Config { config }) => {
            let rebuilt = block_on(aggregator::rebuild_store(&settings::read(&config)?))?;
            report(&[format!(
                "started a new epoch of the store; loaded from ClickHouse: {} conversions, {} identity checks; \
                 {} postbacks will be sent, possibly again",
                rebuilt.conversions, rebuilt.checks, rebuilt.postbacks
            )])
        }
        Command::Store(StoreCommand::Copy(Config { config })) => report(&block_on(
            aggregator::copy_store(&settings::read(&config)?),
        )?),
        Command::Check(Config { config }) => {
            let findings = block_on(async { anyhow::Ok(aggregator::check(&config).await) })?;
            Ok(findings.report()?)
        }
        Command::CreateAuthority(command) => command.run(),
        Command::IssueEdgeCertificate(command) => command.run(),
        Command::IssueAggregatorCertificate(command) => command.run_for_aggregator(),
    }
}

fn block_on<T, E: Into<anyhow::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(work).map_err(Into::into)
}

/// Prints what was done, and what remains to do.
fn report(lines: &[String]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    for line in lines {
        writeln!(stdout, "{line}").context("failed to write to standard output")?;
    }
    Ok(())
}

async fn serve(settings: settings::Settings) -> anyhow::Result<()> {
    daemon::signals::ignore_hangups().context("failed to listen for signals")?;
    let mut running = aggregator::start(settings).await?;
    let (listening, admin) = (running.listening(), running.admin());
    let mut stdout = std::io::stdout();
    writeln!(stdout, r#"{{"listening":"{listening}","admin":"{admin}"}}"#)
        .and_then(|()| stdout.flush())
        .context("failed to write to standard output")?;
    tracing::info!(%listening, %admin, "accepting edges");
    daemon::notify::ready();
    let ended = tokio::select! {
        stop = daemon::signals::shutdown_signal() => stop.context("failed to listen for signals"),
        error = running.failed() => Err(error.into()),
    };
    tracing::info!("stopping");
    daemon::notify::stopping();
    running.stop().await;
    ended
}
