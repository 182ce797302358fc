//! Edges that are removed under traffic: 3 → 1 → 3. The directory of a removed edge is deleted, so that an event that was
//! not shipped is missing in the comparison.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::Fleet;
use crate::chaos::clock::Clock;
use crate::chaos::context::FaultContext;
use crate::chaos::counts::FaultCounts;
use crate::traffic::Random;

/// For how long an edge accepts clicks after its readiness has failed.
const DELAY: &str = "200ms";
/// More than a drain takes, so that only a fault reaches it.
const TIMEOUT: &str = "120s";
/// Kills happen up to this long after the start of a command.
const KILL_WINDOW: Duration = Duration::from_millis(1_500);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The exit code for an edge that ended before it was drained.
const EDGE_ENDED: i32 = 5;

impl Fleet<'_> {
    /// Removes all edges but one, and adds them again with empty directories.
    pub(super) fn scale_in(
        &mut self,
        random: &mut Random,
        context: FaultContext<'_>,
    ) -> anyhow::Result<FaultCounts> {
        let mut counts = FaultCounts::default();
        let edges = self.stack.edges.len();
        let remaining = random.below(edges as u64) as usize;
        let removed: Vec<usize> = (0..edges).filter(|edge| *edge != remaining).collect();
        for edge in &removed {
            counts.kills += self.remove(*edge, remaining, random, context)?;
        }
        context.sleep(pause(random, MAX_PAUSE));
        for edge in removed {
            self.stack.edges[edge].restart()?;
        }
        context.sleep(pause(random, MAX_PAUSE));
        Ok(counts)
    }

    /// Drains an edge, sometimes with a kill of the edge or the aggregator, and deletes its directory. An edge that
    /// ended before it was drained is adopted by the host of `other`. Returns the number of kills.
    fn remove(
        &mut self,
        edge: usize,
        other: usize,
        random: &mut Random,
        context: FaultContext<'_>,
    ) -> anyhow::Result<u64> {
        let started = Instant::now();
        let mut kills = 0;
        let mut drain = self.start(edge, &["drain", "--delay", DELAY, "--timeout", TIMEOUT])?;
        if random.below(4) == 0 {
            context.sleep(pause(random, KILL_WINDOW));
            self.stack.aggregator.kill()?;
            Clock::remove_stale();
            self.stack.aggregator.restart()?;
            kills += 1;
        }
        if random.below(2) == 0 {
            context.sleep(pause(random, KILL_WINDOW));
            self.stack.edges[edge].kill()?;
            kills += 1;
        }
        let mut how = "drained";
        match drain.wait()?.code() {
            Some(0) => self.stack.edges[edge].stop()?,
            Some(EDGE_ENDED) => {
                how = "adopted";
                kills += self.adopt(edge, other, random, context)?;
            }
            code => bail!("the drain of edge {} exited with {code:?}", edge + 1),
        }
        fs::remove_dir_all(self.data(edge))?;
        let seconds = started.elapsed().as_secs_f64();
        println!("edge {} was {how} in {seconds:.2} s", edge + 1);
        Ok(kills)
    }

    /// Ships the directory of a killed edge from the host of another one, sometimes interrupted. Returns the number of
    /// kills.
    fn adopt(
        &mut self,
        edge: usize,
        other: usize,
        random: &mut Random,
        context: FaultContext<'_>,
    ) -> anyhow::Result<u64> {
        let tls = self.stack.tls.join(format!("edge-{}", edge + 1));
        let (data, tls) = (
            self.data(edge).display().to_string(),
            tls.display().to_string(),
        );
        let arguments = [
            "adopt",
            "--data-dir",
            &data,
            "--tls-dir",
            &tls,
            "--timeout",
            TIMEOUT,
        ];
        let mut kills = 0;
        if random.below(2) == 0 {
            let mut interrupted = self.start(other, &arguments)?;
            context.sleep(pause(random, KILL_WINDOW / 4));
            interrupted.kill()?;
            interrupted.wait()?;
            kills += 1;
        }
        let adopted = self.start(other, &arguments)?.wait()?;
        ensure!(
            adopted.success(),
            "adopting edge {} ended with {adopted}",
            edge + 1
        );
        Ok(kills)
    }

    /// Starts a command of edge-tracker with the settings of an edge; its errors are in a log of its own.
    fn start(&self, edge: usize, arguments: &[&str]) -> anyhow::Result<Child> {
        let log = self
            .stack
            .dir()
            .join(format!("{}-{}.log", arguments[0], edge + 1));
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = self.stack.edges[edge].command(arguments)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run edge-tracker {}", arguments[0]))
    }
}

fn pause(random: &mut Random, up_to: Duration) -> Duration {
    up_to.mul_f64(random.below(1_000) as f64 / 1_000.0)
}
