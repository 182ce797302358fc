//! Metrics of connections and certificates.

use crate::metrics::Maker;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

/// All metrics of connections; cheap to clone.
#[derive(Clone)]
pub(crate) struct ConnectionMetrics {
    pub(super) clashes: IntCounterVec,
    pub(super) handshake_retries: IntCounter,
    pub(super) certificate_expiry: IntGauge,
    pub(super) edge_certificate_expiry: IntGaugeVec,
    pub(super) certificate_reloads: IntCounterVec,
}

impl ConnectionMetrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let make = Maker(registry);
        Ok(Self {
            clashes: make.counters(
                "aggregator_clashes_total",
                "Detected pairs of live edges with the same journal or node: a copied directory or certificate.",
                &["node"],
            )?,
            handshake_retries: make.counter(
                "aggregator_handshake_retries_total",
                "Connections that had to prove their address because many handshakes were in progress.",
            )?,
            certificate_expiry: make.gauge(
                "aggregator_certificate_expiry_timestamp_seconds",
                "Time when this aggregator's certificate expires.",
            )?,
            edge_certificate_expiry: make.gauges(
                "aggregator_edge_certificate_expiry_timestamp_seconds",
                "Time when the certificate of an edge's last connection expires.",
                &["node"],
            )?,
            certificate_reloads: make.counters_of(
                "aggregator_certificate_reloads_total",
                "Reloads of certificates, authorities and revocation list, by outcome.",
                "outcome",
                ["loaded", "refused"],
            )?,
        })
    }

    /// Creates the series of nodes for `label`, so that they can be listed.
    pub(crate) fn describe(&self, label: &str) {
        self.clashes.with_label_values(&[label]);
        self.edge_certificate_expiry.with_label_values(&[label]);
    }
}
