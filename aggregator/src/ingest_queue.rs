//! The state that connections, the block builder and the inserter share: positions of lanes, waiting batches, and held
//! bytes. A batch is validated and queued in one step, so that the order of the queue is that of each lane.

use crate::blocks::{Block, Checkpoint, Entry, Recovered};
use crate::fair_queue::{BlockSize, FairQueue};
use domain::Micros;
use event_shipping::{
    Batch, BatchDecision, ClaimResult, Hello, LaneBounds, LaneCheckpoint, LaneHello, LaneKey,
    LaneState, LaneTable, OfferError, TooManyLanes, Welcome,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

const SECONDS_PER_DAY: u64 = 24 * 3_600;

/// The assumed limit of compression. Events were never seen to compress better; runs of one byte compress by thousands.
const MAX_COMPRESSION: usize = 16;

/// Memory of a batch in addition to its payload: its entry in a queue and an allocation.
const ENTRY_BYTES: usize = 512;

/// The limits of held batches and lanes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) pending_bytes: usize,
    pub(crate) lanes: LaneBounds,
}

/// The response to a `Hello`, and the result of the claims in it, lane by lane.
pub(crate) struct Greeting {
    pub(crate) welcome: Welcome,
    /// Lanes whose claim contradicts the state here, or is not confirmed by it.
    pub(crate) unconfirmed: Vec<(LaneHello, LaneState, ClaimResult)>,
    pub(crate) known_lanes: usize,
}

pub(crate) struct IngestQueue {
    state: Mutex<QueueState>,
    bounds: Bounds,
    /// Notified when a batch is queued.
    queued: Notify,
    /// Notified when a block is inserted.
    taken: Notify,
}

#[derive(Default)]
struct QueueState {
    lanes: LaneTable,
    waiting: FairQueue,
    /// Bytes charged for batches that are not inserted yet: waiting, or in a block.
    held_bytes: usize,
    /// The number of these batches, by edge.
    held_batches: BTreeMap<u16, usize>,
    /// The number of their events, by lane.
    held_events: BTreeMap<LaneKey, u64>,
}

impl IngestQueue {
    /// Starts from the state that an earlier run left on disk.
    pub(crate) fn new(bounds: Bounds, recovered: &Recovered) -> Self {
        let mut state = QueueState {
            lanes: LaneTable::new(bounds.lanes, recovered.checkpoint.day),
            ..QueueState::default()
        };
        for lane in recovered.checkpoint.lanes() {
            state.lanes.restore(&lane);
        }
        for (_, block) in &recovered.blocks {
            for (key, last) in block.reaches() {
                state.lanes.recover(key, last);
            }
            block.entries.iter().for_each(|entry| state.hold(entry));
        }
        let state = Mutex::new(state);
        Self {
            state,
            bounds,
            queued: Notify::new(),
            taken: Notify::new(),
        }
    }

    /// The positions of an edge's lanes. Nothing about them is remembered yet.
    pub(crate) fn hello(&self, hello: &Hello) -> Result<Greeting, TooManyLanes> {
        let mut state = self.lock();
        state.observe_day();
        state.lanes.check_capacity(hello.node, &hello.lanes)?;
        let mut greeting = Greeting {
            welcome: Welcome {
                lanes: Vec::with_capacity(hello.lanes.len()),
                ..Welcome::default()
            },
            unconfirmed: Vec::new(),
            known_lanes: state.lanes.len(),
        };
        for lane in &hello.lanes {
            let (position, claim) = state.lanes.hello(hello.node, lane);
            greeting.welcome.lanes.push(position);
            if claim != ClaimResult::Confirmed && lane.acknowledged > 0 {
                greeting.unconfirmed.push((*lane, position, claim));
            }
        }
        Ok(greeting)
    }

    /// Validates a batch that came after `welcomed`, and queues it if it is new.
    pub(crate) fn offer(
        &self,
        node: u16,
        welcomed: &LaneState,
        batch: Batch,
    ) -> Result<BatchDecision, OfferError> {
        let Batch { header, payload } = batch;
        let mut state = self.lock();
        let decision = state.lanes.offer(node, welcomed, &header)?;
        if let BatchDecision::Accept { skip_through } = decision {
            let entry = Entry {
                key: header.key(node),
                skip_through,
                header,
                received_at: 0,
                payload,
            };
            state.hold(&entry);
            state.waiting.push(entry);
            drop(state);
            self.queued.notify_one();
        }
        Ok(decision)
    }

    /// Waits until fewer bytes are held than the limit, or none of this edge. So an edge that fills the limit can't
    /// prevent another one from having a batch in each block.
    pub(crate) async fn room(&self, node: u16) {
        loop {
            let taken = self.taken();
            if self.has_room(node) {
                return;
            }
            taken.await;
        }
    }

    fn has_room(&self, node: u16) -> bool {
        let state = self.lock();
        state.held_bytes < self.bounds.pending_bytes || !state.held_batches.contains_key(&node)
    }

    /// Waits until a block is full or its oldest batch is old enough, and takes the block's batches. `now` is the
    /// trusted time.
    pub(crate) async fn next_entries(
        &self,
        size: BlockSize,
        now: impl Fn() -> Micros,
    ) -> Vec<Entry> {
        loop {
            let wait = {
                let mut state = self.lock();
                match state.waiting.oldest_age() {
                    Some(age) if state.waiting.fills(size) || age >= size.age => {
                        return state.waiting.drain(size, now());
                    }
                    Some(age) => size.age - age,
                    None => Duration::MAX,
                }
            };
            let _ = tokio::time::timeout(wait, self.queued.notified()).await;
        }
    }

    /// The checkpoint to save, now that ClickHouse has the block.
    pub(crate) fn checkpoint_after(&self, block: &Block) -> Checkpoint {
        let mut state = self.lock();
        state.observe_day();
        let mut lanes: BTreeMap<LaneKey, LaneCheckpoint> = state
            .lanes
            .checkpoints()
            .map(|lane| (lane.key, lane))
            .collect();
        let day = state.lanes.day();
        drop(state);
        for (key, last) in block.reaches() {
            let lane = lanes.entry(key).or_insert(LaneCheckpoint {
                key,
                taken: 0,
                idle_days: 0,
            });
            lane.taken = lane.taken.max(last);
        }
        Checkpoint::new(block.number, day, lanes.into_values())
    }

    /// Records that the checkpoint is saved, so that edges may be acknowledged.
    pub(crate) fn block_taken(&self, block: &Block) {
        let mut state = self.lock();
        for (key, last) in block.reaches() {
            state.lanes.take(key, last);
        }
        block.entries.iter().for_each(|entry| state.release(entry));
        drop(state);
        self.taken.notify_waiters();
    }

    /// The position of a lane.
    pub(crate) fn lane(&self, key: LaneKey) -> Option<LaneState> {
        self.lock().lanes.state(key)
    }

    /// Events of a lane that were accepted but are not inserted yet.
    pub(crate) fn held_events(&self, key: LaneKey) -> u64 {
        self.lock()
            .held_events
            .get(&key)
            .copied()
            .unwrap_or_default()
    }

    /// Waits for the next block that ClickHouse stores after this call.
    pub(crate) fn taken(&self) -> Notified<'_> {
        self.taken.notified()
    }

    /// Bytes charged for batches that are not inserted yet.
    pub(crate) fn held_bytes(&self) -> usize {
        self.lock().held_bytes
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state
            .lock()
            .expect("no thread panics while it holds the queue")
    }
}

impl QueueState {
    fn observe_day(&mut self) {
        let now = Duration::from_micros(Micros::now().0);
        let day = u32::try_from(now.as_secs() / SECONDS_PER_DAY).unwrap_or(u32::MAX);
        let forgotten = self.lanes.observe_day(day);
        if forgotten > 0 {
            tracing::info!(
                lanes = forgotten,
                "forgot complete lanes that no edge mentioned for limits.forget_lanes_after"
            );
        }
    }

    fn hold(&mut self, entry: &Entry) {
        self.held_bytes += charge(entry);
        *self.held_batches.entry(entry.key.node).or_default() += 1;
        *self.held_events.entry(entry.key).or_default() += events_of(entry);
    }

    fn release(&mut self, entry: &Entry) {
        self.held_bytes = self.held_bytes.saturating_sub(charge(entry));
        if let Some(events) = self.held_events.get_mut(&entry.key) {
            *events = events.saturating_sub(events_of(entry));
            if *events == 0 {
                self.held_events.remove(&entry.key);
            }
        }
        let node = entry.key.node;
        if let Some(batches) = self.held_batches.get_mut(&node) {
            *batches = batches.saturating_sub(1);
            if *batches == 0 {
                self.held_batches.remove(&node);
            }
        }
    }
}

/// The events of a batch without those that an earlier batch had.
fn events_of(entry: &Entry) -> u64 {
    let header = &entry.header;
    let skipped = (entry.skip_through + 1).saturating_sub(header.first);
    u64::from(header.events).saturating_sub(skipped)
}

/// The charge of a batch: its payload, but at least its frames at the assumed limit of compression, and the memory of
/// keeping it.
fn charge(entry: &Entry) -> usize {
    let least = entry.header.raw_bytes as usize / MAX_COMPRESSION;
    entry.payload.len().max(least) + ENTRY_BYTES
}
