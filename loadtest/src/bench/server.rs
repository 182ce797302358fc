//! The measured servers. Each runs in its own directory on the servers' core, and must have logged every answered
//! request at the end.

mod edge;
mod nginx;

use super::baseline::Baseline;
use super::journal::JournalContents;
use super::machine::{self, Cores};
use crate::process::Process;
use crate::stack::program;
use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;
use serde::Serialize;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const READY_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Our edge with all features.
    Edge,
    /// Another build of our edge with the same settings.
    #[value(skip)]
    EarlierEdge,
    /// nginx with geoip2 and a buffered JSON log.
    Nginx,
    /// hyper with a fixed response.
    BareHyper,
}

impl Kind {
    /// All kinds, ours first.
    pub(super) const ALL: [Self; 4] = [Self::Edge, Self::EarlierEdge, Self::Nginx, Self::BareHyper];

    /// The name in tables.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::EarlierEdge => "earlier edge",
            Self::Nginx => "nginx",
            Self::BareHyper => "bare hyper",
        }
    }

    /// A missing requirement of this machine, if any.
    #[must_use]
    pub(super) fn missing_requirement(self) -> Option<String> {
        match self {
            Self::Nginx => nginx::missing_requirement(),
            Self::Edge | Self::EarlierEdge | Self::BareHyper => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The setup of all servers.
#[derive(Debug, Clone)]
pub(super) struct BenchSetup {
    /// A directory for all servers.
    pub(super) dir: PathBuf,
    /// A MaxMind file of countries.
    pub(super) geo: PathBuf,
    /// The links file.
    pub(super) links: PathBuf,
    /// Slug and offer of each link.
    pub(super) slugs: Vec<(String, String)>,
    /// Cores to pin to.
    pub(super) cores: Cores,
    /// The program of [`Kind::EarlierEdge`].
    pub(super) earlier: Option<PathBuf>,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) address: SocketAddr,
    process: Process,
    pids: Vec<u32>,
    log: Log,
}

#[derive(Debug)]
enum Log {
    None,
    Journal { dir: PathBuf, admin: String },
    Lines(PathBuf),
}

impl Server {
    /// Starts a server of `kind` and waits until it is ready.
    ///
    /// # Errors
    /// If it does not start; the message includes the log's tail.
    pub(super) fn start(kind: Kind, setup: &BenchSetup) -> anyhow::Result<Self> {
        let dir = setup.dir.join(kind.name().replace(' ', "-"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
        match kind {
            Kind::Edge => edge::start(kind, &program("edge-tracker")?, &dir, setup),
            Kind::EarlierEdge => {
                let earlier = setup.earlier.as_deref();
                let earlier = earlier.context("pass the earlier program with --before")?;
                edge::start(kind, earlier, &dir, setup)
            }
            Kind::Nginx => nginx::start(&dir, setup),
            Kind::BareHyper => baseline(kind, Baseline::BareHyper, &dir, setup),
        }
    }

    /// CPU time of all threads so far.
    ///
    /// # Errors
    /// If the server has exited.
    pub(super) fn cpu_time(&self) -> anyhow::Result<Duration> {
        machine::cpu_time(&self.pids)
    }

    /// The server's processes.
    #[must_use]
    pub(super) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// The log file with one line per response, if any.
    #[must_use]
    pub(super) fn log_file(&self) -> Option<&Path> {
        match &self.log {
            Log::Lines(file) => Some(file),
            Log::None | Log::Journal { .. } => None,
        }
    }

    /// The admin URL of our edges.
    #[must_use]
    pub(super) fn admin(&self) -> Option<&str> {
        match &self.log {
            Log::Journal { admin, .. } => Some(admin),
            Log::None | Log::Lines(_) => None,
        }
    }

    /// Stops the server and checks that it logged each of `answered` requests once.
    ///
    /// # Errors
    /// If it did not; the message contains the numbers.
    pub(super) fn stop(mut self, answered: u64) -> anyhow::Result<()> {
        if let Log::Lines(file) = &self.log {
            nginx::wait_for_lines(file, answered)?;
        }
        match &self.log {
            Log::None => self.process.kill(),
            Log::Lines(_) => self.process.stop(STOP_TIMEOUT),
            Log::Journal { dir, .. } => {
                self.process.stop(STOP_TIMEOUT)?;
                let logged = JournalContents::read(dir)?.events;
                ensure!(
                    logged == answered,
                    "{answered} clicks were answered but {logged} are in the journal"
                );
                Ok(())
            }
        }
    }
}

fn baseline(
    kind: Kind,
    baseline: Baseline,
    dir: &Path,
    setup: &BenchSetup,
) -> anyhow::Result<Server> {
    let name = baseline.to_possible_value().context("a name")?;
    let mut command = Command::new(program("loadtest")?);
    command.args(["baseline", name.get_name()]);
    let mut process = setup
        .cores
        .on_server(|| Process::start(kind.name(), &mut command, &dir.join("log")))?;
    let ready = process.ready_line(READY_TIMEOUT)?;
    Ok(Server {
        kind,
        address: address(&ready, "listening")?,
        pids: vec![process.pid()],
        process,
        log: Log::None,
    })
}

fn address(ready: &serde_json::Value, field: &str) -> anyhow::Result<SocketAddr> {
    let text = ready[field]
        .as_str()
        .with_context(|| format!("the ready line lacks {field}"))?;
    text.parse()
        .with_context(|| format!("invalid address {text:?}"))
}

/// Waits until a server listens at `address`.
fn wait_for_port(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        match std::net::TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("no server listens at {address}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
