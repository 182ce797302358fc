//! Edge, aggregator and ClickHouse: the cost of each at full load and at fractions of it.

use super::PipelineBench;
use crate::bench::client::LoadMode;
use crate::bench::journal::JournalContents;
use crate::bench::rows::{check_rows, count, wait_for_rows};
use crate::bench::stages::{StageFigures, Stages, processes};
use crate::clickhouse::Analyst;
use crate::stack::Stack;
use crate::verify::{Distribution, counter};
use anyhow::{Context as _, ensure};
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;

const FRESHNESS: &str = "aggregator_freshness_seconds";

/// Results at a fraction of the full load.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    pub(super) clicks_per_second: f64,
    pub(super) freshness_p50_seconds: f64,
    pub(super) freshness_p99_seconds: f64,
    pub(super) cpu_micros: StageFigures,
    pub(super) resident_mb: StageFigures,
}

struct RunningStack {
    stack: Stack,
    analyst: Analyst,
    edge: SocketAddr,
    stages: Stages,
    answered: u64,
}

impl PipelineBench<'_> {
    /// A round of our pipeline.
    pub(super) fn ours(&mut self, round: u32) -> anyhow::Result<()> {
        self.progress(round, "edge, aggregator and engine");
        let mut running = self.start()?;
        let carried = self.measure_clicks(running.edge, &running.stages, round, |rows| {
            running.answered += rows;
            wait_for_rows(&running.analyst, rows)
        })?;
        self.results.ours.add(&carried);
        let most = carried.answered as f64 / carried.elapsed.as_secs_f64();
        self.bytes(&running)?;
        for share in [10, 50, 90] {
            let rate = most * f64::from(share) / 100.0;
            self.progress(round, &format!("the same at {share}%, {rate:.0} clicks/s"));
            let step = self.step(&mut running, rate, round)?;
            self.results.steps.entry(share).or_default().push(step);
        }
        check_rows(&running.analyst, running.answered)?;
        running.stack.stop()?;
        self.spool_bytes()
    }

    fn dir(&self) -> PathBuf {
        self.setup.dir.join("ours")
    }

    fn start(&self) -> anyhow::Result<RunningStack> {
        let dir = self.dir();
        let _ = std::fs::remove_dir_all(&dir);
        let stack = Stack::start(&dir, 1, Some(&self.setup.geo), |_| {})?;
        let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials)?;
        let edge = stack.edge_urls[0]
            .strip_prefix("http://")
            .context("a URL")?;
        Ok(RunningStack {
            edge: edge.parse()?,
            stages: Stages(vec![
                ("edge", processes(&stack.edges[0])?),
                ("aggregator", processes(&stack.aggregator)?),
                ("engine", processes(&stack.engine)?),
            ]),
            stack,
            analyst,
            answered: 0,
        })
    }

    fn step(&self, running: &mut RunningStack, rate: f64, round: u32) -> anyhow::Result<Step> {
        let aggregator = [running.stack.aggregator_admin_url.clone()];
        let before = Distribution::read(&aggregator, FRESHNESS)?;
        let cpu_spent = running.stages.cpu_spent()?;
        let salt = 1_000 + u64::from(round) * 100 + rate as u64;
        let result = self.send(running.edge, LoadMode::Open(rate), salt)?;
        running.answered += result.sent;
        wait_for_rows(&running.analyst, running.answered)?;
        let cpu_micros = running.stages.micros_since(&cpu_spent, result.sent)?;
        let fresh = Distribution::read(&aggregator, FRESHNESS)?.since(&before);
        Ok(Step {
            clicks_per_second: result.measured as f64 / result.elapsed.as_secs_f64(),
            freshness_p50_seconds: fresh.quantile(0.5),
            freshness_p99_seconds: fresh.quantile(0.99),
            cpu_micros,
            resident_mb: running.stages.resident_mb()?,
        })
    }

    fn bytes(&mut self, running: &RunningStack) -> anyhow::Result<()> {
        let clicks = running.answered as f64;
        let sent = counter(
            &running.stack.edge_admin_urls[0],
            "edge_batch_bytes_sent_total",
        )?;
        let on_disk = |table: &str| {
            let sql = format!(
                "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND \
                 database = 'tracking' AND table = '{table}'"
            );
            count(&running.analyst, &sql)
        };
        let (table, hourly) = (on_disk("clicks")?, on_disk("clicks_hourly")?);
        for (place, bytes) in [
            ("wire (edge to aggregator, compressed)", sent),
            ("ClickHouse, table", table as f64),
            ("ClickHouse, roll-up", hourly as f64),
        ] {
            self.add_bytes(place, bytes / clicks);
        }
        Ok(())
    }

    /// Uses the segments that the edge has not deleted; the last one always exists.
    fn spool_bytes(&mut self) -> anyhow::Result<()> {
        let contents = JournalContents::read(&self.dir().join("edge-1/journal"))?;
        ensure!(contents.events > 0, "the edge's journal contains no click");
        let bytes = contents.bytes as f64 / contents.events as f64;
        self.add_bytes("spool (edge's journal)", bytes);
        Ok(())
    }

    fn add_bytes(&mut self, place: &'static str, bytes: f64) {
        self.results.bytes.entry(place).or_default().0.push(bytes);
    }
}
