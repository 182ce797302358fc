//! Properties of the machine: cores to pin to and to keep from halting, steal time, CPU time of processes, names.

use anyhow::{Context as _, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;
use std::fs::{self, File};
use std::io::Write as _;
use std::time::{Duration, Instant};

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

/// Keeps all cores from halting while it exists, as for latency-sensitive machines (`tuned` calls this
/// `latency-performance`). The host of a virtual machine gives a halted core to others, and it returns late and
/// with cold caches.
#[derive(Debug)]
pub(super) struct CpuLatencyGuard(
    #[expect(dead_code, reason = "the kernel's wish lives as long")] File,
);

impl CpuLatencyGuard {
    /// Starts now; `None` if that is not allowed. Root is allowed to.
    pub(super) fn acquire() -> Option<Self> {
        // Linux, Documentation/power/pm_qos_interface.rst: microseconds, as a binary number.
        let mut file = File::options()
            .write(true)
            .open("/dev/cpu_dma_latency")
            .ok()?;
        file.write_all(&0_i32.to_ne_bytes()).ok()?;
        Some(Self(file))
    }
}

/// Unit of `/proc/stat`: `USER_HZ`, which is constant for programs whatever the kernel's own tick rate is.
const TICKS_A_SECOND: f64 = 100.0;

/// Measures the steal time of two cores from its creation on.
#[derive(Debug, Clone, Copy)]
pub(super) struct StealTime {
    since: Instant,
    ticks: u64,
    cores: Cores,
}

impl StealTime {
    /// Starts now.
    ///
    /// # Errors
    /// If the kernel does not report steal time.
    pub(super) fn from_now(cores: Cores) -> anyhow::Result<Self> {
        let (since, ticks) = (Instant::now(), stolen_ticks(cores)?);
        Ok(Self {
            since,
            ticks,
            cores,
        })
    }

    /// The share of steal time in both cores' time until now.
    ///
    /// # Errors
    /// If the kernel does not report steal time.
    pub(super) fn share(self) -> anyhow::Result<f64> {
        let ticks = stolen_ticks(self.cores)? - self.ticks;
        Ok(ticks as f64 / TICKS_A_SECOND / self.since.elapsed().as_secs_f64() / 2.0)
    }
}

/// Steal ticks of both cores, in hundredths of a second: the eighth number of a core's line in `/proc/stat`
/// (proc_stat(5)).
///
/// # Errors
/// If the kernel does not report steal time.
pub(super) fn stolen_ticks(cores: Cores) -> anyhow::Result<u64> {
    let stat = fs::read_to_string("/proc/stat").context("failed to read /proc/stat")?;
    let of = |core: usize| {
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cpu{core} ")))?;
        line.split(' ').nth(7)?.parse::<u64>().ok()
    };
    let sum = of(cores.server).zip(of(cores.client)).map(|(a, b)| a + b);
    sum.context("/proc/stat has no lines for the cores")
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
