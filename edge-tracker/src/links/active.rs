//! The table in use, and those that it replaced.

use super::Table;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::Arc;

/// The table that workers read. Tables that were replaced are freed here and not by the worker that used one last: a
/// visitor would wait meanwhile.
#[derive(Debug, Default)]
pub struct ActiveLinks {
    table: Arc<ArcSwap<Table>>,
    replaced: Mutex<Vec<Arc<Table>>>,
}

impl ActiveLinks {
    /// Begins with `table`.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self {
            table: Arc::new(ArcSwap::from_pointee(table)),
            replaced: Mutex::default(),
        }
    }

    /// For a worker's cache.
    #[must_use]
    pub fn shared(&self) -> Arc<ArcSwap<Table>> {
        self.table.clone()
    }

    /// The table in use.
    #[must_use]
    pub fn load(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Puts `table` in use.
    pub fn store(&self, table: Table) {
        let before = self.table.swap(Arc::new(table));
        let mut replaced = self.replaced.lock();
        replaced.push(before);
        replaced.retain(|table| Arc::strong_count(table) > 1);
    }
}
