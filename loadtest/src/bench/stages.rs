//! The stages of a pipeline, each with its processes, and what they have cost.

use super::machine;
use crate::stack::ManagedProcess;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// What an engine does after the last insert is counted for so long.
pub(super) const SETTLE: Duration = Duration::from_secs(2);

/// A figure of each stage, by its name.
pub(super) type Figures = BTreeMap<&'static str, f64>;

/// The processes of each stage, by its name.
#[derive(Debug)]
pub(super) struct Stages(pub(super) Vec<(&'static str, Vec<u32>)>);

/// Processor time of each stage up to a moment.
#[derive(Debug)]
pub(super) struct Spent(Vec<Duration>);

impl Stages {
    /// What each has spent so far.
    ///
    /// # Errors
    /// When a process is gone.
    pub(super) fn spent(&self) -> anyhow::Result<Spent> {
        let cpu = self.0.iter().map(|(_, pids)| machine::cpu_time(pids));
        Ok(Spent(cpu.collect::<anyhow::Result<_>>()?))
    }

    /// What each has spent for one of `clicks` since `before`, in µs.
    ///
    /// # Errors
    /// When a process is gone.
    pub(super) fn micros_since(&self, before: &Spent, clicks: u64) -> anyhow::Result<Figures> {
        let now = self.spent()?;
        let spent = now.0.iter().zip(&before.0).map(|(now, before)| {
            let spent = now.saturating_sub(*before);
            spent.as_secs_f64() * 1e6 / clicks as f64
        });
        Ok(self.names().zip(spent).collect())
    }

    /// The resident memory of each, in MB.
    ///
    /// # Errors
    /// When a process is gone.
    pub(super) fn resident_mb(&self) -> anyhow::Result<Figures> {
        let resident = self.0.iter().map(|(name, pids)| {
            let bytes = pids.iter().map(|pid| machine::resident_bytes(*pid));
            let bytes: u64 = bytes.sum::<anyhow::Result<u64>>()?;
            Ok((*name, bytes as f64 / 1e6))
        });
        resident.collect()
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }
}

/// A member's process and those it started.
///
/// # Errors
/// When it is gone.
pub(super) fn processes(member: &ManagedProcess) -> anyhow::Result<Vec<u32>> {
    let first = member.pid().context("it runs")?;
    let mut pids = vec![first];
    pids.extend(machine::children(first)?);
    Ok(pids)
}
