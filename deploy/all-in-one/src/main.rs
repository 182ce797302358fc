//! Runs ClickHouse, an aggregator and an edge in one container, for trials: starts them in this order, stops them in
//! the reverse order, and ends when one of them ends.
#![forbid(unsafe_code)]

use anyhow::{Context as _, bail};
use clap::Parser;
use daemon::logs::LogFormat;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The time in which a killed process must end.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const CLICKHOUSE_PORT: u16 = 8123;

/// Runs ClickHouse, an aggregator and an edge until SIGTERM or Ctrl-C, or until one of them ends.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The directory of the programs.
    #[arg(long, value_name = "DIR", default_value = "/bin")]
    programs: PathBuf,
    /// The directory of `aggregator.toml` and `edge.toml`.
    #[arg(long, value_name = "DIR", default_value = "/etc/fanzfiliate-edge")]
    settings: PathBuf,
    /// The directory of ClickHouse's data.
    #[arg(long, value_name = "DIR", default_value = "/data/clickhouse")]
    clickhouse: PathBuf,
}

/// A program that was started.
struct Running {
    name: &'static str,
    pid: Pid,
    end: JoinHandle<std::io::Result<ExitStatus>>,
}

impl Running {
    fn start(
        name: &'static str,
        command: &mut Command,
    ) -> anyhow::Result<(Self, Option<ChildStdout>)> {
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let stdout = child.stdout.take();
        let pid = Pid::from_child(&child);
        let end = spawn_blocking(move || child.wait());
        Ok((Self { name, pid, end }, stdout))
    }

    /// Waits for the end of the process.
    async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.end).await {
            Ok(Ok(status)) => anyhow::anyhow!("{} ended ({status}); its log says why", self.name),
            Ok(Err(error)) => anyhow::anyhow!("failed to wait for {}: {error}", self.name),
            Err(error) => anyhow::anyhow!("failed to wait for {}: {error}", self.name),
        }
    }

    /// Asks the process to end, and kills it if it does not in time.
    async fn stop(mut self) {
        if self.end.is_finished() {
            return;
        }
        for (signal, limit) in [(Signal::TERM, STOP_TIMEOUT), (Signal::KILL, KILL_TIMEOUT)] {
            // A process that has just ended needs no signal.
            let _ = kill_process(self.pid, signal);
            if timeout(limit, &mut self.end).await.is_ok() {
                return;
            }
            tracing::warn!(?signal, "{} has not ended", self.name);
        }
    }
}

/// The programs in the order of their start.
#[derive(Default)]
struct Stack(Vec<Running>);

impl Stack {
    async fn start_clickhouse(&mut self, arguments: &Arguments) -> anyhow::Result<()> {
        let mut command = Command::new(arguments.programs.join("clickhouse-embedded"));
        command
            .arg("serve")
            .arg("--data")
            .arg(&arguments.clickhouse);
        command.arg("--http-port").arg(CLICKHOUSE_PORT.to_string());
        let (mut clickhouse, _) = Running::start("clickhouse-embedded", &mut command)?;
        let listens = async {
            while TcpStream::connect(("127.0.0.1", CLICKHOUSE_PORT))
                .await
                .is_err()
            {
                sleep(POLL_INTERVAL).await;
            }
        };
        let started = tokio::select! {
            listening = timeout(START_TIMEOUT, listens) => listening.context("ClickHouse did not start in time"),
            error = clickhouse.ended() => Err(error),
        };
        self.0.push(clickhouse);
        started
    }

    /// Starts a daemon, which prints its addresses when it is ready.
    async fn start_daemon(
        &mut self,
        arguments: &Arguments,
        name: &'static str,
        settings: &str,
    ) -> anyhow::Result<()> {
        let mut command = Command::new(arguments.programs.join(name));
        command
            .arg("serve")
            .arg("--config")
            .arg(arguments.settings.join(settings));
        let (daemon, stdout) = Running::start(name, command.stdout(Stdio::piped()))?;
        self.0.push(daemon);
        let stdout = stdout.context("standard output is piped")?;
        let first_line = spawn_blocking(move || BufReader::new(stdout).lines().next());
        match timeout(START_TIMEOUT, first_line)
            .await
            .with_context(|| format!("{name} did not start in time"))??
        {
            Some(addresses) => tracing::info!(addresses = addresses?, "{name} is ready"),
            None => bail!("{name} did not start; its log says why"),
        }
        Ok(())
    }

    async fn start(&mut self, arguments: &Arguments) -> anyhow::Result<()> {
        self.start_clickhouse(arguments).await?;
        self.start_daemon(arguments, "aggregator", "aggregator.toml")
            .await?;
        self.start_daemon(arguments, "edge-tracker", "edge.toml")
            .await
    }

    /// Starts all programs and waits for the end of one.
    async fn run(&mut self, arguments: &Arguments) -> anyhow::Result<()> {
        self.start(arguments).await?;
        let [clickhouse, aggregator, edge] = &mut self.0[..] else {
            bail!("three programs were started");
        };
        Err(tokio::select! {
            error = clickhouse.ended() => error,
            error = aggregator.ended() => error,
            error = edge.ended() => error,
        })
    }

    async fn stop(self) {
        for running in self.0.into_iter().rev() {
            running.stop().await;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    daemon::logs::init(LogFormat::Text);
    let arguments = Arguments::parse();
    let mut stack = Stack::default();
    let outcome = tokio::select! {
        outcome = stack.run(&arguments) => outcome,
        stopped = daemon::signals::shutdown_signal() => stopped.context("failed to listen for signals"),
    };
    stack.stop().await;
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("all-in-one: {error:#}");
            ExitCode::FAILURE
        }
    }
}
