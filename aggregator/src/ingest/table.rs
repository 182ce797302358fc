//! The connection table: one live connection for each journal of a node. A newer connection supersedes the older one,
//! which the edge may have lost without a close. Connections of one node with different journals stay, and are reported
//! if they last.

use event_shipping::Hello;
use event_shipping::tls::IDLE_TIMEOUT;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// A connection that its edge has lost, for example by a restart, ends within the idle timeout. A connection that is
/// still live after this time belongs to another process.
const TWIN_ALERT_DELAY: Duration = IDLE_TIMEOUT.saturating_add(Duration::from_secs(5));

/// A journal of a node.
type JournalKey = (u16, u64);

/// Sends a connection the description of the newer one that supersedes it.
type SupersededSignal = Arc<watch::Sender<Option<String>>>;

#[derive(Default)]
pub(crate) struct ConnectionTable(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    journals: HashMap<JournalKey, SupersededSignal>,
    /// The descriptions of live connections by node and number.
    connections: BTreeMap<(u16, u64), String>,
    last_number: u64,
}

/// A connection's entries in the table; removed when dropped, unless a newer connection has replaced them.
pub(super) struct Registration {
    table: Arc<ConnectionTable>,
    node: u16,
    number: u64,
    journals: BTreeSet<JournalKey>,
    superseding: SupersededSignal,
}

impl ConnectionTable {
    /// Registers the connection that sent `hello`, and ends older ones with the same journals, with `description` as
    /// the reason.
    pub(super) fn register(self: &Arc<Self>, hello: &Hello, description: &str) -> Registration {
        let superseding: SupersededSignal = Arc::new(watch::Sender::new(None));
        let journals: BTreeSet<_> = hello
            .lanes
            .iter()
            .map(|lane| (hello.node, lane.journal))
            .collect();
        let mut entries = self.lock();
        for journal in &journals {
            let older = entries.journals.insert(*journal, Arc::clone(&superseding));
            if let Some(older) = older {
                older.send_replace(Some(description.to_owned()));
            }
        }
        entries.last_number += 1;
        let number = entries.last_number;
        let key = (hello.node, number);
        entries.connections.insert(key, description.to_owned());
        drop(entries);
        Registration {
            table: Arc::clone(self),
            node: hello.node,
            number,
            journals,
            superseding,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0
            .lock()
            .expect("no thread panics while it holds the lock")
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

    /// Waits for as long as a lost connection can stay open, then returns the description of an older connection of the
    /// same node that is still live: another process uses the node's certificate.
    pub(super) async fn twin(&self) -> Option<String> {
        sleep(TWIN_ALERT_DELAY).await;
        let entries = self.table.lock();
        let mut older = entries
            .connections
            .range((self.node, 0)..(self.node, self.number));
        older.next().map(|(_, description)| description.clone())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut entries = self.table.lock();
        entries.connections.remove(&(self.node, self.number));
        for journal in &self.journals {
            let own = entries
                .journals
                .get(journal)
                .is_some_and(|entry| Arc::ptr_eq(entry, &self.superseding));
            if own {
                entries.journals.remove(journal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_shipping::{LaneHello, PROTOCOL_VERSION};

    fn hello(node: u16, journal: u64) -> Hello {
        let lane = LaneHello {
            lane: 0,
            journal,
            acknowledged: 0,
            released: 0,
        };
        Hello {
            protocol: PROTOCOL_VERSION,
            node,
            software: String::new(),
            lanes: vec![lane],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn twin_of_a_node_is_found_once_it_lasts() {
        let table = Arc::new(ConnectionTable::default());
        let original = table.register(&hello(1, 1), "original");
        let _other_node = table.register(&hello(2, 3), "other node");
        let copy = table.register(&hello(1, 2), "copy");
        assert_eq!(copy.twin().await.as_deref(), Some("original"));
        assert_eq!(
            original.twin().await,
            None,
            "only the newer connection reports"
        );
        drop(original);
        assert_eq!(copy.twin().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn restarted_edge_has_no_twin() {
        let table = Arc::new(ConnectionTable::default());
        let lost = table.register(&hello(1, 1), "lost");
        let restarted = table.register(&hello(1, 2), "restarted");
        let expires = async {
            sleep(IDLE_TIMEOUT).await;
            drop(lost);
        };
        assert_eq!(tokio::join!(restarted.twin(), expires).0, None);
    }
}
