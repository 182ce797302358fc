//! The aggregator's command line. What it does is in the library.
#![forbid(unsafe_code)]

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
    /// Reads the settings and the files they name, says what is wrong, and ends.
    Check(Config),
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
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("the runtime can't start")?;
            runtime.block_on(serve(settings::read(&config)?))
        }
        Command::Check(Config { config }) => {
            let settings = settings::read(&config)?;
            settings.clickhouse.login()?;
            settings.clickhouse.authorities()?;
            settings.tls.check()?;
            settings
                .outgoing
                .as_ref()
                .map_or(Ok(()), aggregator::check_postbacks)?;
            settings
                .reports
                .as_ref()
                .map_or(Ok(()), aggregator::check_reports)?;
            println!("{}: no mistakes found", config.display());
            Ok(())
        }
    }
}

async fn serve(settings: settings::Settings) -> anyhow::Result<()> {
    let running = aggregator::start(settings).await?;
    let (listening, admin) = (running.listening(), running.admin());
    let mut stdout = std::io::stdout();
    writeln!(stdout, r#"{{"listening":"{listening}","admin":"{admin}"}}"#)
        .and_then(|()| stdout.flush())
        .context("standard output is closed")?;
    tracing::info!(%listening, %admin, "accepting edges");
    daemon::stop::requested()
        .await
        .context("signals can't be listened to")?;
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}
