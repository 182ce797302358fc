//! The `edge-tracker` program.
#![forbid(unsafe_code)]

use clap::{CommandFactory as _, Parser, Subcommand};
use daemon::error_chain::explain;
use daemon::health::{self, Question};
use daemon::logs::{self, LogFormat};
use daemon::settings::HumanDuration;
use daemon::traces::{SpanExport, TracedProcess};
use edge_tracker::check::check;
use edge_tracker::drain::{self, AdoptOptions, DrainError, DrainOptions};
use edge_tracker::spin_export::{self, Options};
use edge_tracker::{node, reference, settings};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Serves affiliate links and pixels, journals each event before the response, and ships the journal.
#[derive(Debug, Parser)]
#[command(version, after_help = daemon::HELP)]
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
    /// Check the settings and every file that `serve` reads; reports all errors.
    Check {
        /// The settings, a TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Ship every event of this edge, so that its data directory can be given up. A running edge stops accepting clicks:
    /// first its readiness fails, after the delay no connection is accepted and requests in flight are answered, then
    /// everything is shipped. It accepts no clicks again until it is restarted. If no edge runs on the data directory,
    /// the command ships the journal itself.
    #[command(after_help = EXIT_CODES)]
    Drain {
        /// The settings of the edge, a TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How long a running edge still accepts clicks after its readiness has failed: longer than load balancers need
        /// to notice.
        #[arg(long, value_name = "DURATION", default_value = "5s")]
        delay: HumanDuration,
        /// Give up after this time, such as "10m"; a running edge keeps shipping [default: none]
        #[arg(long, value_name = "DURATION")]
        timeout: Option<HumanDuration>,
        /// Print the progress as lines of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ship every event in the data directory of an edge that does not come back, under its own identity, from any host.
    /// The directory is kept and may be deleted afterwards. Run it again if it was interrupted.
    #[command(after_help = EXIT_CODES)]
    Adopt {
        /// The settings of an edge, a TOML file: its aggregator and, unless --tls-dir is set, its certificates are used.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The data directory of the lost edge.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The directory with the certificate of the lost edge's node [default: tls.dir of the settings, or tls in
        /// --data-dir]
        #[arg(long, value_name = "DIR")]
        tls_dir: Option<PathBuf>,
        /// Give up after this time, such as "10m" [default: none]
        #[arg(long, value_name = "DURATION")]
        timeout: Option<HumanDuration>,
        /// Print the progress as lines of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask the running edge whether it is ready; exits with 1 and prints the reasons if it is not.
    Health {
        /// The settings of the running edge, a TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Ask only whether the process runs.
        #[arg(long)]
        live: bool,
    },
    /// Write man pages and shell completions, for packages.
    #[command(hide = true)]
    Manual {
        /// The output directory.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Print settings, metrics and refusals as JSON, for `cargo xtask docs`.
    #[command(hide = true)]
    Reference,
    /// Write the files for functions that run under Spin instead of in this edge: a runtime configuration with their
    /// variables, and their key-value stores. Run it again whenever advertisers, links, variables, click id keys or
    /// the token change. Exits with 0 when all is written; on an error it exits with 1 and changes nothing.
    ExportSpin {
        /// The settings, a TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The output directory; its files hold secrets.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// The URL of the internal API for Spin's host, without a path [default: internal_api.listen]
        #[arg(long, value_name = "URL")]
        tracker_url: Option<String>,
        /// The advertisers, a TOML file [default: functions.advertisers]
        #[arg(long, value_name = "FILE")]
        advertisers: Option<PathBuf>,
        /// The values of variables, a TOML file [default: functions.variables]
        #[arg(long, value_name = "FILE")]
        variables: Option<PathBuf>,
    },
}

const EXIT_CODES: &str = "\
Exit codes:
  0  the aggregator has acknowledged every event
  1  settings, directory or certificate can't be used; nothing was changed
  2  wrong arguments
  3  events are left after --timeout or a signal; run the command again
  4  a process uses the directory
  5  the edge ended or stopped responding before it was drained; run the command again";

fn export_spin(config: &Path, options: &Options) -> anyhow::Result<()> {
    logs::init(LogFormat::Text);
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

fn ask_health(config: &Path, live: bool) -> anyhow::Result<()> {
    let settings = settings::read(config)?;
    let question = if live {
        Question::Live
    } else {
        Question::Ready
    };
    Ok(health::ask(settings.http.admin_listen, question)?)
}

fn serve(config: &Path) -> anyhow::Result<()> {
    let settings = settings::read(config)?;
    let process = TracedProcess {
        program: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        instance: &settings.node.to_string(),
    };
    let export = SpanExport::start(&settings.traces, process)?;
    logs::init_with_traces(settings.log.format, export.as_ref());
    node::run(&settings)
}

fn check_all(config: &Path) -> anyhow::Result<()> {
    logs::init(LogFormat::Text);
    Ok(check(config).report()?)
}

fn print_reference() -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&reference::describe()?)?);
    Ok(())
}

fn main() -> ExitCode {
    daemon::private::restrict_new_files();
    let outcome = match Arguments::parse().command {
        Command::Serve { config } => serve(&config),
        Command::Reference => print_reference(),
        Command::Health { config, live } => ask_health(&config, live),
        Command::Manual { to } => {
            daemon::manual::write(Arguments::command().name("edge-tracker"), &to)
                .map_err(Into::into)
        }
        Command::Check { config } => check_all(&config),
        Command::Drain {
            config,
            delay,
            timeout,
            json,
        } => {
            logs::init(LogFormat::Text);
            return exit_code(drain::drain(&DrainOptions {
                config,
                delay: delay.0,
                timeout: timeout.map(|it| it.0),
                json,
            }));
        }
        Command::Adopt {
            config,
            data_dir,
            tls_dir,
            timeout,
            json,
        } => {
            logs::init(LogFormat::Text);
            return exit_code(drain::adopt(&AdoptOptions {
                config,
                data_dir,
                tls_dir,
                timeout: timeout.map(|it| it.0),
                json,
            }));
        }
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
    exit_code(outcome.map_err(DrainError::Unusable))
}

fn exit_code(outcome: Result<(), DrainError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit_code();
            logs::report_failure("edge-tracker", &explain(&error));
            code
        }
    }
}
