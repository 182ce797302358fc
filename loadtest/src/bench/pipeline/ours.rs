//! Edge, aggregator and engine: the cost of each at full load, then at shares of it.

use super::{Bench, Stages, check_rows, count, machine, wait_for_rows};
use crate::bench::client::Pace;
use crate::bench::journal::Held;
use crate::clickhouse::Analyst;
use crate::stack::{Member, Stack};
use crate::verify::{Distribution, counter};
use anyhow::{Context as _, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const FRESHNESS: &str = "aggregator_freshness_seconds";

/// What was found at a share of the full load.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    pub(super) clicks_per_second: f64,
    pub(super) freshness_p50_seconds: f64,
    pub(super) freshness_p99_seconds: f64,
    pub(super) cpu_micros: BTreeMap<&'static str, f64>,
    pub(super) resident_mb: BTreeMap<&'static str, f64>,
}

struct Running {
    stack: Stack,
    analyst: Analyst,
    edge: SocketAddr,
    stages: Stages,
    answered: u64,
}

impl Bench<'_> {
    /// One round of ours.
    pub(super) fn ours(&mut self, round: u32) -> anyhow::Result<()> {
        self.progress(round, "edge, aggregator and engine");
        let mut running = self.start()?;
        let carried = self.carry(running.edge, &running.stages, round, |rows| {
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
        let Stack {
            edges,
            mut aggregator,
            mut engine,
            ..
        } = running.stack;
        for mut edge in edges {
            edge.stop()?;
        }
        self.spool_bytes()?;
        aggregator.stop()?;
        engine.stop()
    }

    fn dir(&self) -> PathBuf {
        self.setting.dir.join("ours")
    }

    fn start(&self) -> anyhow::Result<Running> {
        let dir = self.dir();
        let _ = std::fs::remove_dir_all(&dir);
        let stack = Stack::start(&dir, 1, Some(&self.setting.geo), |_| {})?;
        let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials)?;
        let edge = stack.edge_urls[0]
            .strip_prefix("http://")
            .context("a URL")?;
        Ok(Running {
            edge: edge.parse()?,
            stages: vec![
                ("edge", processes(&stack.edges[0])?),
                ("aggregator", processes(&stack.aggregator)?),
                ("engine", processes(&stack.engine)?),
            ],
            stack,
            analyst,
            answered: 0,
        })
    }

    fn step(&self, running: &mut Running, rate: f64, round: u32) -> anyhow::Result<Step> {
        let aggregator = [running.stack.aggregator_admin_url.clone()];
        let before = Distribution::read(&aggregator, FRESHNESS)?;
        let cpu = |running: &Running| -> anyhow::Result<Vec<Duration>> {
            let spent = running.stages.iter();
            spent.map(|(_, pids)| machine::cpu_time(pids)).collect()
        };
        let cpu_before = cpu(running)?;
        let salt = 1_000 + u64::from(round) * 100 + rate as u64;
        let account = self.send(running.edge, Pace::PerSecond(rate), salt)?;
        running.answered += account.sent;
        wait_for_rows(&running.analyst, running.answered)?;
        let cpu_after = cpu(running)?;
        let fresh = Distribution::read(&aggregator, FRESHNESS)?.since(&before);
        let mut step = Step {
            clicks_per_second: account.measured as f64 / account.elapsed.as_secs_f64(),
            freshness_p50_seconds: fresh.quantile(0.5),
            freshness_p99_seconds: fresh.quantile(0.99),
            cpu_micros: BTreeMap::new(),
            resident_mb: BTreeMap::new(),
        };
        for (number, (name, pids)) in running.stages.iter().enumerate() {
            let spent = cpu_after[number].saturating_sub(cpu_before[number]);
            let micros = spent.as_secs_f64() * 1e6 / account.sent as f64;
            step.cpu_micros.insert(name, micros);
            let mut bytes = 0;
            for pid in pids {
                bytes += machine::resident_bytes(*pid)?;
            }
            step.resident_mb.insert(name, bytes as f64 / 1e6);
        }
        Ok(step)
    }

    fn bytes(&mut self, running: &Running) -> anyhow::Result<()> {
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

    /// From the segments that the edge has not deleted: the last one always is there.
    fn spool_bytes(&mut self) -> anyhow::Result<()> {
        let held = Held::read(&self.dir().join("edge-1/journal"))?;
        ensure!(held.events > 0, "the edge's journal holds no click");
        let bytes = held.bytes as f64 / held.events as f64;
        self.add_bytes("spool (edge's journal)", bytes);
        Ok(())
    }

    fn add_bytes(&mut self, place: &'static str, bytes: f64) {
        self.results.bytes.entry(place).or_default().0.push(bytes);
    }
}

/// A member's process and those it started.
pub(super) fn processes(member: &Member) -> anyhow::Result<Vec<u32>> {
    let first = member.pid().context("it runs")?;
    let mut pids = vec![first];
    pids.extend(machine::children(first)?);
    Ok(pids)
}
