//! Metrics of the configuration of edges.

use edge_config::{Outcome, Publisher, UpdateRefusal};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The metrics of the configuration of edges.
#[derive(Debug, Clone)]
pub(crate) struct ConfigMetrics {
    version: IntGauge,
    released_version: IntGauge,
    resources: IntGauge,
    updates: IntCounterVec,
    edge_version: IntGaugeVec,
    edge_subscribed: IntGaugeVec,
    edge_refused_version: IntGaugeVec,
}

impl ConfigMetrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let by_node = |name, help| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &["node"])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let updates = IntCounterVec::new(
            Opts::new(
                "aggregator_config_updates_total",
                "Responses of edges to updates of their configuration, by outcome: applied, or the reason of the refusal.",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(updates.clone()))?;
        let refusals = UpdateRefusal::ALL.iter().map(|reason| reason.name());
        for outcome in refusals.chain(["applied", "unknown"]) {
            updates.with_label_values(&[outcome]);
        }
        Ok(Self {
            version: gauge(
                "aggregator_config_version",
                "The newest version of the configuration of edges.",
            )?,
            released_version: gauge(
                "aggregator_config_released_version",
                "The version that edges other than the canary are to hold.",
            )?,
            resources: gauge(
                "aggregator_config_resources",
                "Resources in the newest version of the configuration of edges, such as links.",
            )?,
            updates,
            edge_version: by_node(
                "aggregator_edge_config_version",
                "The version of the configuration that an edge holds.",
            )?,
            edge_subscribed: by_node(
                "aggregator_edge_config_subscribed",
                "1 while an edge receives updates of its configuration.",
            )?,
            edge_refused_version: by_node(
                "aggregator_edge_config_refused_version",
                "The version that an edge refused since it applied one; 0 for none.",
            )?,
        })
    }

    /// Creates the series of edges for `node`, so that they can be listed.
    pub(crate) fn describe(&self, node: &str) {
        for gauges in [
            &self.edge_version,
            &self.edge_subscribed,
            &self.edge_refused_version,
        ] {
            gauges.with_label_values(&[node]);
        }
    }

    /// Reports what the publisher knows.
    pub(super) fn published(&self, publisher: &Publisher) {
        self.version.set(signed(publisher.newest().held().version));
        let released = publisher.released();
        self.released_version
            .set(released.map_or(0, |it| signed(it.version)));
        let resources = i64::try_from(publisher.newest().len());
        self.resources.set(resources.unwrap_or(i64::MAX));
        for (node, status) in publisher.edges() {
            let node = node.to_string();
            let labels = [node.as_str()];
            let refused = status.refused.as_ref().map_or(0, |it| it.version);
            self.edge_version
                .with_label_values(&labels)
                .set(signed(status.held.version));
            self.edge_subscribed
                .with_label_values(&labels)
                .set(status.subscriptions.min(1).into());
            self.edge_refused_version
                .with_label_values(&labels)
                .set(signed(refused));
        }
    }

    pub(super) fn responded(&self, outcome: &Outcome) {
        let label = match outcome {
            Outcome::Applied => "applied",
            Outcome::Refused { code, .. } => {
                UpdateRefusal::from_number(*code).map_or("unknown", UpdateRefusal::name)
            }
        };
        self.updates.with_label_values(&[label]).inc();
    }
}

fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}
