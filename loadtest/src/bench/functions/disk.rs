//! What the disk and the server's core alone take: whoever answers there when it is durable waits for this at least.

use super::super::calm::{Latencies, Slices};
use super::super::client::{Account, Moments};
use super::super::machine::Cores;
use crate::traffic::Random;
use anyhow::Context as _;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::hint;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// As long as the event of a postback, in bytes.
const EVENT: [u8; 320] = [0xa5; 320];
/// As a journal's segment, in bytes.
const FILE_BYTES: u64 = 32 << 20;

/// Writes and syncs events that are due `rate` times a second, on the server's core; those that became due
/// meanwhile go together. Latencies are from when each was due.
///
/// # Errors
/// When a file in `folder` can't be written.
pub(super) fn run(
    folder: &Path,
    cores: Cores,
    rate: f64,
    moments: Moments,
    lasts: Duration,
) -> anyhow::Result<Account> {
    let path = folder.join("disk-alone");
    let written = cores.on_server(|| write(&path, cores, rate, moments, lasts));
    let _ = fs::remove_file(&path);
    written.with_context(|| path.display().to_string())
}

fn write(
    path: &Path,
    cores: Cores,
    rate: f64,
    moments: Moments,
    lasts: Duration,
) -> anyhow::Result<Account> {
    let file = File::create(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    file.sync_all()?;
    let (mut latency, mut slices) = (Latencies::new(true), Slices::from_now(cores)?);
    let mut random = Random::new(0);
    let (begun, mut offset, mut measured) = (Instant::now(), 0, 0);
    let mut due = begun;
    while begun.elapsed() < lasts {
        if let Some(taken) = slices.ended(Instant::now())? {
            latency.end_slice(taken);
        }
        let mut dues = Vec::new();
        while due <= Instant::now() {
            dues.push(due);
            due += moments.gap(&mut random, rate);
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
    Ok(Account {
        sent: measured,
        measured,
        elapsed: begun.elapsed(),
        cpu: Duration::ZERO,
        latency,
    })
}
