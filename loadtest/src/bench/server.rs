//! The servers that are measured: each started in a folder of its own on the servers' core, and
//! asked afterwards whether it logged everything it answered.

mod edge;
mod nginx;

use super::baseline::Baseline;
use super::journal::Held;
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

const READY_WITHIN: Duration = Duration::from_secs(120);
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Ours with everything on.
    Edge,
    /// Another build of ours, with the same settings.
    #[value(skip)]
    EarlierEdge,
    /// nginx: geoip2 and a buffered JSON log.
    Nginx,
    /// hyper with a fixed answer.
    BareHyper,
    /// System calls with a fixed answer.
    Floor,
}

impl Kind {
    /// All, ours first.
    pub(super) const ALL: [Self; 5] = [
        Self::Edge,
        Self::EarlierEdge,
        Self::Nginx,
        Self::BareHyper,
        Self::Floor,
    ];

    /// Its name in tables.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::EarlierEdge => "earlier edge",
            Self::Nginx => "nginx",
            Self::BareHyper => "bare hyper",
            Self::Floor => "floor",
        }
    }

    /// What is needed that this machine lacks, if anything.
    #[must_use]
    pub(super) fn lacks(self) -> Option<String> {
        match self {
            Self::Nginx => nginx::lacks(),
            Self::Edge | Self::EarlierEdge | Self::BareHyper | Self::Floor => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What servers are given.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// A folder for all of them.
    pub(super) dir: PathBuf,
    /// A MaxMind-format file of countries.
    pub(super) geo: PathBuf,
    /// The links' file and their slugs.
    pub(super) links: PathBuf,
    /// Slug and offer of each link.
    pub(super) slugs: Vec<(String, String)>,
    /// Where to pin.
    pub(super) cores: Cores,
    /// The program of [`Kind::EarlierEdge`].
    pub(super) earlier: Option<PathBuf>,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    /// What it is.
    pub(super) kind: Kind,
    /// Where it listens.
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
    /// Starts `kind` and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start; the message has its log's tail.
    pub(super) fn start(kind: Kind, setting: &Setting) -> anyhow::Result<Self> {
        let dir = setting.dir.join(kind.name().replace(' ', "-"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        match kind {
            Kind::Edge => edge::start(kind, &program("edge-tracker")?, &dir, setting),
            Kind::EarlierEdge => {
                let earlier = setting.earlier.as_deref();
                let earlier = earlier.context("name the earlier program with --before")?;
                edge::start(kind, earlier, &dir, setting)
            }
            Kind::Nginx => nginx::start(&dir, setting),
            Kind::BareHyper => baseline(kind, Baseline::BareHyper, &dir, setting),
            Kind::Floor => baseline(kind, Baseline::Floor, &dir, setting),
        }
    }

    /// Processor time of all its threads so far.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn cpu_time(&self) -> anyhow::Result<Duration> {
        machine::cpu_time(&self.pids)
    }

    /// Its processes.
    #[must_use]
    pub(super) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// The file it logs to, one line for each answer, if it does.
    #[must_use]
    pub(super) fn log_file(&self) -> Option<&Path> {
        match &self.log {
            Log::Lines(file) => Some(file),
            Log::None | Log::Journal { .. } => None,
        }
    }

    /// Where operators ask it, for ours.
    #[must_use]
    pub(super) fn admin(&self) -> Option<&str> {
        match &self.log {
            Log::Journal { admin, .. } => Some(admin),
            Log::None | Log::Lines(_) => None,
        }
    }

    /// Stops it and checks that each of `answered` requests is in its log once.
    ///
    /// # Errors
    /// When it is not, with the figures.
    pub(super) fn stop(mut self, answered: u64) -> anyhow::Result<()> {
        if let Log::Lines(file) = &self.log {
            nginx::wait_for_lines(file, answered)?;
        }
        match &self.log {
            Log::None => self.process.kill(),
            Log::Lines(_) => self.process.stop(STOP_WITHIN),
            Log::Journal { dir, .. } => {
                self.process.stop(STOP_WITHIN)?;
                let logged = Held::read(dir)?.events;
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
    setting: &Setting,
) -> anyhow::Result<Server> {
    let name = baseline.to_possible_value().context("a name")?;
    let mut command = Command::new(program("loadtest")?);
    command.args(["baseline", name.get_name()]);
    let mut process = setting
        .cores
        .on_server(|| Process::start(kind.name(), &mut command, &dir.join("log")))?;
    let ready = process.ready_line(READY_WITHIN)?;
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
        .with_context(|| format!("{text} is no address"))
}

/// Waits until something listens at `address`.
fn wait_for_port(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        match std::net::TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("nothing listens at {address}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
