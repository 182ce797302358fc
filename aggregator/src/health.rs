//! The dependencies that are unavailable, so that the aggregator is not ready. Their checks are elsewhere.

use std::sync::Mutex;

/// A part that the aggregator depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dependency {
    /// The data directory.
    Disk,
    /// The database, for clicks and impressions.
    ClickHouse,
    /// The database, for evaluated reports.
    ReportTables,
    /// The SQL store that evaluates conversions and identity checks.
    Store,
    /// The connection to that store.
    StoreConnection,
}

/// Clicks are inserted meanwhile.
const REPORTS_WAIT: &str = "reports wait for the store";

/// The dependencies with their names, in the order of reporting.
const DEPENDENCIES: [(Dependency, &str); 5] = [
    (Dependency::Disk, "data_dir"),
    (Dependency::ClickHouse, "ClickHouse"),
    (Dependency::ReportTables, "ClickHouse, for reports"),
    (Dependency::Store, REPORTS_WAIT),
    (Dependency::StoreConnection, REPORTS_WAIT),
];

/// The reason why each dependency is unavailable.
#[derive(Debug, Default)]
pub(crate) struct Health([Mutex<Option<String>>; 5]);

impl Health {
    pub(crate) fn starting() -> Self {
        let health = Self::default();
        health.set(
            Dependency::ClickHouse,
            Some("it has not responded yet".to_owned()),
        );
        health
    }

    /// The reasons why the aggregator is not ready.
    pub(crate) fn faults(&self) -> Vec<String> {
        let unavailable = DEPENDENCIES.iter().filter_map(|(dependency, name)| {
            let why = self.0[*dependency as usize].lock();
            let why = why.expect("no thread panics while it holds the lock");
            why.as_ref().map(|why| format!("{name}: {why}"))
        });
        let mut faults: Vec<String> = unavailable.collect();
        // Evaluation and the check of the connection report the same error of the store.
        faults.dedup();
        faults
    }

    pub(crate) fn set(&self, dependency: Dependency, why: Option<String>) {
        *self.0[dependency as usize]
            .lock()
            .expect("no thread panics while it holds the lock") = why;
    }
}
