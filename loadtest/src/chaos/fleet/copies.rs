//! Directories of edges that are restored from older copies, and cloned to other edges. What was neither in the copy
//! nor shipped would be gone with the directory: so all of it is shipped before.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::{is_drained, replace};
use super::{Fleet, SHOWN_WITHIN, shown_within};
use crate::chaos::clock::Clock;
use crate::chaos::hand::Around;
use crate::chaos::toll::Toll;
use crate::traffic::Random;
use crate::verify;

/// Traffic between a copy and its use, at most.
const BETWEEN: Duration = Duration::from_secs(2);
const DISPUTES: &str = "edge_journal_disputes_total";

impl Fleet<'_> {
    /// An edge's directory is copied, the edge goes on, and the copy is put back.
    pub(super) fn restore_edge(
        &mut self,
        random: &mut Random,
        around: Around<'_>,
    ) -> anyhow::Result<Toll> {
        let mut toll = Toll::default();
        let edge = random.below(self.stack.edges.len() as u64) as usize;
        let copy = self.stack.dir().join("copy");
        let was_running = random.below(2) == 0;
        self.copy(edge, &copy, was_running, &mut toll, random)?;
        let scratch = self.stack.dir().join("scratch");
        // A process of which the copy shows everything acknowledged is not named to the aggregator again.
        let names_its_process = !is_drained(&copy, &scratch)?;
        let accepted = self.accepted(edge)?;
        around.sleep(pause(random));
        let wrote_more = self.accepted(edge)? > accepted;
        self.end(edge, &mut toll, random)?;
        self.drain(edge)?;
        replace(&copy, &self.data(edge))?;
        self.stack.edges[edge].restart()?;
        if was_running && wrote_more && names_its_process {
            // The aggregator has more of that process than the copy has.
            toll.intrusion(self.is_disputed(edge));
        }
        Ok(toll)
    }

    /// An edge's directory takes the place of another edge's, and both go on.
    pub(super) fn clone_edge(
        &mut self,
        random: &mut Random,
        around: Around<'_>,
    ) -> anyhow::Result<Toll> {
        let mut toll = Toll::default();
        let original = random.below(self.stack.edges.len() as u64) as usize;
        let other = (original + 1) % self.stack.edges.len();
        self.end(other, &mut toll, random)?;
        self.drain(other)?;
        let was_running = random.below(2) == 0;
        let data = self.data(other);
        self.copy(original, &data, was_running, &mut toll, random)?;
        let node = self.node(original)?;
        self.become_node(other, node)?;
        let label = format!("node=\"{node}\"");
        let admin = &self.stack.aggregator_admin_url;
        let clashes = || verify::labelled_counter(admin, "aggregator_clashes_total", &label);
        let before = clashes()?;
        self.stack.edges[other].restart()?;
        toll.intrusion(shown_within(SHOWN_WITHIN, || Ok(clashes()? > before)));
        around.sleep(pause(random));
        Ok(toll)
    }

    fn data(&self, edge: usize) -> PathBuf {
        self.stack.dir().join(format!("edge-{}", edge + 1))
    }

    /// Copies an edge's directory, while it runs or between two of its processes.
    fn copy(
        &mut self,
        edge: usize,
        to: &Path,
        while_running: bool,
        toll: &mut Toll,
        random: &mut Random,
    ) -> anyhow::Result<()> {
        let data = self.data(edge);
        if while_running {
            return replace(&data, to);
        }
        self.end(edge, toll, random)?;
        replace(&data, to)?;
        self.stack.edges[edge].restart()
    }

    /// Stops or kills an edge.
    fn end(&mut self, edge: usize, toll: &mut Toll, random: &mut Random) -> anyhow::Result<()> {
        let member = &mut self.stack.edges[edge];
        if random.below(2) == 0 {
            return member.stop();
        }
        member.kill9()?;
        Clock::sweep();
        toll.kills += 1;
        Ok(())
    }

    fn accepted(&self, edge: usize) -> anyhow::Result<f64> {
        verify::counter(&self.stack.edge_admin_urls[edge], "edge_answered_total")
    }

    fn is_disputed(&self, edge: usize) -> bool {
        let admin = &self.stack.edge_admin_urls[edge];
        shown_within(SHOWN_WITHIN, || {
            let of = |reason| verify::labelled_counter(admin, DISPUTES, reason);
            Ok(of("other_writer")? + of("events_missing")? > 0.0)
        })
    }

    /// The node that an edge's settings name.
    fn node(&self, edge: usize) -> anyhow::Result<u16> {
        let text = fs::read_to_string(self.stack.edges[edge].settings_file()?)?;
        let settings: toml::Table = text.parse()?;
        let node = settings.get("node").and_then(toml::Value::as_integer);
        Ok(u16::try_from(node.unwrap_or_default())?)
    }

    /// From its next start on the edge claims to be `node`, and has its certificate.
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
    BETWEEN / 4 + BETWEEN.mul_f64(random.below(1_000) as f64 / 1_000.0)
}
