//! The `edge-tracker` program.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use edge_tracker::check::check;
use edge_tracker::{node, settings};
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
    /// Check the settings and every file that serving would read; says all that is wrong.
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
        Command::Serve { config } => settings::read(&config)
            .map_err(anyhow::Error::from)
            .and_then(|settings| node::run(&settings)),
        Command::Check { config } => check(&config).report().map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge-tracker: {error:#}");
            ExitCode::FAILURE
        }
    }
}
