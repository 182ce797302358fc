//! The `edge-tracker` program.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use edge_tracker::check::check;
use edge_tracker::spin_export::{self, Options};
use edge_tracker::{node, settings};
use std::path::{Path, PathBuf};
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
    /// Write what functions need that run under Spin instead of in this edge: a runtime configuration with their
    /// variables, and their key-value stores. To be run again whenever advertisers, links, variables, click id keys
    /// or the token change. Ends with 0 when it is written, with 1 when anything is wrong, and then changes nothing.
    ExportSpin {
        /// The settings, a TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The directory that it is written to; its files hold secrets.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Where Spin's host reaches the internal API, without a path [default: internal_api.listen]
        #[arg(long, value_name = "URL")]
        tracker_url: Option<String>,
        /// The advertisers, a TOML file [default: functions.advertisers]
        #[arg(long, value_name = "FILE")]
        advertisers: Option<PathBuf>,
        /// Values of variables, a TOML file [default: functions.variables]
        #[arg(long, value_name = "FILE")]
        variables: Option<PathBuf>,
    },
}

fn export_spin(config: &Path, options: &Options) -> anyhow::Result<()> {
    let settings = settings::read(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let exported = runtime.block_on(spin_export::export(&settings, options))?;
    println!(
        "{}: {} entries of advertisers, {} of links",
        exported.configuration.display(),
        exported.advertisers,
        exported.links
    );
    Ok(())
}

fn main() -> ExitCode {
    daemon::private::restrict_new_files();
    daemon::logs::init();
    let outcome = match Arguments::parse().command {
        Command::Serve { config } => settings::read(&config)
            .map_err(anyhow::Error::from)
            .and_then(|settings| node::run(&settings)),
        Command::Check { config } => check(&config).report().map_err(Into::into),
        Command::ExportSpin {
            config,
            to,
            tracker_url,
            advertisers,
            variables,
        } => export_spin(
            &config,
            &Options {
                to,
                tracker_url,
                advertisers,
                variables,
            },
        ),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge-tracker: {error:#}");
            ExitCode::FAILURE
        }
    }
}
