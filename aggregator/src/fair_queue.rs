//! Batches that wait for a block, in one queue per edge: no edge delays another by more than its share.
//!
//! Invariant: batches of one edge, and so of each lane, leave in the order of their arrival.

use crate::blocks::Entry;
use domain::Micros;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// The limits of a block; the first one reached closes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockSize {
    pub(crate) rows: usize,
    /// Bytes of frames before compression: the memory that decoding needs.
    pub(crate) bytes: usize,
    pub(crate) age: Duration,
}

/// The units in which an edge's share of a block is counted.
const SHARE_UNITS: u64 = 1 << 20;

/// Waiting batches by edge.
#[derive(Default)]
pub(crate) struct FairQueue {
    edges: BTreeMap<u16, VecDeque<(Entry, Instant)>>,
    rows: usize,
    /// Bytes of frames before compression.
    bytes: usize,
    /// Among edges with equal shares, the nodes from this one upwards come first.
    next: u16,
}

impl FairQueue {
    /// Appends a batch to the queue of its edge.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.rows += entry.header.events as usize;
        self.bytes += entry.header.raw_bytes as usize;
        let queue = self.edges.entry(entry.key.node).or_default();
        queue.push_back((entry, Instant::now()));
    }

    /// The age of the oldest waiting batch.
    pub(crate) fn oldest_age(&self) -> Option<Duration> {
        let first = |queue: &VecDeque<(Entry, Instant)>| queue.front().map(|(_, since)| *since);
        let oldest = self.edges.values().filter_map(first).min()?;
        Some(oldest.elapsed())
    }

    /// Whether the waiting batches fill a block.
    pub(crate) const fn fills(&self, size: BlockSize) -> bool {
        self.rows >= size.rows || self.bytes >= size.bytes
    }

    /// Takes at least one batch, and at most a full block, always from the edge with the smallest share of the block so
    /// far. An edge whose next batch does not fit starts the next block. `now` is the trusted time, from which times of
    /// reception are computed: when a batch arrived, there may have been no trusted time.
    pub(crate) fn drain(&mut self, size: BlockSize, now: Micros) -> Vec<Entry> {
        let (mut rows, mut bytes) = (0, 0);
        let mut shares = BTreeMap::<u16, u64>::new();
        let mut passed_over = Vec::new();
        let mut entries = Vec::new();
        while let Some(node) = self.next_edge(&shares, &passed_over) {
            let with = |entry: &Entry| {
                let header = &entry.header;
                (
                    rows + header.events as usize,
                    bytes + header.raw_bytes as usize,
                )
            };
            let empty = entries.is_empty();
            let fits = |entry: &Entry| {
                let (rows, bytes) = with(entry);
                empty || (rows <= size.rows && bytes <= size.bytes)
            };
            let Some((mut entry, since)) = self.take_if(node, fits) else {
                passed_over.push(node);
                continue;
            };
            (rows, bytes) = with(&entry);
            let waited = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            entry.received_at = now.0.saturating_sub(waited);
            *shares.entry(node).or_default() += share(&entry, size);
            entries.push(entry);
            self.next = node.wrapping_add(1);
        }
        if let Some(first) = passed_over.first() {
            self.next = *first;
        }
        entries
    }

    fn next_edge(&self, shares: &BTreeMap<u16, u64>, passed_over: &[u16]) -> Option<u16> {
        let rank = |node: &u16| {
            let share = shares.get(node).copied().unwrap_or(0);
            (share, node.wrapping_sub(self.next))
        };
        let nodes = self.edges.keys().copied();
        nodes
            .filter(|node| !passed_over.contains(node))
            .min_by_key(rank)
    }

    fn take_if(&mut self, node: u16, fits: impl Fn(&Entry) -> bool) -> Option<(Entry, Instant)> {
        let queue = self.edges.get_mut(&node)?;
        let (entry, since) = queue.pop_front_if(|(entry, _)| fits(entry))?;
        if queue.is_empty() {
            self.edges.remove(&node);
        }
        self.rows -= entry.header.events as usize;
        self.bytes -= entry.header.raw_bytes as usize;
        Some((entry, since))
    }
}

/// The batch's share of a block: the larger one of its shares of the rows and of the bytes.
fn share(entry: &Entry, size: BlockSize) -> u64 {
    let part = |taken: u32, of: usize| u64::from(taken) * SHARE_UNITS / (of.max(1) as u64);
    let header = &entry.header;
    part(header.events, size.rows).max(part(header.raw_bytes, size.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_shipping::BatchHeader;

    const SIZE: BlockSize = BlockSize {
        rows: 100,
        bytes: 1 << 20,
        age: Duration::from_secs(1),
    };

    fn entry(node: u16, last: u64, events: u32) -> Entry {
        let header = BatchHeader {
            lane: 0,
            journal: 1,
            format_version: 1,
            after: last - 1,
            first: last,
            last,
            events,
            raw_bytes: events * 40,
            crc: 0,
            sealed_at: 0,
        };
        Entry {
            key: header.key(node),
            skip_through: 0,
            header,
            received_at: 0,
            payload: bytes::Bytes::new(),
        }
    }

    fn drained(queue: &mut FairQueue) -> Vec<(u16, u64)> {
        let entries = queue.drain(SIZE, Micros(0)).into_iter();
        entries
            .map(|entry| (entry.key.node, entry.header.last))
            .collect()
    }

    #[test]
    fn flooding_edge_delays_others_by_at_most_one_block() {
        let mut queue = FairQueue::default();
        for last in 1..=1_000 {
            queue.push(entry(7, last, 90));
        }
        for node in [3, 9] {
            for last in 1..=3 {
                queue.push(entry(node, last, 10));
            }
        }
        // The flooding edge had its turn in the first block at the latest.
        let first = drained(&mut queue);
        let second = drained(&mut queue);
        let others = first.iter().chain(&second).filter(|(node, _)| *node != 7);
        let served: Vec<_> = others.copied().collect();
        assert_eq!(served.len(), 6, "{first:?} {second:?}");
        for node in [3, 9] {
            let of = served.iter().filter(|(it, _)| *it == node);
            assert!(of.map(|(_, last)| *last).eq(1..=3), "{served:?}");
        }
    }

    #[test]
    fn full_queues_share_a_block_evenly_and_in_turn() {
        let mut queue = FairQueue::default();
        for last in 1..=100 {
            queue.push(entry(1, last, 40));
            queue.push(entry(2, last, 10));
            queue.push(entry(3, last, 10));
        }
        let mut rows = BTreeMap::<u16, u64>::new();
        let mut last = BTreeMap::<u16, u64>::new();
        for _ in 0..10 {
            for (node, seq) in drained(&mut queue) {
                *rows.entry(node).or_default() += if node == 1 { 40 } else { 10 };
                assert_eq!(last.insert(node, seq).unwrap_or(0) + 1, seq, "in order");
            }
        }
        let (most, least) = (rows.values().max(), rows.values().min());
        assert!(most <= least.map(|least| least * 2).as_ref(), "{rows:?}");
    }

    #[test]
    fn oversized_batch_gets_a_block_of_its_own() {
        let mut queue = FairQueue::default();
        queue.push(entry(1, 1, 500));
        queue.push(entry(1, 2, 1));
        assert!(queue.fills(SIZE));
        assert_eq!(drained(&mut queue), [(1, 1)]);
        assert_eq!(drained(&mut queue), [(1, 2)]);
        assert!(queue.oldest_age().is_none() && !queue.fills(SIZE));
    }
}
