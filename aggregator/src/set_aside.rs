//! Selects the files of the data directory that expire: quarantined events, and damaged files set aside for
//! examination.

use crate::settings::Settings;
use daemon::retention::{Retention, SetAsideFiles};
use prometheus::Registry;

/// Deletes such files after the configured time.
pub(crate) fn retention(settings: &Settings, registry: &Registry) -> prometheus::Result<Retention> {
    let expiring = vec![
        SetAsideFiles {
            dir: settings.data_dir.join("quarantine"),
            matches: |_| true,
        },
        SetAsideFiles {
            dir: settings.data_dir.clone(),
            matches: |name| name.ends_with(".corrupt"),
        },
    ];
    Retention::new(expiring, &settings.retention, "aggregator", registry)
}
