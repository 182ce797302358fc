//! The cost of the disk and the server's core alone: a lower bound for responses that wait for durability.

use super::super::client::{Arrivals, LoadResult};
use super::super::machine::Cores;
use super::super::steal_filter::{Latencies, StealSampler};
use crate::traffic::Random;
use anyhow::Context as _;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::hint;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Size of a postback's event in bytes.
const EVENT: [u8; 320] = [0xa5; 320];
/// Size of a journal segment in bytes.
const FILE_BYTES: u64 = 32 << 20;

/// Writes and syncs events on the server's core at `rate` per second; events that became due meanwhile share a
/// sync. Latencies start at the scheduled time.
///
/// # Errors
/// If a file in `dir` can't be written.
pub(super) fn run(
    dir: &Path,
    cores: Cores,
    rate: f64,
    arrivals: Arrivals,
    duration: Duration,
) -> anyhow::Result<LoadResult> {
    let path = dir.join("disk-alone");
    let written = cores.on_server(|| write(&path, cores, rate, arrivals, duration));
    let _ = fs::remove_file(&path);
    written.with_context(|| path.display().to_string())
}

fn write(
    path: &Path,
    cores: Cores,
    rate: f64,
    arrivals: Arrivals,
    duration: Duration,
) -> anyhow::Result<LoadResult> {
    let file = File::create(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    file.sync_all()?;
    let (mut latency, mut slices) = (Latencies::new(true), StealSampler::from_now(cores)?);
    let mut random = Random::new(0);
    let (started, mut offset, mut measured) = (Instant::now(), 0, 0);
    let mut due = started;
    while started.elapsed() < duration {
        if let Some(taken) = slices.ended(Instant::now())? {
            latency.end_slice(taken);
        }
        let mut dues = Vec::new();
        while due <= Instant::now() {
            dues.push(due);
            due += arrivals.gap(&mut random, rate);
        }
        if dues.is_empty() {
            hint::spin_loop();
            continue;
        }
        for _ in &dues {
            file.write_all_at(&EVENT, offset)?;
            offset = (offset + EVENT.len() as u64) % (FILE_BYTES - EVENT.len() as u64);
        }
        file.sync_data()?;
        for due in dues {
            latency.record(due.elapsed());
            measured += 1;
        }
    }
    Ok(LoadResult {
        sent: measured,
        measured,
        elapsed: started.elapsed(),
        cpu: Duration::ZERO,
        latency,
    })
}
