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

    /// The version that was published last.
    fn published(&self) -> Option<u64> {
        let publisher = self.publisher.lock();
        publisher.as_ref().map(|it| it.newest().held().version)
    }

    /// Publishes the next version.
    fn publish(&self, version: u64, changes: Vec<Change>) {
        self.update(|publisher| publisher.publish(version, changes));
    }

    /// Publishes a version of which all resources were read.
    fn replace(&self, version: ConfigVersion) {
        let mut publisher = self.publisher.lock();
        if let Some(publisher) = &mut *publisher {
            publisher.replace(version);
        } else {
            let mut first = Publisher::new(version);
            first.set_canary(self.canary);
            *publisher = Some(first);
        }
        self.report(publisher);
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
