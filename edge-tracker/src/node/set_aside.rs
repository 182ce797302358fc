//! Which files of the data directory were set aside for a person to look at, and so expire.

use crate::metrics::Metrics;
use crate::settings::Settings;
use daemon::retention::{Retention, SetAsideFiles};

/// Deletes segments, checkpoints and filters that were set aside long ago.
pub(super) fn retention(settings: &Settings, metrics: &Metrics) -> prometheus::Result<Retention> {
    let place = SetAsideFiles {
        dir: settings.data_dir.clone(),
        matches: is_set_aside,
    };
    let registry = metrics.registry();
    Retention::new(vec![place], &settings.retention, "edge", &registry)
}

/// As the journal and the filters name them.
fn is_set_aside(name: &str) -> bool {
    name.ends_with(".corrupt") || name.ends_with(".foreign") || name.contains(".damaged-")
}
