//! Which files of the data directory were quarantined or set aside for a person to look at, and so expire.

use crate::settings::Settings;
use daemon::retention::{Retention, SetAsideFiles};
use prometheus::Registry;

/// Deletes quarantined events, blocks and checkpoints that were set aside long ago.
pub(crate) fn retention(settings: &Settings, registry: &Registry) -> prometheus::Result<Retention> {
    let places = vec![
        SetAsideFiles {
            dir: settings.data_dir.join("quarantine"),
            matches: |_| true,
        },
        SetAsideFiles {
            dir: settings.data_dir.clone(),
            matches: |name| name.ends_with(".corrupt"),
        },
    ];
    Retention::new(places, &settings.retention, "aggregator", registry)
}
