//! Faults of the whole fleet, one at a time under traffic: copied directories, a stolen certificate, a lost
//! aggregator, late reports, edges that are removed and added.

mod copies;
mod directory;
mod intruder;
mod lost_aggregator;
mod reporter;
mod scale_in;
mod simulated_sales;

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::context::FaultContext;
use super::counts::FaultCounts;
use super::scenario::Fault;
use crate::clickhouse::Analyst;
use crate::stack::Stack;
use crate::traffic::Random;
pub(super) use simulated_sales::SimulatedSales;

/// Maximum time until an effect is visible on a busy machine.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The fleet and the state of its faults.
pub(super) struct Fleet<'a> {
    pub(super) stack: &'a mut Stack,
    /// Reports of simulated edges so far, for the faults that need them.
    pub(super) sales: Option<&'a mut SimulatedSales>,
    /// Faults of this round so far; variants of a fault take turns by it.
    pub(super) turn: u32,
}

impl Fleet<'_> {
    /// Injects one fault and waits until it has ended.
    pub(super) fn run_faults(
        &mut self,
        fault: Fault,
        random: &mut Random,
        context: FaultContext<'_>,
    ) -> anyhow::Result<FaultCounts> {
        self.turn += 1;
        match fault {
            Fault::RestoreEdge => self.restore_edge(random, context),
            Fault::CloneEdge => self.clone_edge(random, context),
            Fault::StolenCertificate => self.intrude(random),
            Fault::LoseAggregator => self.lose_aggregator(random, context),
            Fault::LateReports => self.report_late(random),
            Fault::ScaleIn => self.scale_in(random, context),
            other => anyhow::bail!("{other:?} does not concern the whole fleet"),
        }
    }

    fn analyst(&self) -> anyhow::Result<Analyst> {
        Analyst::new(&self.stack.clickhouse_url, &self.stack.credentials)
    }
}

/// Polls until the condition holds; errors count as "does not hold".
fn wait_until(what: &str, mut targets: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let shown = holds_within(EFFECT_TIMEOUT, &mut targets);
    ensure!(shown, "not within {EFFECT_TIMEOUT:?}: {what}");
    Ok(())
}

/// Whether the condition held in time.
fn holds_within(within: Duration, mut targets: impl FnMut() -> anyhow::Result<bool>) -> bool {
    let deadline = Instant::now() + within;
    while !targets().unwrap_or(false) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}
