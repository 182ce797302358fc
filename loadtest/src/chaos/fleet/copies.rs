//! Edge directories that are restored from older copies or cloned to other edges. Events that were neither shipped
//! nor in the copy would be lost with the directory, so everything is shipped first.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::{is_drained, replace};
use super::{EFFECT_TIMEOUT, Fleet, holds_within};
use crate::chaos::clock::Clock;
use crate::chaos::context::FaultContext;
use crate::chaos::counts::FaultCounts;
use crate::traffic::Random;
use crate::verify;

/// Maximum duration of traffic between making a copy and using it.
const MAX_PAUSE: Duration = Duration::from_secs(2);
const DISPUTES_METRIC: &str = "edge_journal_disputes_total";

impl Fleet<'_> {
    /// Copies an edge's directory, lets the edge continue, and restores the copy.
    pub(super) fn restore_edge(
        &mut self,
        random: &mut Random,
        context: FaultContext<'_>,
    ) -> anyhow::Result<FaultCounts> {
        let mut counts = FaultCounts::default();
        let edge = random.below(self.stack.edges.len() as u64) as usize;
        let copy = self.stack.dir().join("copy");
        let was_running = random.below(2) == 0;
        self.copy(edge, &copy, was_running, &mut counts, random)?;
        let scratch = self.stack.dir().join("scratch");
        // If the copy shows every event of a process as acknowledged, the edge does not announce that process
        // again.
        let names_its_process = !is_drained(&copy, &scratch)?;
        let accepted = self.accepted(edge)?;
        context.sleep(pause(random));
        let wrote_more = self.accepted(edge)? > accepted;
        self.end(edge, &mut counts, random)?;
        self.drain(edge)?;
        replace(&copy, &self.data(edge))?;
        self.stack.edges[edge].restart()?;
        if was_running && wrote_more && names_its_process {
            // The aggregator has more events of that process than the copy.
            counts.count_intrusion(self.is_disputed(edge));
        }
        Ok(counts)
    }

    /// Replaces another edge's directory with a copy of this edge's, and runs both.
    pub(super) fn clone_edge(
        &mut self,
        random: &mut Random,
        context: FaultContext<'_>,
    ) -> anyhow::Result<FaultCounts> {
        let mut counts = FaultCounts::default();
        let original = random.below(self.stack.edges.len() as u64) as usize;
        let other = (original + 1) % self.stack.edges.len();
        self.end(other, &mut counts, random)?;
        self.drain(other)?;
        let was_running = random.below(2) == 0;
        let data = self.data(other);
        self.copy(original, &data, was_running, &mut counts, random)?;
        let node = self.node(original)?;
        self.become_node(other, node)?;
        let label = format!("node=\"{node}\"");
        let admin = &self.stack.aggregator_admin_url;
        let clashes = || verify::labelled_counter(admin, "aggregator_clashes_total", &label);
        let before = clashes()?;
        self.stack.edges[other].restart()?;
        counts.count_intrusion(holds_within(EFFECT_TIMEOUT, || Ok(clashes()? > before)));
        context.sleep(pause(random));
        Ok(counts)
    }

    pub(super) fn data(&self, edge: usize) -> PathBuf {
        self.stack.dir().join(format!("edge-{}", edge + 1))
    }

    /// Copies an edge's directory, while the edge runs or is stopped.
    fn copy(
        &mut self,
        edge: usize,
        to: &Path,
        while_running: bool,
        counts: &mut FaultCounts,
        random: &mut Random,
    ) -> anyhow::Result<()> {
        let data = self.data(edge);
        if while_running {
            return replace(&data, to);
        }
        self.end(edge, counts, random)?;
        replace(&data, to)?;
        self.stack.edges[edge].restart()
    }

    /// Stops or kills an edge.
    fn end(
        &mut self,
        edge: usize,
        counts: &mut FaultCounts,
        random: &mut Random,
    ) -> anyhow::Result<()> {
        let member = &mut self.stack.edges[edge];
        if random.below(2) == 0 {
            return member.stop();
        }
        member.kill()?;
        Clock::remove_stale();
        counts.kills += 1;
        Ok(())
    }

    fn accepted(&self, edge: usize) -> anyhow::Result<f64> {
        verify::counter(&self.stack.edge_admin_urls[edge], "edge_answered_total")
    }

    fn is_disputed(&self, edge: usize) -> bool {
        let admin = &self.stack.edge_admin_urls[edge];
        holds_within(EFFECT_TIMEOUT, || {
            let of = |reason| verify::labelled_counter(admin, DISPUTES_METRIC, reason);
            Ok(of("other_writer")? + of("events_missing")? > 0.0)
        })
    }

    /// The node in an edge's settings.
    fn node(&self, edge: usize) -> anyhow::Result<u16> {
        let text = fs::read_to_string(self.stack.edges[edge].settings_file()?)?;
        let settings: toml::Table = text.parse()?;
        let node = settings.get("node").and_then(toml::Value::as_integer);
        Ok(u16::try_from(node.unwrap_or_default())?)
    }

    /// From its next start on the edge claims to be `node` and uses its certificate.
    fn become_node(&mut self, edge: usize, node: u16) -> anyhow::Result<()> {
        let before = self.node(edge)?;
        let file = self.stack.edges[edge].settings_file()?;
        let text = fs::read_to_string(&file)?;
        let text = text
            .replacen(
                &format!("node = {before}\n"),
                &format!("node = {node}\n"),
                1,
            )
            .replace(
                &format!("tls/edge-{before}\""),
                &format!("tls/edge-{node}\""),
            );
        Ok(fs::write(&file, text)?)
    }
}

fn pause(random: &mut Random) -> Duration {
    MAX_PAUSE / 4 + MAX_PAUSE.mul_f64(random.below(1_000) as f64 / 1_000.0)
}
