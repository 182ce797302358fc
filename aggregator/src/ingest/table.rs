//! The connection table: one live connection for each journal of a node. A newer one supersedes the
//! older, whose edge may have lost it without a word.

use event_shipping::Hello;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// A journal of a node.
type JournalKey = (u16, u64);

/// Tells a connection of the newer one that supersedes it.
type Superseding = Arc<watch::Sender<Option<String>>>;

#[derive(Default)]
pub(crate) struct ConnectionTable(Mutex<HashMap<JournalKey, Superseding>>);

/// A connection's entries in the table; removed when dropped, unless a newer one has taken them.
pub(super) struct Registration {
    table: Arc<ConnectionTable>,
    journals: BTreeSet<JournalKey>,
    superseding: Superseding,
}

impl ConnectionTable {
    /// Registers the connection that sent `hello` and ends older ones for the same journals.
    /// `description` names the new connection in their logs.
    pub(super) fn register(self: &Arc<Self>, hello: &Hello, description: &str) -> Registration {
        let superseding: Superseding = Arc::new(watch::Sender::new(None));
        let journals: BTreeSet<_> = hello
            .lanes
            .iter()
            .map(|lane| (hello.node, lane.journal))
            .collect();
        let mut table = self.lock();
        for journal in &journals {
            if let Some(older) = table.insert(*journal, Arc::clone(&superseding)) {
                older.send_replace(Some(description.to_owned()));
            }
        }
        drop(table);
        Registration {
            table: Arc::clone(self),
            journals,
            superseding,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JournalKey, Superseding>> {
        self.0.lock().expect("no code panics while holding it")
    }
}

impl Registration {
    /// Waits until a newer connection supersedes this one, and returns its description.
    pub(super) async fn superseded(&self) -> String {
        let mut superseding = self.superseding.subscribe();
        let newer = superseding.wait_for(Option::is_some).await;
        newer
            .expect("this registration holds the sender")
            .clone()
            .unwrap_or_default()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        for journal in &self.journals {
            let own = table
                .get(journal)
                .is_some_and(|entry| Arc::ptr_eq(entry, &self.superseding));
            if own {
                table.remove(journal);
            }
        }
    }
}
