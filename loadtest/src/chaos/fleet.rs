//! Faults that concern the whole fleet, one at a time while traffic flows: copies of directories, a stolen
//! certificate, a lost aggregator, late reports.

mod copies;
mod directory;
mod intruder;
mod lost_aggregator;
mod reporter;
mod sales;

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::hand::Around;
use super::scenario::Fault;
use super::toll::Toll;
use crate::clickhouse::Analyst;
use crate::stack::Stack;
use crate::traffic::Random;
pub(super) use sales::Sales;

/// What must show or be over soon, on a machine that does other work.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);

/// The fleet and what faults on it need.
pub(super) struct Fleet<'a> {
    pub(super) stack: &'a mut Stack,
    /// What was reported so far, by simulated edges; only for faults that report.
    pub(super) sales: Option<&'a mut Sales>,
    /// Faults of this round so far: kinds of one fault take turns.
    pub(super) turn: u32,
}

impl Fleet<'_> {
    /// Causes one fault and waits until it is over.
    pub(super) fn suffer(
        &mut self,
        fault: Fault,
        random: &mut Random,
        around: Around<'_>,
    ) -> anyhow::Result<Toll> {
        self.turn += 1;
        match fault {
            Fault::RestoreEdge => self.restore_edge(random, around),
            Fault::CloneEdge => self.clone_edge(random, around),
            Fault::StolenCertificate => self.intrude(random),
            Fault::LoseAggregator => self.lose_aggregator(random, around),
            Fault::LateReports => self.report_late(random),
            other => anyhow::bail!("{other:?} does not concern the whole fleet"),
        }
    }

    fn analyst(&self) -> anyhow::Result<Analyst> {
        Analyst::new(&self.stack.clickhouse_url, &self.stack.credentials)
    }
}

/// Asks again and again until the answer is yes; failures to answer are no.
fn until(what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let shown = shown_within(SHOWN_WITHIN, &mut holds);
    ensure!(shown, "not within {SHOWN_WITHIN:?}: {what}");
    Ok(())
}

/// Whether the answer was yes in time.
fn shown_within(within: Duration, mut holds: impl FnMut() -> anyhow::Result<bool>) -> bool {
    let deadline = Instant::now() + within;
    while !holds().unwrap_or(false) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}
