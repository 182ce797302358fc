//! The aggregator's command line. What it does is in the library.
#![forbid(unsafe_code)]

mod issue;

use aggregator::settings;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;

/// Takes batches of events from edges and writes them to ClickHouse, each event once.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs until asked to stop (SIGTERM or SIGINT); says on standard output where it listens.
    Serve(Config),
    /// Reads the settings and every file that serving would read, says all that is wrong, and ends.
    Check(Config),
    /// Copies the store, reports that are not evaluated yet, the settings file, certificates, passwords and
    /// `postbacks.toml` to a new directory, while the aggregator runs.
    Backup {
        #[command(flatten)]
        config: Config,
        /// The directory to be made.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Puts the store of a backup in the place of one that was lost; at the next start it takes over from ClickHouse
    /// what it missed.
    Restore {
        #[command(flatten)]
        config: Config,
        /// The directory of the backup.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
    },
    /// Makes the store again from ClickHouse, or brings one up to date that was restored by other means.
    RebuildStore(Config),
    /// What is done with the store while no aggregator runs.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Makes a certificate authority: its certificate and its key.
    CreateAuthority(issue::CreateAuthority),
    /// Issues the certificate with which one edge node authenticates itself.
    IssueEdgeCertificate(issue::IssueEdge),
    /// Issues the certificate with which an aggregator authenticates itself.
    IssueAggregatorCertificate(issue::Issue),
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Copies the store in SQLite's file to the empty PostgreSQL that `store.url` names, and sets the file aside.
    Copy(Config),
}

#[derive(Args)]
struct Config {
    /// The settings file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> anyhow::Result<()> {
    daemon::private::restrict_new_files();
    match Cli::parse().command {
        Command::Serve(Config { config }) => {
            daemon::logs::init();
            block_on(serve(settings::read(&config)?))
        }
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
                "a new epoch of the store began; taken over from ClickHouse: {} conversions, {} identity checks; \
                 {} postbacks will be sent, perhaps again",
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
        .context("the runtime can't start")?;
    runtime.block_on(work).map_err(Into::into)
}

/// Says what was done, and what is left to do.
fn report(lines: &[String]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    for line in lines {
        writeln!(stdout, "{line}").context("standard output is closed")?;
    }
    Ok(())
}

async fn serve(settings: settings::Settings) -> anyhow::Result<()> {
    daemon::signals::ignore_hangups().context("signals can't be listened to")?;
    let mut running = aggregator::start(settings).await?;
    let (listening, admin) = (running.listening(), running.admin());
    let mut stdout = std::io::stdout();
    writeln!(stdout, r#"{{"listening":"{listening}","admin":"{admin}"}}"#)
        .and_then(|()| stdout.flush())
        .context("standard output is closed")?;
    tracing::info!(%listening, %admin, "accepting edges");
    let ended = tokio::select! {
        stop = daemon::signals::shutdown_signal() => stop.context("signals can't be listened to"),
        error = running.failed() => Err(error.into()),
    };
    tracing::info!("stopping");
    running.stop().await;
    ended
}
