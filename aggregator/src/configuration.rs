//! The configuration of edges: what the catalog holds, published to each edge over its connection.
//!
//! Invariant: an edge gets only versions that the database has committed, and events never wait for them.

mod feed;
mod metrics;
mod record;
mod subscription;

pub(crate) use feed::ConfigFeed;
pub(crate) use metrics::ConfigMetrics;
pub(crate) use subscription::Subscription;

use domain::NodeId;
use edge_config::{Change, ConfigVersion, Publisher, Update};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// The publisher that all connections share. Until the catalog was read, there is none.
#[derive(Clone)]
pub(crate) struct Configuration {
    publisher: Arc<Mutex<Option<Publisher>>>,
    changed: watch::Sender<()>,
    canary: Option<NodeId>,
    metrics: ConfigMetrics,
}

impl Configuration {
    pub(crate) fn new(canary: Option<NodeId>, metrics: ConfigMetrics) -> Self {
        Self {
            publisher: Arc::default(),
            changed: watch::Sender::new(()),
            canary,
            metrics,
        }
    }

    /// Whether any version was published.
    fn has_versions(&self) -> bool {
        self.publisher.lock().is_some()
    }

    /// Publishes the next version.
    fn publish(&self, version: u64, changes: Vec<Change>) {
        self.update(|publisher| publisher.publish(version, changes));
    }

    /// Publishes a version of which all resources were read.
    async fn replace(&self, version: ConfigVersion) -> anyhow::Result<()> {
        let newest = self.publisher.lock().as_ref().map(|it| it.newest().clone());
        let Some(newest) = newest else {
            let mut first = Publisher::new(version);
            first.set_canary(self.canary);
            let mut publisher = self.publisher.lock();
            *publisher = Some(first);
            self.report(publisher);
            return Ok(());
        };
        if version.held().version <= newest.held().version {
            self.update(|publisher| publisher.restart_from(version));
            return Ok(());
        }
        // A million comparisons: on a thread for such work, and without the lock that connections need.
        let number = version.held().version;
        let changes = spawn_blocking(move || newest.changes_to(&version)).await?;
        self.publish(number, changes);
        Ok(())
    }

    /// The newest version was compared with the catalog.
    fn confirm_newest(&self) {
        let mut publisher = self.publisher.lock();
        let is_new = publisher.as_mut().is_some_and(Publisher::confirm_newest);
        drop(publisher);
        if is_new {
            self.changed.send_replace(());
        }
    }

    /// Changes the publisher, if there is one, and lets every subscription look for its next update.
    fn update(&self, change: impl FnOnce(&mut Publisher)) {
        let mut publisher = self.publisher.lock();
        if let Some(publisher) = &mut *publisher {
            change(publisher);
        }
        self.report(publisher);
    }

    fn report(&self, publisher: MutexGuard<'_, Option<Publisher>>) {
        if let Some(publisher) = &*publisher {
            self.metrics.published(publisher);
        }
        drop(publisher);
        self.changed.send_replace(());
    }

    fn update_for(&self, node: NodeId) -> Option<Update> {
        self.publisher.lock().as_ref()?.update_for(node)
    }
}
