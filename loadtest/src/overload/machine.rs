//! Requirements of the run: file descriptors, and a process that takes most of a core.

use crate::bench::machine::Cores;
use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Raises the limit of file descriptors of this process and its children up to `wanted`, and returns the limit.
///
/// # Errors
/// If there are fewer than `least`; the message says how to raise the limit.
pub(super) fn allow_descriptors(wanted: u64, least: u64) -> anyhow::Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let hard = maximum.unwrap_or(u64::MAX);
    let set = |limit, maximum| {
        let limits = Rlimit {
            current: Some(limit),
            maximum: Some(maximum),
        };
        setrlimit(Resource::Nofile, limits).is_ok()
    };
    if hard < wanted && set(wanted, wanted) {
        return Ok(wanted);
    }
    let allowed = hard.min(wanted);
    ensure!(
        set(allowed, hard) && allowed >= least,
        "{least} open files are needed: raise the hard limit (ulimit -Hn), or run as root"
    );
    Ok(allowed)
}

/// Takes as much of the server's core as the scheduler allows, so that a server with a lower priority can be
/// overloaded from one other core.
#[derive(Debug)]
pub(super) struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    /// Starts on the server's core.
    ///
    /// # Errors
    /// If threads can't be pinned.
    pub(super) fn start(cores: Cores) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        // A thread starts on its creator's core.
        let thread = cores.on_server(|| {
            Ok(std::thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }))
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
