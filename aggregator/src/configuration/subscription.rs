//! The subscription of one edge: which update it needs next, and how it responded to the last one.

use super::Configuration;
use domain::{Micros, NodeId};
use edge_config::{HeldVersion, Outcome, Update};
use tokio::sync::watch;

/// An edge that is subscribed until this is dropped.
pub(crate) struct Subscription {
    configuration: Configuration,
    changed: watch::Receiver<()>,
    node: NodeId,
}

impl Subscription {
    /// Begins the subscription of an edge that holds `held`, once the catalog was read.
    pub(crate) async fn begin(
        configuration: Configuration,
        node: NodeId,
        held: HeldVersion,
    ) -> Self {
        let mut changed = configuration.changed.subscribe();
        while !configuration.has_versions() {
            wait(&mut changed).await;
        }
        configuration.update(|publisher| publisher.subscribed(node, held));
        Self {
            configuration,
            changed,
            node,
        }
    }

    /// Waits for the next update.
    pub(crate) async fn next_update(&mut self) -> Update {
        loop {
            self.changed.mark_unchanged();
            match self.configuration.update_for(self.node) {
                Some(update) => return update,
                None => wait(&mut self.changed).await,
            }
        }
    }

    /// The edge responded to an update.
    pub(crate) fn responded(&self, update: &Update, outcome: &Outcome) {
        self.configuration.metrics.responded(outcome);
        let (node, now) = (self.node, Micros::now());
        // What the canary applied is released to the others.
        self.configuration
            .update(|publisher| publisher.responded(node, update, outcome, now));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let node = self.node;
        self.configuration
            .update(|publisher| publisher.unsubscribed(node));
    }
}

/// Waits for a change. The sender lives as long as the configuration.
async fn wait(changed: &mut watch::Receiver<()>) {
    if changed.changed().await.is_err() {
        std::future::pending().await
    }
}
