//! Why the aggregator is not ready, if it is not. Who finds it out is not known here.

use std::sync::Mutex;

/// A part that the aggregator depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The data directory.
    Disk,
    /// The database, for clicks and impressions.
    ClickHouse,
    /// The database, for evaluated reports.
    ReportTables,
    /// The SQL store that evaluates conversions and identity checks.
    Store,
    /// The way to that store.
    StoreConnection,
}

/// Clicks are stored meanwhile.
const REPORTS_WAIT: &str = "reports wait for the store";

/// The needs in the order they are reported in, each with its name.
const NEEDS: [(Need, &str); 5] = [
    (Need::Disk, "data_dir"),
    (Need::ClickHouse, "ClickHouse"),
    (Need::ReportTables, "ClickHouse, for reports"),
    (Need::Store, REPORTS_WAIT),
    (Need::StoreConnection, REPORTS_WAIT),
];

/// What is missing of each need.
#[derive(Debug, Default)]
pub(crate) struct Health([Mutex<Option<String>>; 5]);

impl Health {
    pub(crate) fn starting() -> Self {
        let health = Self::default();
        health.set(Need::ClickHouse, Some("it has not answered yet".to_owned()));
        health
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        for (need, name) in NEEDS {
            let why = self.0[need as usize].lock();
            let why = why.expect("nobody panics while holding it").clone();
            why.map_or(Ok(()), |why| Err(format!("{name}: {why}")))?;
        }
        Ok(())
    }

    pub(crate) fn set(&self, need: Need, why: Option<String>) {
        *self.0[need as usize]
            .lock()
            .expect("nobody panics while holding it") = why;
    }
}
