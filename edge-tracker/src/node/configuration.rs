//! Links from the control plane: opened before the node serves, kept up to date while it does.

use crate::click_path::EdgeState;
use crate::config::{self, ConfigClient, ConfigStatus, LinkTarget};
use crate::links::ActiveLinks;
use crate::metrics::Metrics;
use crate::settings::{LinksSource, Settings};
use anyhow::Context as _;
use edge_config::Subscriber;
use quinn::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::watch;

/// The file in the data directory.
const FILE: &str = "config.redb";

/// The last version from the control plane.
pub(super) struct Configuration {
    file: PathBuf,
    links: Arc<ActiveLinks>,
    subscriber: Subscriber<LinkTarget>,
    status: ConfigStatus,
}

impl Configuration {
    /// Puts the version on the disk in use, if links come from the control plane.
    pub(super) fn open(
        settings: &Settings,
        links: &Arc<ActiveLinks>,
        metrics: &Metrics,
    ) -> anyhow::Result<Option<Self>> {
        if settings.links.source != LinksSource::ControlPlane {
            return Ok(None);
        }
        let file = settings.data_dir.join(FILE);
        let opened = config::open(&file, links.clone());
        let subscriber = opened.with_context(|| format!("can't use {}", file.display()))?;
        let held = subscriber.held();
        tracing::info!(
            version = held.version,
            links = links.load().len(),
            "configuration of the last connection"
        );
        Ok(Some(Self {
            status: ConfigStatus::new(held, links.clone(), metrics.config.clone()),
            links: links.clone(),
            file,
            subscriber,
        }))
    }

    pub(super) fn status(&self) -> ConfigStatus {
        self.status.clone()
    }

    /// Keeps it up to date until `stop` turns true.
    pub(super) fn start(
        self,
        shared: &Arc<EdgeState>,
        connection: watch::Receiver<Option<Connection>>,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<JoinHandle<()>> {
        let client = ConfigClient {
            node: shared.node,
            connection,
            file: self.file,
            links: self.links,
            subscriber: Some(self.subscriber),
            status: self.status,
        };
        let shared = shared.clone();
        let applied = move || {
            if let Some(functions) = &shared.functions {
                functions.use_links((*shared.links.load()).clone());
            }
        };
        client
            .start(applied, stop)
            .context("can't start the thread of the configuration")
    }
}
