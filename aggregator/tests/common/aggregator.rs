//! An aggregator in this process whose ClickHouse never answers.

use super::{metric, until, without_clickhouse};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub struct Aggregator {
    directory: tempfile::TempDir,
    running: aggregator::AggregatorHandle,
}

impl Aggregator {
    /// Starts one with further sections of settings.
    pub async fn start(more: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
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

    /// A file of its certificates.
    pub fn tls_file(&self, name: &str) -> PathBuf {
        self.directory().join("tls").join(name)
    }

    pub async fn metric(&self, name: &str) -> Option<f64> {
        metric(self.running.admin(), name).await
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
