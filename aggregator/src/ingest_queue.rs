//! What connections, the block builder and the sink share: where lanes stand, which batches wait,
//! how much is held. Batches are judged and queued in one step, so their order is the lanes' order.

use crate::blocks::{Block, Checkpoint, Entry, Recovered};
use crate::fair_queue::{BlockSize, FairQueue};
use event_shipping::{
    Batch, BatchDecision, ClaimResult, Hello, LaneBounds, LaneCheckpoint, LaneHello, LaneKey,
    LaneState, LaneTable, OfferError, TooManyLanes, Welcome,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tracking_events::Micros;

const SECONDS_PER_DAY: u64 = 24 * 3_600;

/// Events have not been seen to compress any further; runs of one byte do, by thousands.
const MAX_COMPRESSION: usize = 16;

/// What keeping a batch takes beside its payload: its entry in a queue and an allocation.
const ENTRY_BYTES: usize = 512;

/// What may be held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) pending_bytes: usize,
    pub(crate) lanes: LaneBounds,
}

/// What the edge's claims in its `Hello` came to, lane by lane, beside the answer.
pub(crate) struct Greeting {
    pub(crate) welcome: Welcome,
    /// Lanes whose claim was not confirmed by what is known here.
    pub(crate) unconfirmed: Vec<(LaneHello, LaneState, ClaimResult)>,
    pub(crate) known_lanes: usize,
}

pub(crate) struct IngestQueue {
    state: Mutex<State>,
    bounds: Bounds,
    /// Something was queued.
    queued: Notify,
    /// Something was taken by ClickHouse.
    taken: Notify,
}

#[derive(Default)]
struct State {
    lanes: LaneTable,
    waiting: FairQueue,
    /// Charged for batches that wait, and that are in blocks which ClickHouse does not have yet…
    held_bytes: usize,
    /// …how many of these there are of each edge…
    held_batches: BTreeMap<u16, usize>,
    /// …and how many events of each lane they have.
    held_events: BTreeMap<LaneKey, u64>,
}

impl IngestQueue {
    /// Starts from what an earlier run left on disk.
    pub(crate) fn new(bounds: Bounds, recovered: &Recovered) -> Self {
        let mut state = State {
            lanes: LaneTable::new(bounds.lanes, recovered.checkpoint.day),
            ..State::default()
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

    /// Says where the lanes of an edge stand. Nothing is remembered of them yet.
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
            let (answer, claim) = state.lanes.hello(hello.node, lane);
            greeting.welcome.lanes.push(answer);
            if claim != ClaimResult::Confirmed && lane.acknowledged > 0 {
                greeting.unconfirmed.push((*lane, answer, claim));
            }
        }
        Ok(greeting)
    }

    /// Judges a batch that came after `welcomed`, and queues it when it is new.
    pub(crate) fn offer(
        &self,
        node: u16,
        welcomed: &LaneState,
        batch: Batch,
    ) -> Result<BatchDecision, OfferError> {
        let Batch { header, payload } = batch;
        let mut state = self.lock();
        let verdict = state.lanes.offer(node, welcomed, &header)?;
        if let BatchDecision::Accept { skip_through } = verdict {
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
        Ok(verdict)
    }

    /// Waits until less is held than the limit, or nothing of this edge: so an edge that fills the limit
    /// can't keep another one from having a batch in each block.
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

    /// Waits until a block is full or its oldest batch old enough, and takes its batches.
    /// `now` is the trusted time.
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

    /// ClickHouse has the block; what is to be written down as the checkpoint.
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

    /// The checkpoint is on disk: edges may be told.
    pub(crate) fn block_taken(&self, block: &Block) {
        let mut state = self.lock();
        for (key, last) in block.reaches() {
            state.lanes.take(key, last);
        }
        block.entries.iter().for_each(|entry| state.let_go(entry));
        drop(state);
        self.taken.notify_waiters();
    }

    /// Where a lane stands.
    pub(crate) fn lane(&self, key: LaneKey) -> Option<LaneState> {
        self.lock().lanes.state(key)
    }

    /// Events of a lane that were accepted and that ClickHouse does not have.
    pub(crate) fn held_events(&self, key: LaneKey) -> u64 {
        self.lock()
            .held_events
            .get(&key)
            .copied()
            .unwrap_or_default()
    }

    /// Waits until ClickHouse has taken another block than it had when this was called.
    pub(crate) fn taken(&self) -> Notified<'_> {
        self.taken.notified()
    }

    /// Bytes charged for batches that ClickHouse does not have.
    pub(crate) fn held_bytes(&self) -> usize {
        self.lock().held_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no thread panics while it holds the queue")
    }
}

impl State {
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

    fn let_go(&mut self, entry: &Entry) {
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

/// The events of a batch, without those that an earlier one had.
fn events_of(entry: &Entry) -> u64 {
    let header = &entry.header;
    let skipped = (entry.skip_through + 1).saturating_sub(header.first);
    u64::from(header.events).saturating_sub(skipped)
}

/// What a batch is charged for: its payload, but no less than its frames could be compressed to if they were
/// events, and what keeping it takes.
fn charge(entry: &Entry) -> usize {
    let least = entry.header.raw_bytes as usize / MAX_COMPRESSION;
    entry.payload.len().max(least) + ENTRY_BYTES
}
