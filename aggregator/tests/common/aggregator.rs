//! An aggregator in this process, without a reachable ClickHouse.

use super::{ClientConnection, client, metric, until, without_clickhouse};
use event_shipping::RefuseCode;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub struct Aggregator {
    directory: tempfile::TempDir,
    running: aggregator::AggregatorHandle,
}

impl Aggregator {
    /// Starts an aggregator with additional sections of settings.
    pub async fn start(more: &str) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let settings = without_clickhouse(directory.path(), more);
        let running = aggregator::start(settings).await.expect("started");
        Self { directory, running }
    }

    pub fn address(&self) -> SocketAddr {
        self.running.listening()
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The path of a file of its certificates.
    pub fn tls_file(&self, name: &str) -> PathBuf {
        self.directory().join("tls").join(name)
    }

    pub fn admin(&self) -> SocketAddr {
        self.running.admin()
    }

    /// A connection without a `Hello`.
    pub async fn open(&self) -> ClientConnection {
        ClientConnection::open(self.address(), client(self.directory()))
            .await
            .expect("connected")
    }

    pub async fn welcomed(&self) -> ClientConnection {
        ClientConnection::welcomed(self.address(), client(self.directory()))
            .await
            .0
    }

    /// Waits until the lane 0 of node 21 was received up to `last`.
    pub async fn received(&self, last: f64) {
        let name = "aggregator_lane_received{lane=\"0\",node=\"21\"}";
        self.reaches(name, last).await;
    }

    /// Asserts that the connection ends with this reason, which is counted once.
    pub async fn refuses(&self, conversation: &mut ClientConnection, code: RefuseCode) -> String {
        let (number, message) = conversation.refusal().await;
        assert_eq!(RefuseCode::from_number(number), Some(code), "{message}");
        until("counted", async || self.refused(code.name()).await == 1.0).await;
        message
    }

    pub async fn stop(self) {
        self.running.stop().await;
    }

    pub async fn metric(&self, name: &str) -> Option<f64> {
        metric(self.admin(), name).await
    }

    pub async fn refused(&self, reason: &str) -> f64 {
        let name = format!("aggregator_refused_total{{reason=\"{reason}\"}}");
        self.metric(&name).await.unwrap_or(0.0)
    }

    /// Waits until a metric has this value.
    pub async fn reaches(&self, name: &str, value: f64) {
        until(name, async || self.metric(name).await == Some(value)).await;
    }
}
