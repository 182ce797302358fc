//! What this machine has to give for the trial: descriptors, and a neighbour who takes most of a core.

use crate::bench::machine::Cores;
use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Allows this process, and those it starts, up to `wanted` descriptors, and says how many there
/// may be.
///
/// # Errors
/// When there are fewer than `least`; the message says how to raise the limit.
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

/// Takes the server's core for itself as far as the scheduler lets it, so that a server with a lower
/// priority is slow enough to be overloaded from one other core.
#[derive(Debug)]
pub(super) struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    /// Moves in on the server's core.
    ///
    /// # Errors
    /// When threads can't be pinned.
    pub(super) fn start(cores: Cores) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        // A thread starts on the core of who starts it.
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
