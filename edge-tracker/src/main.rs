//! The `edge-tracker` program.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use edge_tracker::functions::advertisers;
use edge_tracker::{links, node, settings::Settings};
use std::path::PathBuf;
use std::process::ExitCode;

/// Answers affiliate links and pixels, logs each one before it answers, and ships what it logged.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C; prints the addresses as one line of JSON when ready.
    Serve {
        /// The settings, a TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check settings and links without serving.
    Check {
        /// The settings, a TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    daemon::private::restrict_new_files();
    daemon::logs::init();
    let outcome = match Arguments::parse().command {
        Command::Serve { config } => daemon::settings::load::<Settings>(&config)
            .map_err(anyhow::Error::from)
            .and_then(|settings| node::run(&settings)),
        Command::Check { config } => check(&config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge-tracker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(config: &std::path::Path) -> anyhow::Result<()> {
    let settings = daemon::settings::load::<Settings>(config)?;
    settings.check()?;
    let loaded = links::load(&settings.links.file)?;
    println!("{}: fine", config.display());
    println!(
        "{}: fine, {} links",
        settings.links.file.display(),
        loaded.table.len()
    );
    let functions = settings.functions.as_ref();
    if let Some(file) = functions.and_then(|functions| functions.advertisers.as_ref()) {
        let advertisers = advertisers::check(file)?;
        println!("{}: fine, {advertisers} advertisers", file.display());
    }
    Ok(())
}
