//! The overloaded edge: one worker and no aggregator, so that its journal keeps everything. Invariant: no load is
//! generated here.

use crate::bench::journal::JournalContents;
use crate::bench::machine::Cores;
use crate::links;
use crate::process::Process;
use crate::stack::{development_certificates, free_port, program};
use anyhow::{Context as _, ensure};
use event_shipping::tls::Subject;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const READY_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Marks directories that a run created and the next run may remove.
const MARKER: &str = "made-by-loadtest-overload";

/// The setup of an edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    /// `http.max_connections`.
    pub(super) connections: usize,
    /// `http.header_timeout`, in seconds.
    pub(super) header_timeout: u32,
    /// Whether it yields to all other processes on its core.
    pub(super) nice: bool,
}

#[derive(Debug)]
pub(super) struct Edge {
    /// Address of the HTTP listener.
    pub(super) address: SocketAddr,
    admin: String,
    journal: PathBuf,
    process: Process,
    /// Its memory before the first connection, in bytes.
    pub(super) memory_at_start: u64,
    listen_drops_at_start: u64,
}

/// Counters of an edge.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(super) struct Counted {
    pub(super) clicks: u64,
    pub(super) pixels: u64,
    pub(super) shed_impressions: u64,
    pub(super) shed_idle: u64,
    pub(super) shed_connections: u64,
    /// Connections closed because they were too slow, broken or not HTTP.
    pub(super) cut_off: u64,
    /// Answered but not logged.
    pub(super) lost: u64,
    /// Connections that the kernel dropped before the edge accepted them, while it ran.
    pub(super) listen_drops: u64,
}

impl Edge {
    /// Starts an edge with fresh files in `dir`.
    pub(super) fn start(dir: &Path, setup: Setup, cores: Cores) -> anyhow::Result<Self> {
        recreate(dir)?;
        let (links, file) = (dir.join("links.toml"), dir.join("edge.toml"));
        fs::write(&links, links::sample_file())?;
        let text = format!(
            "node = 1\ndata_dir = {:?}\nworkers = 1\n\
             [http]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
             trusted_proxies = [\"127.0.0.0/8\"]\nmax_connections = {}\nheader_timeout = \"{}s\"\n\
             [links]\nfile = {links:?}\n[aggregator]\naddress = \"127.0.0.1:{}\"\n",
            dir.join("data"),
            setup.connections,
            setup.header_timeout,
            free_port()?,
        );
        development_certificates(&dir.join("data/tls"), &Subject::Edge(vec![1]))?;
        fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
        let edge = program("edge-tracker")?;
        let mut command = if setup.nice {
            let mut nice = Command::new("nice");
            nice.args(["-n", "15"]).arg(edge);
            nice
        } else {
            Command::new(edge)
        };
        command.args(["serve", "--config"]).arg(&file);
        let mut process = cores
            .on_server(|| Process::start("edge-tracker", &mut command, &dir.join("edge.log")))?;
        let ready = process.ready_line(READY_TIMEOUT)?;
        let field = |name: &str| ready[name].as_str().context("an incomplete ready line");
        let address = field("listening")?.parse()?;
        let admin = format!("http://{}/metrics", field("admin")?);
        let memory_at_start = memory(process.pid())?;
        let mut edge = Self {
            address,
            admin,
            journal: dir.join("data/journal"),
            process,
            memory_at_start,
            listen_drops_at_start: 0,
        };
        edge.listen_drops_at_start = edge.counted()?.listen_drops;
        Ok(edge)
    }

    /// Its anonymous memory in bytes.
    pub(super) fn memory(&self) -> anyhow::Result<u64> {
        memory(self.process.pid())
    }

    /// Reads its counters.
    pub(super) fn counted(&self) -> anyhow::Result<Counted> {
        let mut response = ureq::get(&self.admin)
            .call()
            .context("the edge's admin port does not respond")?;
        let text = response.body_mut().read_to_string()?;
        let sum = |name: &str, label: &str| {
            let lines = text.lines().filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && line.contains(label)
            });
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum()
        };
        Ok(Counted {
            clicks: sum("edge_answered_total", "\"click\""),
            pixels: sum("edge_answered_total", "\"impression\""),
            shed_impressions: sum("edge_shed_total", "\"impression\""),
            shed_idle: sum("edge_shed_total", "\"idle_connection\""),
            shed_connections: sum("edge_shed_total", "\"connection\""),
            cut_off: sum("edge_refused_total", ""),
            lost: sum("edge_lost_total", ""),
            listen_drops: sum("edge_listen_drops_total", "")
                .saturating_sub(self.listen_drops_at_start),
        })
    }

    /// Number of open connections.
    pub(super) fn connections(&self) -> anyhow::Result<u64> {
        let base = self.admin.trim_end_matches("/metrics");
        Ok(crate::verify::counter(base, "edge_connections")? as u64)
    }

    /// Stops the edge and reads its journal.
    pub(super) fn stop(mut self) -> anyhow::Result<JournalContents> {
        self.process.stop(STOP_TIMEOUT)?;
        JournalContents::read(&self.journal)
    }
}

/// Creates `dir` and replaces what an earlier run left there; other contents are not touched.
fn recreate(dir: &Path) -> anyhow::Result<()> {
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            ensure!(
                entries.next().is_none() || dir.join(MARKER).is_file(),
                "{} was not created by an earlier run: remove it, or pass another directory with --out",
                dir.display()
            );
            fs::remove_dir_all(dir)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| dir.display().to_string()),
    }
    fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
    Ok(fs::write(dir.join(MARKER), "")?)
}

fn memory(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} has exited"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok())
        .context("invalid RssAnon")?;
    Ok(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_earlier_trials_are_emptied() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ours, others) = (dir.path().join("ours"), dir.path().join("others"));
        fs::create_dir(&ours).expect("made");
        recreate(&ours).expect("an empty directory may be used");
        fs::write(ours.join("left"), "x").expect("writable");
        recreate(&ours).expect("ours");
        assert!(!ours.join("left").exists());
        fs::create_dir(&others).expect("made");
        fs::write(others.join("kept"), "x").expect("writable");
        assert!(recreate(&others).is_err());
        assert!(others.join("kept").exists());
    }
}
