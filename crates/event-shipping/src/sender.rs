//! The edge's memory of what it sent: batches are kept until ClickHouse has them. No files, no
//! sockets, no clock: the shipper asks what to send next and tells what was answered.

use crate::dispute;
use crate::{Ack, Batch, Dispute, Held, Hello, LaneHello, LaneState, PROTOCOL, Welcome};
use std::collections::{BTreeMap, VecDeque};
use thiserror::Error;

/// How much may be kept unacknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Batches, over all lanes.
    pub batches: usize,
    /// Bytes of their payloads, over all lanes.
    pub bytes: usize,
}

/// How much an edge keeps unacknowledged.
pub const IN_FLIGHT: Limits = Limits {
    batches: 64,
    bytes: 32 << 20,
};

/// What is kept unacknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Batches, over all lanes.
    pub batches: usize,
    /// Bytes of their payloads, over all lanes.
    pub bytes: usize,
}

/// The journal may delete a lane up to and including `through`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// The lane.
    pub lane: u8,
    /// Its journal.
    pub journal: u64,
    /// The highest sequence that ClickHouse has.
    pub through: u64,
    /// When the lane was not read that far yet: it must be read on after `through`.
    pub skip: bool,
}

/// A batch that is not the lane's next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PushError {
    /// The lane was never added.
    #[error("lane {0} was not added to this sender")]
    UnknownLane(u8),
    /// Events between the last batch and this one would be skipped, or all of it was pushed before.
    #[error("the batch {after}..={last} does not follow sequence {pushed} of lane {lane}")]
    NotNext {
        /// The lane.
        lane: u8,
        /// The last sequence pushed.
        pushed: u64,
        /// The batch's `after`.
        after: u64,
        /// The batch's `last`.
        last: u64,
    },
}

/// An answer that no aggregator in order gives; close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UnsoundAck {
    /// A lane that was not introduced.
    #[error("the aggregator speaks of lane {0}, which was not introduced")]
    UnknownLane(u8),
    /// A lane is missing in the `Welcome`.
    #[error("the aggregator's Welcome says nothing of lane {0}")]
    MissingLane(u8),
    /// More was acknowledged than was sent.
    #[error("the aggregator acknowledges sequence {taken} of lane {lane}, sent was only {sent}")]
    NeverSent {
        /// The lane.
        lane: u8,
        /// What it acknowledges.
        taken: u64,
        /// The highest sequence it can have.
        sent: u64,
    },
    /// It has less than it acknowledged, or has taken more than it received.
    #[error(
        "lane {lane}: received {received} and taken {taken} contradict acknowledged {acknowledged}"
    )]
    Contradiction {
        /// The lane.
        lane: u8,
        /// What the aggregator says it received.
        received: u64,
        /// What it says ClickHouse has.
        taken: u64,
        /// What was acknowledged before.
        acknowledged: u64,
    },
}

/// A lane that a [`Sender`] is to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentLane {
    /// The lane.
    pub lane: u8,
    /// Its journal.
    pub journal: u64,
    /// Up to where an aggregator has acknowledged it; sending continues after it.
    pub acknowledged: u64,
    /// Up to where the journal has deleted or skipped it.
    pub released: u64,
}

type Key = (u8, u64);

/// Everything sent or to be sent that is not acknowledged yet.
#[derive(Debug)]
pub struct Sender {
    limits: Limits,
    in_flight: InFlight,
    lanes: BTreeMap<Key, Lane>,
    connected: bool,
    /// The lane sent from last; the next one gets its turn.
    turn: Key,
}

#[derive(Debug, Default)]
struct Lane {
    /// Acknowledged up to here.
    acknowledged: u64,
    /// Deleted or skipped up to here.
    released: u64,
    /// Everything was acknowledged and nothing will follow: no further `Hello` names it.
    finished: bool,
    /// Batches were pushed up to here.
    pushed: u64,
    /// The aggregator can't have more than this.
    sent: u64,
    batches: VecDeque<Batch>,
    /// How many of `batches`, from the front, the aggregator has or will have on this connection.
    with_aggregator: usize,
}

impl Sender {
    /// A sender without lanes.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            in_flight: InFlight {
                batches: 0,
                bytes: 0,
            },
            lanes: BTreeMap::new(),
            connected: false,
            turn: (0, 0),
        }
    }

    /// Adds a lane. Lanes are added before connecting, since the `Hello` names them.
    pub fn add_lane(&mut self, lane: SentLane) {
        let key = (lane.lane, lane.journal);
        self.lanes.entry(key).or_insert_with(|| Lane {
            acknowledged: lane.acknowledged,
            released: lane.released.min(lane.acknowledged),
            pushed: lane.acknowledged,
            sent: lane.acknowledged,
            ..Lane::default()
        });
    }

    /// The journal has deleted or skipped the lane up to and including `through`, which was acknowledged.
    pub fn set_released(&mut self, lane: u8, journal: u64, through: u64) {
        if let Some(lane) = self.lanes.get_mut(&(lane, journal)) {
            lane.released = through.min(lane.acknowledged);
        }
    }

    /// Nothing of the lane is left to be sent or acknowledged: the next `Hello` does not name it.
    pub fn finish_lane(&mut self, lane: u8, journal: u64) {
        if let Some(lane) = self.lanes.get_mut(&(lane, journal)) {
            lane.finished = true;
        }
        if !self.connected {
            self.lanes.retain(|_, lane| !lane.finished);
        }
    }

    /// The `Hello` that opens a connection.
    #[must_use]
    pub fn hello(&self, node: u16, software: &str) -> Hello {
        let lanes = self
            .lanes
            .iter()
            .map(|(&(lane, journal), state)| LaneHello {
                lane,
                journal,
                acknowledged: state.acknowledged,
                released: state.released,
            });
        let software = software.to_owned();
        Hello {
            protocol: PROTOCOL,
            node,
            software,
            lanes: lanes.collect(),
        }
    }

    /// What is kept.
    #[must_use]
    pub const fn in_flight(&self) -> InFlight {
        self.in_flight
    }

    /// Whether another batch of `bytes` may be pushed; one batch alone always may.
    #[must_use]
    pub const fn has_room(&self, bytes: usize) -> bool {
        self.in_flight.batches == 0
            || (self.in_flight.batches < self.limits.batches
                && self.in_flight.bytes.saturating_add(bytes) <= self.limits.bytes)
    }

    /// After which sequence the lane's next batch begins, if the lane was added.
    #[must_use]
    pub fn pushed(&self, lane: u8, journal: u64) -> Option<u64> {
        self.lanes.get(&(lane, journal)).map(|lane| lane.pushed)
    }

    /// Takes the lane's next batch, connected or not. Ask [`Sender::has_room`] before sealing.
    ///
    /// # Errors
    /// When the lane was not added or the batch is not its next.
    pub fn push(&mut self, batch: Batch) -> Result<(), PushError> {
        let header = batch.header;
        let lane = self
            .lanes
            .get_mut(&(header.lane, header.journal))
            .ok_or(PushError::UnknownLane(header.lane))?;
        if header.after > lane.pushed || header.last <= lane.pushed {
            return Err(PushError::NotNext {
                lane: header.lane,
                pushed: lane.pushed,
                after: header.after,
                last: header.last,
            });
        }
        // After a restart of the edge the aggregator may have received more than was pushed again.
        if self.connected && header.last <= lane.sent && lane.with_aggregator == lane.batches.len()
        {
            lane.with_aggregator += 1;
        }
        lane.pushed = header.last;
        self.in_flight.batches += 1;
        self.in_flight.bytes += batch.payload.len();
        lane.batches.push_back(batch);
        Ok(())
    }

    /// The next batch to write to the stream, lanes taking turns. From now on it counts as sent on
    /// this connection; it is kept until acknowledged. `None`: nothing to send, or not welcomed.
    pub fn next_batch(&mut self) -> Option<Batch> {
        if !self.connected {
            return None;
        }
        let waiting = |lane: &Lane| lane.with_aggregator < lane.batches.len();
        let key = *self
            .lanes
            .range((
                std::ops::Bound::Excluded(self.turn),
                std::ops::Bound::Unbounded,
            ))
            .chain(self.lanes.range(..=self.turn))
            .find(|(_, lane)| waiting(lane))?
            .0;
        self.turn = key;
        let lane = self.lanes.get_mut(&key)?;
        let batch = lane.batches.get(lane.with_aggregator)?.clone();
        lane.with_aggregator += 1;
        lane.sent = lane.sent.max(batch.header.last);
        Some(batch)
    }

    /// The connection is gone: what is not acknowledged waits for the next [`Welcome`].
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.lanes.retain(|_, lane| !lane.finished);
        for lane in self.lanes.values_mut() {
            lane.with_aggregator = 0;
        }
    }

    /// The lanes that must not go on under their journal ids, as the answer to the `Hello` shows. To be
    /// called before [`Sender::welcome`]; `given_out` tells up to where a journal has given out sequences.
    ///
    /// # Errors
    /// When the answer contradicts itself or the `Hello`.
    pub fn disputes(
        &self,
        welcome: &Welcome,
        held: impl Fn(u8, u64) -> Held,
    ) -> Result<Vec<Dispute>, UnsoundAck> {
        self.check_welcome(welcome)?;
        let disputes = welcome.lanes.iter().filter_map(|state| {
            let lane = self.lanes.get(&(state.lane, state.journal))?;
            let held = held(state.lane, state.journal);
            let kind = dispute::of(state, held, lane.acknowledged)?;
            Some(Dispute {
                kind,
                state: *state,
            })
        });
        Ok(disputes.collect())
    }

    /// Takes the answer to the `Hello`; sending goes on after what the aggregator received.
    ///
    /// # Errors
    /// When the answer contradicts the `Hello` or what was acknowledged; nothing changes then.
    pub fn welcome(&mut self, welcome: &Welcome) -> Result<Vec<Release>, UnsoundAck> {
        self.check_welcome(welcome)?;
        for state in &welcome.lanes {
            self.check_received(state)?;
        }
        self.connected = true;
        let mut releases = Vec::new();
        for state in &welcome.lanes {
            let key = (state.lane, state.journal);
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.sent = state.received;
                lane.with_aggregator = lane
                    .batches
                    .partition_point(|batch| batch.header.last <= state.received);
            }
            releases.extend(self.release(key, state.taken));
        }
        Ok(releases)
    }

    /// Takes an acknowledgement; `None` when it says nothing new.
    ///
    /// # Errors
    /// When it speaks of a lane or of events that were never sent; nothing changes then.
    pub fn ack(&mut self, ack: &Ack) -> Result<Option<Release>, UnsoundAck> {
        let key = (ack.lane, ack.journal);
        let lane = self
            .lanes
            .get(&key)
            .ok_or(UnsoundAck::UnknownLane(ack.lane))?;
        if ack.taken > lane.sent {
            let (taken, sent) = (ack.taken, lane.sent);
            return Err(UnsoundAck::NeverSent {
                lane: ack.lane,
                taken,
                sent,
            });
        }
        Ok(self.release(key, ack.taken))
    }

    fn check_welcome(&self, welcome: &Welcome) -> Result<(), UnsoundAck> {
        for state in &welcome.lanes {
            let known = self
                .lanes
                .get(&(state.lane, state.journal))
                .ok_or(UnsoundAck::UnknownLane(state.lane))?;
            if state.taken > state.received {
                return Err(known.contradicted_by(state));
            }
        }
        let missing = self.lanes.keys().find(|(lane, journal)| {
            !welcome
                .lanes
                .iter()
                .any(|state| (state.lane, state.journal) == (*lane, *journal))
        });
        missing.map_or(Ok(()), |(lane, _)| Err(UnsoundAck::MissingLane(*lane)))
    }

    fn check_received(&self, state: &LaneState) -> Result<(), UnsoundAck> {
        match self.lanes.get(&(state.lane, state.journal)) {
            Some(lane) if state.received < lane.acknowledged => Err(lane.contradicted_by(state)),
            _ => Ok(()),
        }
    }

    fn release(&mut self, key: Key, through: u64) -> Option<Release> {
        let lane = self.lanes.get_mut(&key)?;
        if through <= lane.acknowledged {
            return None;
        }
        lane.acknowledged = through;
        while lane
            .batches
            .front()
            .is_some_and(|batch| batch.header.last <= through)
        {
            let batch = lane.batches.pop_front()?;
            lane.with_aggregator = lane.with_aggregator.saturating_sub(1);
            self.in_flight.batches -= 1;
            self.in_flight.bytes -= batch.payload.len();
        }
        let skip = through > lane.pushed;
        lane.pushed = lane.pushed.max(through);
        Some(Release {
            lane: key.0,
            journal: key.1,
            through,
            skip,
        })
    }
}

impl Lane {
    const fn contradicted_by(&self, state: &LaneState) -> UnsoundAck {
        UnsoundAck::Contradiction {
            lane: state.lane,
            received: state.received,
            taken: state.taken,
            acknowledged: self.acknowledged,
        }
    }
}
