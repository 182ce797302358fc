//! Properties of the machine: cores to pin to, CPU time and memory of processes, names.

use anyhow::{Context as _, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;
use std::fs;
use std::time::Duration;

/// Two cores: one for servers, one for the load generator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    server: usize,
    client: usize,
    pinned: bool,
}

impl Cores {
    /// The first two cores that this process may use.
    ///
    /// # Errors
    /// If there is only one: server and client would take turns on it.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let allowed =
            sched_getaffinity(Pid::from_raw(0)).context("failed to read the CPU affinity")?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        let (server, client) = (cores.next(), cores.next());
        ensure!(
            client.is_some(),
            "a benchmark needs two cores: one for the server and one for the load generator"
        );
        Ok(Self {
            server: server.context("no core")?,
            client: client.context("no second core")?,
            pinned: true,
        })
    }

    /// The same cores without pinning.
    #[must_use]
    pub(super) fn shared(self) -> Self {
        Self {
            pinned: false,
            ..self
        }
    }

    /// Runs `start` pinned to the server's core, which started processes inherit, and then pins this thread to the
    /// client's core.
    ///
    /// # Errors
    /// If pinning or `start` fails.
    pub(crate) fn on_server<T>(
        self,
        start: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if !self.pinned {
            return start();
        }
        pin(self.server)?;
        let started = start();
        pin(self.client)?;
        started
    }
}

fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("failed to pin this thread to core {core}"))
}

/// CPU time of all threads of `pids` so far, from the scheduler's statistics.
///
/// # Errors
/// If a process has exited or the kernel keeps no statistics (`CONFIG_SCHED_INFO`).
pub(super) fn cpu_time(pids: &[u32]) -> anyhow::Result<Duration> {
    let mut nanos = 0_u64;
    for pid in pids {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .with_context(|| format!("process {pid} has exited"))?;
        for task in tasks {
            // A thread may exit after it was listed.
            if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
                let first = text.split(' ').next().unwrap_or_default();
                nanos += first.parse::<u64>().context("invalid schedstat")?;
            }
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// If the process has exited.
pub(super) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} has exited"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok())
        .context("invalid VmRSS")?;
    Ok(kib * 1_024)
}

/// The child processes of `pid`.
///
/// # Errors
/// If the process has exited.
pub(super) fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .with_context(|| format!("process {pid} has exited"))?;
    Ok(text
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect())
}

/// The machine that was measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    /// The processor's name.
    pub(super) processor: String,
    /// Number of usable cores.
    pub(super) cores: usize,
    /// The kernel's release.
    pub(super) kernel: String,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub(super) fn this() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, name)| name);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: processor.into(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().into(),
        }
    }
}
