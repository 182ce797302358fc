//! Shared by all fault injectors: the relays, the end of the run, and the edges' counters of lost events.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::disks::Disk;
use super::relay::{PacketFaults, TcpRelay, UdpRelay};
use crate::interrupt::Interrupt;
use crate::verify;

/// How often waiting code checks whether the run is over.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time until edges stop losing events once shipping is possible again.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time to fill the rest of a disk on a busy machine.
const FILL_TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy)]
pub(super) struct FaultContext<'a> {
    pub(super) udp_relay: &'a UdpRelay,
    pub(super) tcp_relay: &'a TcpRelay,
    /// Directories of programs: the older build and the current one.
    pub(super) programs: Option<[&'a Path; 2]>,
    /// Admin URLs of edges that count lost events and are not restarted meanwhile.
    pub(super) admin_urls: &'a [String],
    /// HeldVersion during a fault of a dependency of all edges, until all edges have recovered.
    pub(super) exclusive: &'a Mutex<()>,
    /// Set when an injector failed or panicked.
    pub(super) is_aborted: &'a AtomicBool,
    pub(super) interrupt: &'a Interrupt,
}

impl FaultContext<'_> {
    pub(super) fn block_shipping(&self, drop_all: bool) {
        let faults = PacketFaults {
            drop_all,
            ..PacketFaults::default()
        };
        self.udp_relay.set([faults; 2]);
    }

    /// Whether the run has failed or was interrupted.
    pub(super) fn is_ended(&self) -> bool {
        self.is_aborted.load(Ordering::Relaxed) || self.interrupt.check().is_err()
    }

    /// Sleeps, but no longer than the run lasts.
    pub(super) fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_ended() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(POLL_INTERVAL));
        }
    }

    pub(super) fn fill_until_something_is_lost(
        &self,
        disk: &Disk,
        left: u64,
        edge: &str,
    ) -> anyhow::Result<()> {
        let (deadline, before) = (Instant::now() + FILL_TIMEOUT, lost(&[edge])?);
        while lost(&[edge])? == before && !self.is_ended() {
            // Filled repeatedly: saving filters frees the space of the previous ones.
            disk.fill_but(left)?;
            ensure!(
                Instant::now() < deadline,
                "the disk of {edge} is not full after {FILL_TIMEOUT:?}"
            );
            self.sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Waits until full journals accept events again, under continuing traffic.
    pub(super) fn wait_until_nothing_is_lost(
        &self,
        edges: &[impl AsRef<str>],
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + RECOVERY_TIMEOUT;
        let mut before = lost(edges)?;
        loop {
            self.sleep(Duration::from_secs(1));
            let now = lost(edges)?;
            if now == before || self.is_ended() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "edges still lose events {RECOVERY_TIMEOUT:?} after space was freed"
            );
            before = now;
        }
    }
}

/// Events that edges answered and could not journal, by their counters since their start.
pub(super) fn lost(edges: &[impl AsRef<str>]) -> anyhow::Result<u64> {
    let edges = edges.iter().map(AsRef::as_ref);
    let lost = edges.map(|url| Ok(verify::counter(url, "edge_lost_total")? as u64));
    lost.sum()
}
