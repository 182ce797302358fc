//! An aggregator that stores events in memory, each sequence once, and acknowledges them unless it is told to wait.

use super::listener::EdgeListener;
use domain::Micros;
use event_shipping::{
    Ack, AggregatorMessage, Batch, EdgeMessage, Hello, LaneState, MAX_BATCH_MESSAGE_BYTES, Welcome,
    open, read_message, write_message,
};
use quinn::{Connection, RecvStream, SendStream};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tracking_events::{Event, decode};

/// Its certificate is of the authority in its directory.
pub struct StoringAggregator {
    pub address: SocketAddr,
    stored: Arc<Mutex<Stored>>,
    acknowledges: watch::Sender<bool>,
    _listener: EdgeListener,
}

#[derive(Default)]
struct Stored {
    /// The last sequence by node, lane and journal.
    lanes: HashMap<(u16, u8, u64), u64>,
    /// Format version and bytes of each event.
    events: Vec<(u16, Vec<u8>)>,
}

impl StoringAggregator {
    pub fn start(dir: &Path) -> Self {
        let stored = Arc::<Mutex<Stored>>::default();
        let acknowledges = watch::Sender::new(true);
        let (shared, acknowledging) = (stored.clone(), acknowledges.subscribe());
        let listener = EdgeListener::start(dir, move |connection| {
            serve(connection, shared.clone(), acknowledging.clone())
        });
        Self {
            address: listener.address,
            stored,
            acknowledges,
            _listener: listener,
        }
    }

    /// Whether batches are acknowledged; otherwise they are stored, and acknowledged later.
    pub fn acknowledge(&self, acknowledges: bool) {
        self.acknowledges.send_replace(acknowledges);
    }

    /// The nodes that sent events.
    pub fn nodes(&self) -> Vec<u16> {
        let stored = self.stored.lock().expect("not poisoned");
        let mut nodes: Vec<u16> = stored.lanes.keys().map(|(node, ..)| *node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// What `look` takes of the stored events.
    pub fn events<T>(&self, look: impl Fn(&Event<'_>) -> Option<T>) -> Vec<T> {
        let stored = self.stored.lock().expect("not poisoned");
        let events = stored.events.iter();
        let decoded = events.map(|(version, bytes)| decode(*version, bytes).expect("event"));
        decoded.filter_map(|event| look(&event)).collect()
    }

    /// The number of stored clicks.
    pub fn clicks(&self) -> usize {
        self.events(|event| matches!(event, Event::Click(_)).then_some(()))
            .len()
    }
}

async fn serve(
    connection: Connection,
    stored: Arc<Mutex<Stored>>,
    acknowledging: watch::Receiver<bool>,
) -> Option<()> {
    let (mut send, mut receive): (SendStream, RecvStream) = connection.accept_bi().await.ok()?;
    let first = read_message(&mut receive, MAX_BATCH_MESSAGE_BYTES).await;
    let Some(EdgeMessage::Hello(hello)) = first.ok()? else {
        return None;
    };
    let welcome = stored.lock().expect("not poisoned").welcome(&hello);
    let welcome = AggregatorMessage::Welcome(welcome);
    write_message(&mut send, &welcome).await.ok()?;
    loop {
        let message = read_message(&mut receive, MAX_BATCH_MESSAGE_BYTES).await;
        let Some(EdgeMessage::Batch(batch)) = message.ok()? else {
            return None;
        };
        let ack = stored
            .lock()
            .expect("not poisoned")
            .store(hello.node, &batch);
        let mut acknowledging = acknowledging.clone();
        acknowledging.wait_for(|it| *it).await.ok()?;
        let ack = AggregatorMessage::Ack(ack);
        write_message(&mut send, &ack).await.ok()?;
    }
}

impl Stored {
    fn welcome(&mut self, hello: &Hello) -> Welcome {
        let lanes = hello.lanes.iter().map(|it| {
            let key = (hello.node, it.lane, it.journal);
            let last = *self.lanes.get(&key).unwrap_or(&it.acknowledged);
            LaneState {
                lane: it.lane,
                journal: it.journal,
                received: last,
                taken: last,
            }
        });
        Welcome {
            lanes: lanes.collect(),
            time_micros: Micros::now().0,
            visitor_salt: None,
        }
    }

    fn store(&mut self, node: u16, batch: &Batch) -> Ack {
        let header = &batch.header;
        let last = self.lanes.entry((node, header.lane, header.journal));
        let last = last.or_default();
        let mut raw = Vec::new();
        open(header, &batch.payload, &mut raw).expect("sound batch");
        for frame in event_journal::frames(&raw).flatten() {
            if frame.seq > *last {
                *last = frame.seq;
                let event = frame.payload.to_vec();
                self.events.push((header.format_version, event));
            }
        }
        Ack {
            lane: header.lane,
            journal: header.journal,
            taken: *last,
        }
    }
}
