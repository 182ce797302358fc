//! The aggregator's description of itself for docs/: settings, metrics and refusals.

use crate::attribution::Attributor;
use crate::configuration::ConfigMetrics;
use crate::health::Health;
use crate::ingest::ConnectionMetrics;
use crate::metrics::Metrics;
use crate::outgoing::DispatchMetrics;
use crate::report::{BAD_TRANSITION, TOO_MANY_REPORTS};
use crate::report_queue::{self, ReportQueue};
use crate::settings::Settings;
use crate::store::ConversionStore;
use crate::store_watch::StoreWatch;
use crate::unproven::UnprovenReason;
use crate::verification::VerificationMetrics;
use daemon::process_metrics;
use daemon::reference::{ANY_VALUE, Reference, RefusalReference, RefusalTable};
use event_shipping::RefuseCode;
use prometheus::Registry;
use sql_store::Location;
use std::path::PathBuf;
use std::sync::Arc;

/// The least settings; nothing that they name is opened.
const SETTINGS: &str = "\
data_dir = \"data\"
[tls]
dir = \"tls\"
[clickhouse]
url = \"http://127.0.0.1:8123\"
";

/// Describes this program.
///
/// # Errors
/// When two metrics have one name.
pub fn describe() -> anyhow::Result<Reference> {
    let registry = Registry::new();
    register_metrics(&registry)?;
    let tables = vec![reports(), connections()];
    Ok(Reference::new::<Settings>(&registry, tables))
}

fn register_metrics(registry: &Registry) -> anyhow::Result<()> {
    let settings: Settings = toml::from_str(SETTINGS)?;
    Metrics::new(registry)?.describe(ANY_VALUE);
    ConnectionMetrics::new(registry)?.describe(ANY_VALUE);
    ConfigMetrics::new(registry)?.describe(ANY_VALUE);
    DispatchMetrics::new(registry)?;
    VerificationMetrics::new(registry)?;
    report_queue::register(&Arc::new(ReportQueue::new(0, Vec::new())), registry)?;
    crate::set_aside::retention(&settings, registry)?;
    let store = Location::File(PathBuf::new());
    let store = Arc::new(ConversionStore::new(store, false));
    registry.register(Box::new(store.place_conflicts().clone()))?;
    Attributor::new(settings.clickhouse, Arc::clone(&store), registry)?;
    StoreWatch::new(store, Arc::new(Health::starting()), registry)?;
    process_metrics::register(registry, ANY_VALUE, ANY_VALUE)?;
    Ok(())
}

fn connections() -> RefusalTable {
    let refusals = RefuseCode::ALL.iter().map(|code| RefusalReference {
        number: code.number(),
        name: code.name(),
        status: None,
        meaning: code.meaning(),
    });
    RefusalTable {
        title: "Connections of edges to an aggregator",
        introduction: "The aggregator sends the number and ends the connection; the edge logs it and reconnects. \
                       Counted in `aggregator_refused_total{reason}`, which also counts failed handshakes, and in \
                       `edge_aggregator_disconnects_total{reason}`.",
        refusals: refusals.collect(),
        retired: &[],
    }
}

fn reports() -> RefusalTable {
    let refusal = |number, name, meaning| RefusalReference {
        number,
        name,
        status: None,
        meaning,
    };
    let mut refusals = vec![
        refusal(
            BAD_TRANSITION,
            "bad_transition",
            "The status can't follow the one before.",
        ),
        refusal(
            TOO_MANY_REPORTS,
            "too_many_reports",
            "The sale was reported 200 times, identical reports in a row not counted.",
        ),
    ];
    let unproven = UnprovenReason::ALL.iter();
    refusals.extend(unproven.map(|it| refusal(it.number(), it.name(), it.meaning())));
    RefusalTable {
        title: "Reports that an edge accepted",
        introduction: "The aggregator refuses them after the sender's 2xx. Each is a row of the table `rejections`: 150 \
                       to 159 with `source` = `store`, 160 to 169 and 260 to 269 with `source` = `verification`, which \
                       are also counted in `aggregator_reports_unproven_total{reason}`. What to do: \
                       [Reports are verified twice](../wasm-functions/README.md#reports-are-verified-twice).",
        refusals,
        retired: &[],
    }
}
