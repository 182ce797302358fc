//! What connections, the block builder and the sink share: where lanes stand, which batches wait,
//! how much is held. Batches are judged and queued in one step, so their order is the lanes' order.

use crate::blocks::{Block, Checkpoint, Entry, Recovered};
use event_shipping::{
    Batch, Hello, LaneKey, LaneState, Lanes, OfferError, RefuseCode, Verdict, Welcome,
};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// When a block is full; whichever comes first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockSize {
    pub(crate) rows: usize,
    /// Of frames, before compression: what decoding takes in memory.
    pub(crate) bytes: usize,
    pub(crate) age: Duration,
}

/// What may be held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) pending_bytes: usize,
    pub(crate) lanes: usize,
}

pub(crate) struct Intake {
    state: Mutex<State>,
    bounds: Bounds,
    /// Something was queued.
    queued: Notify,
    /// Something was taken by ClickHouse.
    taken: Notify,
}

#[derive(Default)]
struct State {
    lanes: Lanes,
    waiting: VecDeque<(Entry, Instant)>,
    waiting_rows: usize,
    /// Of frames, before compression.
    waiting_bytes: usize,
    /// Waiting, and in blocks that ClickHouse does not have yet.
    held_bytes: usize,
}

impl Intake {
    /// Starts from what an earlier run left on disk.
    pub(crate) fn new(bounds: Bounds, recovered: &Recovered) -> Self {
        let mut state = State::default();
        for (key, taken) in &recovered.checkpoint.taken {
            state.lanes.restore(*key, *taken);
        }
        for (_, block) in &recovered.blocks {
            for (key, last) in block.reaches() {
                state.lanes.recover(key, last);
            }
            state.held_bytes += block.payload_bytes();
        }
        let state = Mutex::new(state);
        Self {
            state,
            bounds,
            queued: Notify::new(),
            taken: Notify::new(),
        }
    }

    /// Says where the lanes of an edge stand.
    pub(crate) fn hello(&self, hello: &Hello) -> Result<Welcome, RefuseCode> {
        let mut state = self.lock();
        let unknown = |lane: &&event_shipping::LaneHello| {
            let key = LaneKey {
                node: hello.node,
                lane: lane.lane,
                journal: lane.journal,
            };
            state.lanes.state(key).is_none()
        };
        let unknown = hello.lanes.iter().filter(unknown).count();
        if state.lanes.len() + unknown > self.bounds.lanes {
            return Err(RefuseCode::TooManyLanes);
        }
        let lanes = hello
            .lanes
            .iter()
            .map(|lane| state.lanes.hello(hello.node, lane))
            .collect();
        Ok(Welcome { lanes })
    }

    /// Judges a batch, and queues it when it is new.
    pub(crate) fn offer(&self, node: u16, batch: Batch) -> Result<Verdict, OfferError> {
        let Batch { header, payload } = batch;
        let mut state = self.lock();
        let verdict = state.lanes.offer(node, &header)?;
        if let Verdict::Accept { skip_through } = verdict {
            state.waiting_rows += header.events as usize;
            state.waiting_bytes += header.raw_bytes as usize;
            state.held_bytes += payload.len();
            let entry = Entry {
                key: header.key(node),
                skip_through,
                header,
                payload,
            };
            state.waiting.push_back((entry, Instant::now()));
            drop(state);
            self.queued.notify_one();
        }
        Ok(verdict)
    }

    /// Waits until less is held than the limit.
    pub(crate) async fn room(&self) {
        loop {
            let taken = self.taken();
            if self.held_bytes() < self.bounds.pending_bytes {
                return;
            }
            taken.await;
        }
    }

    /// Waits until a block is full or its oldest batch old enough, and takes its batches.
    pub(crate) async fn next_entries(&self, size: BlockSize) -> Vec<Entry> {
        loop {
            let wait = {
                let mut state = self.lock();
                match state.oldest_age() {
                    Some(age) if state.is_full(size) || age >= size.age => {
                        return state.drain(size);
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
        let reaches = block.reaches();
        let mut taken: std::collections::BTreeMap<LaneKey, u64> =
            self.lock().lanes.taken().collect();
        for (key, last) in reaches {
            let through = taken.entry(key).or_default();
            *through = last.max(*through);
        }
        Checkpoint {
            block: block.number,
            taken: taken.into_iter().collect(),
        }
    }

    /// The checkpoint is on disk: edges may be told.
    pub(crate) fn block_taken(&self, block: &Block) {
        let mut state = self.lock();
        for (key, last) in block.reaches() {
            state.lanes.take(key, last);
        }
        state.held_bytes = state.held_bytes.saturating_sub(block.payload_bytes());
        drop(state);
        self.taken.notify_waiters();
    }

    /// Where a lane stands.
    pub(crate) fn lane(&self, key: LaneKey) -> Option<LaneState> {
        self.lock().lanes.state(key)
    }

    /// Waits until ClickHouse has taken another block than it had when this was called.
    pub(crate) fn taken(&self) -> Notified<'_> {
        self.taken.notified()
    }

    /// Bytes of batches that ClickHouse does not have.
    pub(crate) fn held_bytes(&self) -> usize {
        self.lock().held_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nobody panics while holding the intake")
    }
}

impl State {
    fn oldest_age(&self) -> Option<Duration> {
        self.waiting.front().map(|(_, since)| since.elapsed())
    }

    const fn is_full(&self, size: BlockSize) -> bool {
        self.waiting_rows >= size.rows || self.waiting_bytes >= size.bytes
    }

    /// At least one batch, and no more than fill the block.
    fn drain(&mut self, size: BlockSize) -> Vec<Entry> {
        let (mut rows, mut bytes) = (0, 0);
        let mut entries = Vec::new();
        while let Some((entry, _)) = self.waiting.front() {
            rows += entry.header.events as usize;
            bytes += entry.header.raw_bytes as usize;
            if !entries.is_empty() && (rows > size.rows || bytes > size.bytes) {
                break;
            }
            self.waiting_rows -= entry.header.events as usize;
            self.waiting_bytes -= entry.header.raw_bytes as usize;
            entries.extend(self.waiting.pop_front().map(|(entry, _)| entry));
        }
        entries
    }
}
