//! nginx, alone or with its log inserted into the same tables of the same ClickHouse.

use super::PipelineBench;
use crate::bench::rows::{check_rows, wait_for_rows};
use crate::bench::server::{Kind, Server};
use crate::bench::stages::{Stages, processes};
use crate::clickhouse::Analyst;
use crate::process::Process;
use crate::stack::{self, free_port, program, start_aggregator, start_engine, wait_for_tables};
use anyhow::Context as _;
use std::process::Command;
use std::time::Duration;

impl PipelineBench<'_> {
    /// A round of nginx that only logs.
    pub(super) fn nginx_alone(&mut self, round: u32) -> anyhow::Result<()> {
        self.progress(round, "nginx with its log");
        let server = Server::start(Kind::Nginx, &self.setup)?;
        let stages = Stages(vec![("nginx", server.pids().to_vec())]);
        let carried = self.measure_clicks(server.address, &stages, round, |_| Ok(()))?;
        server.stop(carried.answered)?;
        self.results.nginx.add(&carried);
        Ok(())
    }

    /// A round of nginx whose log is inserted.
    pub(super) fn nginx_inserted(&mut self, round: u32) -> anyhow::Result<()> {
        self.progress(round, "nginx with its log inserted");
        let dir = self.setup.dir.join("peer");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir)?;
        let port = free_port()?;
        let mut engine = start_engine(&dir, port)?;
        // The aggregator creates tables and materialized views and is not needed afterwards.
        let admin = free_port()?;
        let mut aggregator = start_aggregator(&dir, port, free_port()?, admin)?;
        wait_for_tables(&stack::url(admin), &dir)?;
        aggregator.stop()?;
        let (url, credentials) = (stack::url(port), dir.join("clickhouse/credentials.json"));
        let analyst = Analyst::new(&url, &credentials)?;

        let server = Server::start(Kind::Nginx, &self.setup)?;
        let log = server.log_file().context("nginx logs to a file")?;
        let mut command = Command::new(program("loadtest")?);
        command.arg("tail").arg("--log").arg(log);
        command
            .args(["--clickhouse", &url, "--credentials"])
            .arg(&credentials);
        let mut tail = Process::start("tail", &mut command, &dir.join("tail.log"))?;
        tail.ready_line(Duration::from_secs(10))?;
        let stages = Stages(vec![
            ("nginx", server.pids().to_vec()),
            ("tail", vec![tail.pid()]),
            ("engine", processes(&engine)?),
        ]);
        let carried = self.measure_clicks(server.address, &stages, round, |rows| {
            wait_for_rows(&analyst, rows)
        })?;
        check_rows(&analyst, carried.answered)?;
        self.results.peer.add(&carried);
        tail.kill()?;
        server.stop(carried.answered)?;
        engine.stop()
    }
}
