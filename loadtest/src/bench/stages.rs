//! The stages of a pipeline with their processes and costs.

use super::machine;
use crate::stack::ManagedProcess;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// Time after the last insert in which ClickHouse's work is still counted.
pub(super) const SETTLE_DURATION: Duration = Duration::from_secs(2);

/// A figure per stage, by the stage's name.
pub(super) type StageFigures = BTreeMap<&'static str, f64>;

/// The processes of each stage, by the stage's name.
#[derive(Debug)]
pub(super) struct Stages(pub(super) Vec<(&'static str, Vec<u32>)>);

/// CPU time of each stage up to some time.
#[derive(Debug)]
pub(super) struct CpuSpent(Vec<Duration>);

impl Stages {
    /// CPU time of each stage so far.
    ///
    /// # Errors
    /// If a process has exited.
    pub(super) fn cpu_spent(&self) -> anyhow::Result<CpuSpent> {
        let cpu = self.0.iter().map(|(_, pids)| machine::cpu_time(pids));
        Ok(CpuSpent(cpu.collect::<anyhow::Result<_>>()?))
    }

    /// CPU time of each stage since `before`, per click, in µs.
    ///
    /// # Errors
    /// If a process has exited.
    pub(super) fn micros_since(
        &self,
        before: &CpuSpent,
        clicks: u64,
    ) -> anyhow::Result<StageFigures> {
        let now = self.cpu_spent()?;
        let cpu_spent = now.0.iter().zip(&before.0).map(|(now, before)| {
            let cpu_spent = now.saturating_sub(*before);
            cpu_spent.as_secs_f64() * 1e6 / clicks as f64
        });
        Ok(self.names().zip(cpu_spent).collect())
    }

    /// Resident memory of each stage in MB.
    ///
    /// # Errors
    /// If a process has exited.
    pub(super) fn resident_mb(&self) -> anyhow::Result<StageFigures> {
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

/// A process and its children.
///
/// # Errors
/// If the process has exited.
pub(super) fn processes(process: &ManagedProcess) -> anyhow::Result<Vec<u32>> {
    let first = process.pid().context("it runs")?;
    let mut pids = vec![first];
    pids.extend(machine::children(first)?);
    Ok(pids)
}
