//! The `clickhouse-embedded` program: a local ClickHouse for the tracker, on loopback only.
#![deny(unsafe_code)]

use clap::{CommandFactory as _, Parser, Subcommand};
use daemon::logs::LogFormat;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs a local ClickHouse for the tracker, locked down and on 127.0.0.1 only.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine until SIGTERM or Ctrl-C. DIR/credentials.json contains users and passwords.
    Serve {
        /// The data directory, kept between runs.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The port of the HTTP interface on 127.0.0.1.
        #[arg(long, value_name = "PORT", default_value_t = 8123, value_parser = clap::value_parser!(u16).range(1..))]
        http_port: u16,
        /// Stop at the end of standard input: the engine then ends together with a parent that holds its
        /// standard input open.
        #[arg(long)]
        die_with_parent: bool,
    },
    /// Print the ClickHouse that would be used: a program or library that FANZ_CLICKHOUSE names, else `clickhouse` on
    /// PATH, else the library that `cargo xtask setup` has installed.
    Locate,
    /// Write man pages and shell completions, for packages.
    #[command(hide = true)]
    Manual {
        /// The output directory.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

fn main() -> ExitCode {
    daemon::private::restrict_new_files();
    daemon::logs::init(LogFormat::Text);
    let outcome = match Arguments::parse().command {
        Command::Serve {
            data,
            http_port,
            die_with_parent,
        } => clickhouse_embedded::serve(&data, http_port, die_with_parent)
            .map(|never| match never {})
            .map_err(anyhow::Error::from),
        Command::Manual { to } => {
            daemon::manual::write(Arguments::command(), &to).map_err(anyhow::Error::from)
        }
        Command::Locate => clickhouse_embedded::locate()
            .map_err(anyhow::Error::from)
            .map(|engine| match engine {
                clickhouse_embedded::Engine::Program(path) => {
                    println!("program {}", path.display())
                }
                clickhouse_embedded::Engine::Library(path) => {
                    println!("library {}", path.display())
                }
            }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clickhouse-embedded: {error:#}");
            ExitCode::FAILURE
        }
    }
}
