//! The shipping state of one lane: the journal id of each of its sequences, the position of the next read, and the
//! last acknowledged sequence. Sends nothing itself.

use event_journal::{BatchBoundary, EventCount, FrameRun, IdRange, LaneReader, ReadError};
use event_shipping::{BatchSpan, HeldSequences, SentLane};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use storage::Storage;

/// The sequences of one journal id.
#[derive(Debug, Clone, Copy)]
struct JournalRange {
    first: u64,
    /// The last sequence; `u64::MAX` in the range of new events.
    last: u64,
    journal: u64,
    /// The last acknowledged sequence, 0 for none.
    acknowledged: u64,
}

impl JournalRange {
    fn is_complete(&self, pushed: impl Fn(u64) -> u64) -> bool {
        pushed(self.journal).min(self.last) <= self.acknowledged
    }
}

/// The shipping state of a lane.
#[derive(Debug)]
pub(super) struct ShippedLane<S: Storage> {
    reader: LaneReader<S>,
    /// In order, without completed ranges.
    ranges: Vec<JournalRange>,
    /// The index of the range that is read.
    reading: usize,
    /// Everything up to this sequence was sealed or skipped.
    position: u64,
    /// Batch boundaries from before a restart, to be sealed identically.
    remembered: VecDeque<BatchBoundary>,
    waiting_since: Option<Instant>,
}

/// The result of [`ShippedLane::read`].
#[derive(Debug)]
pub(super) enum ReadStep {
    /// The frames of a batch were read.
    Read(BatchSpan, FrameRun),
    /// The position changed; read again.
    Continue,
    /// There is nothing to read.
    Empty,
}

impl<S: Storage> ShippedLane<S> {
    pub(super) fn new(reader: LaneReader<S>, ids: &[IdRange]) -> Self {
        let mut lane = Self {
            reader,
            ranges: Vec::new(),
            reading: 0,
            position: 0,
            remembered: VecDeque::new(),
            waiting_since: None,
        };
        lane.start(ids);
        lane
    }

    /// Starts after the last acknowledged sequence, as after a restart, with these ids.
    pub(super) fn start(&mut self, ids: &[IdRange]) {
        let acknowledged = self.reader.acknowledged();
        let lasts = ids.iter().skip(1).map(|next| next.first - 1);
        let ranges = ids.iter().zip(lasts.chain([u64::MAX])).map(|(id, last)| {
            let before = self.ranges.iter().find(|it| it.journal == id.journal);
            let all = if acknowledged >= id.first {
                acknowledged.min(last)
            } else {
                0
            };
            JournalRange {
                first: id.first,
                last,
                journal: id.journal,
                acknowledged: before.map_or(all, |it| it.acknowledged.min(last).max(all)),
            }
        });
        let start = self.reader.start();
        let holds_events = |range: &JournalRange| {
            range.last >= start.first_own || start.last_found >= range.first.max(acknowledged + 1)
        };
        let ranges = ranges.filter(|range| range.last > acknowledged && holds_events(range));
        self.ranges = ranges.collect();
        self.reading = 0;
        self.position = acknowledged;
        self.reader.seek(acknowledged);
        let whole = |seal: &&BatchBoundary| {
            let holds = |range: &JournalRange| range.first <= seal.first && seal.last <= range.last;
            self.ranges.iter().any(holds)
        };
        let seals = self.reader.batch_boundaries().iter();
        let open = seals.filter(|seal| seal.last > acknowledged);
        self.remembered = open.take_while(whole).copied().collect();
        self.waiting_since = None;
    }

    pub(super) fn number(&self) -> u8 {
        self.reader.lane()
    }

    /// The sequence up to which everything was acknowledged.
    pub(super) const fn acknowledged(&self) -> u64 {
        self.reader.acknowledged()
    }

    /// The sender's state for each journal id of this lane.
    pub(super) fn sent_lanes(&self) -> impl Iterator<Item = SentLane> + '_ {
        self.ranges.iter().map(|range| SentLane {
            lane: self.number(),
            journal: range.journal,
            acknowledged: range.acknowledged,
            released: self.reader.released(),
        })
    }

    /// The sequences that the journal holds under this id. For the last earlier process they are known exactly; for
    /// those before it, only the start of the next one is known.
    pub(super) fn held(&self, journal: u64) -> HeldSequences {
        let of = |highest_assigned, last| HeldSequences {
            highest_assigned,
            last,
        };
        let Some(at) = self.ranges.iter().position(|it| it.journal == journal) else {
            return of(u64::MAX, u64::MAX);
        };
        let (range, start) = (&self.ranges[at], self.reader.start());
        if range.last == u64::MAX {
            // Not only sent events: a clone of this directory may have sent the same events before.
            let committed = self.reader.last_committed();
            of(committed, committed)
        } else if range.last + 1 == start.first_own {
            of(range.last, start.last_found.max(range.acknowledged))
        } else {
            of(range.last, range.last)
        }
    }

    /// Whether new events get this id.
    pub(super) fn is_current(&self, journal: u64) -> bool {
        self.ranges.last().is_some_and(|it| it.journal == journal)
    }

    /// The first sequence that needs another journal id, so that no unacknowledged event is lost.
    pub(super) fn split_of(&self, journal: u64) -> Option<u64> {
        let range = self.ranges.iter().find(|it| it.journal == journal)?;
        let first = range.first.max(range.acknowledged + 1);
        (first <= range.last).then_some(first)
    }

    /// The events that were not acknowledged.
    pub(super) fn remaining(&self) -> EventCount {
        let count = |range: &JournalRange| {
            let after = range.acknowledged.max(range.first.saturating_sub(1));
            self.reader.count_between(after, range.last)
        };
        self.ranges.iter().map(count).sum()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.reader.backlog() == 0 && self.reading + 1 == self.ranges.len()
    }

    /// Whether a batch is due.
    pub(super) fn is_due(&mut self, bytes: u64, age: Duration, now: Instant) -> bool {
        // Older ranges no longer grow.
        if !self.remembered.is_empty() || self.reading + 1 < self.ranges.len() {
            return true;
        }
        let backlog = self.reader.backlog();
        if backlog == 0 {
            self.waiting_since = None;
            return false;
        }
        let since = *self.waiting_since.get_or_insert(now);
        backlog >= bytes || now.saturating_duration_since(since) >= age
    }

    /// Appends the next batch's frames to `frames`; no batch has events of two ranges.
    pub(super) fn read(
        &mut self,
        bytes: usize,
        frames: &mut Vec<u8>,
    ) -> Result<ReadStep, ReadError> {
        let range = self.ranges[self.reading];
        let last = self.reading + 1 == self.ranges.len();
        let run = match self.remembered.front().copied() {
            Some(seal) if seal.first <= range.last => {
                self.remembered.pop_front();
                // Events that the aggregator had were skipped before the restart.
                if self.position < seal.after {
                    self.remembered.clear();
                    return Ok(ReadStep::Continue);
                }
                match self.reader.read_exact(&seal, frames) {
                    Ok(run) => Some(run),
                    Err(error) => {
                        tracing::warn!(lane = self.number(), %error, "failed to reseal batches identically after the restart; sealing new ones");
                        self.remembered.clear();
                        return Ok(ReadStep::Continue);
                    }
                }
            }
            _ => self.reader.read_up_to(range.last, bytes, frames)?,
        };
        let Some(run) = run else {
            return Ok(if last {
                ReadStep::Empty
            } else {
                self.next_range()
            });
        };
        self.waiting_since = None;
        Ok(ReadStep::Read(span(self.number(), &range, &run), run))
    }

    fn next_range(&mut self) -> ReadStep {
        self.reading += 1;
        let range = self.ranges[self.reading];
        // Its start may have been acknowledged while older ranges were not.
        if range.acknowledged > self.position {
            self.position = range.acknowledged;
            self.reader.seek(range.acknowledged);
        }
        ReadStep::Continue
    }

    /// The batch of `run` was sealed.
    pub(super) fn sealed(&mut self, run: &FrameRun) {
        let (after, first, last) = (run.after, run.first, run.last);
        self.position = last;
        self.reader
            .record_boundary(BatchBoundary { after, first, last });
    }

    /// The batch was not sealed: reads the same events again.
    pub(super) fn rewind(&mut self) {
        self.reader.seek(self.position);
    }

    /// The sequence up to which everything was sealed.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// The aggregator has a journal up to `through`; with `skip` it was not read yet.
    pub(super) fn acknowledge(&mut self, journal: u64, through: u64, skip: bool) {
        let Some(number) = self.ranges.iter().position(|it| it.journal == journal) else {
            return;
        };
        let range = &mut self.ranges[number];
        let through = through.min(range.last);
        range.acknowledged = range.acknowledged.max(through);
        if skip && number == self.reading && through > self.position {
            self.position = through;
            self.reader.seek(through);
            self.remembered.retain(|seal| seal.first > through);
        }
    }

    /// Drops completely acknowledged ranges and returns their journals. `pushed` returns the last sequence of a journal
    /// that the sender has.
    pub(super) fn drop_completed(&mut self, pushed: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut complete = Vec::new();
        let mut acknowledged = 0;
        while self.reading > 0 && self.ranges[0].is_complete(&pushed) {
            let range = self.ranges.remove(0);
            self.reading -= 1;
            acknowledged = range.last;
            complete.push(range.journal);
        }
        let acknowledged = acknowledged.max(self.ranges[0].acknowledged);
        self.reader.acknowledge(acknowledged);
        complete
    }

    /// Releases acknowledged events up to `covered` for deletion; false when there are no more of them.
    pub(super) fn release(&mut self, covered: u64) -> bool {
        let through = self.reader.acknowledged().min(covered);
        let more = through > self.reader.released();
        if more {
            self.reader.release(through);
        }
        more
    }
}

/// The first batch of an id has no predecessor.
fn span(lane: u8, range: &JournalRange, run: &FrameRun) -> BatchSpan {
    BatchSpan {
        lane,
        journal: range.journal,
        format_version: run.format_version,
        after: if run.after < range.first {
            0
        } else {
            run.after
        },
        first: run.first,
        last: run.last,
        events: run.events,
    }
}
