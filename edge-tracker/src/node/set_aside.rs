//! Expiry of files that were set aside for inspection.

use crate::metrics::Metrics;
use crate::settings::Settings;
use daemon::retention::{Retention, SetAsideFiles};

/// A task that deletes segments and filters that were set aside long ago.
pub(super) fn retention(settings: &Settings, metrics: &Metrics) -> prometheus::Result<Retention> {
    let files = SetAsideFiles {
        dir: settings.data_dir.clone(),
        matches: is_set_aside,
    };
    let registry = metrics.registry();
    Retention::new(vec![files], &settings.retention, "edge", &registry)
}

/// Matches the names that the journal and the filters use.
fn is_set_aside(name: &str) -> bool {
    name.ends_with(".corrupt") || name.ends_with(".foreign") || name.contains(".damaged-")
}
