//! The edge's sending state: batches are kept until they are stored in ClickHouse. The shipper gets
//! the next batch to send and passes in the aggregator's responses.
//! Invariant: no files, no sockets, no clock.

use crate::dispute;
use crate::{
    Ack, Batch, Dispute, HeldSequences, Hello, LaneHello, LaneState, PROTOCOL_VERSION, Welcome,
};
use std::collections::{BTreeMap, VecDeque};
use thiserror::Error;

/// Limits of unacknowledged batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlightLimits {
    /// The number of batches, over all lanes.
    pub batches: usize,
    /// The bytes of their payloads, over all lanes.
    pub bytes: usize,
}

/// An edge's limits of unacknowledged batches.
pub const IN_FLIGHT_LIMITS: InFlightLimits = InFlightLimits {
    batches: 64,
    bytes: 32 << 20,
};

/// The present unacknowledged batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlight {
    /// The number of batches, over all lanes.
    pub batches: usize,
    /// The bytes of their payloads, over all lanes.
    pub bytes: usize,
}

/// A lane's events that the journal may delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// The lane.
    pub lane: u8,
    /// The lane's journal id.
    pub journal: u64,
    /// The highest sequence stored in ClickHouse.
    pub through: u64,
    /// Whether the lane was not read up to `through` yet; reading must continue after it.
    pub skip: bool,
}

/// A batch that is not the lane's next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PushError {
    /// The lane was never added.
    #[error("lane {0} was not added to this sender")]
    UnknownLane(u8),
    /// Events between the last batch and this one would be skipped, or all its events were pushed before.
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

/// A message that a correct aggregator never sends; the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProtocolViolation {
    /// The message names a lane that is not in the `Hello`.
    #[error("the aggregator's message names lane {0}, which is not in the Hello")]
    UnknownLane(u8),
    /// The `Welcome` lacks a lane of the `Hello`.
    #[error("the aggregator's Welcome lacks lane {0} of the Hello")]
    MissingLane(u8),
    /// The acknowledged sequence was never sent.
    #[error(
        "the aggregator acknowledged sequence {taken} of lane {lane}, but only {sent} was sent"
    )]
    NeverSent {
        /// The lane.
        lane: u8,
        /// The acknowledged sequence.
        taken: u64,
        /// The highest sequence that the aggregator can have.
        sent: u64,
    },
    /// The aggregator received less than it acknowledged, or stored more than it received.
    #[error(
        "lane {lane}: the aggregator's received {received} and taken {taken} contradict acknowledged \
         {acknowledged}"
    )]
    InconsistentAck {
        /// The lane.
        lane: u8,
        /// The highest received sequence, according to the aggregator.
        received: u64,
        /// The highest sequence stored in ClickHouse, according to the aggregator.
        taken: u64,
        /// The sequence acknowledged earlier.
        acknowledged: u64,
    },
}

/// The initial state of a lane in a [`Sender`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentLane {
    /// The lane.
    pub lane: u8,
    /// The lane's journal id.
    pub journal: u64,
    /// The last acknowledged sequence; sending continues after it.
    pub acknowledged: u64,
    /// The last sequence that the journal deleted or skipped.
    pub released: u64,
}

type Key = (u8, u64);

/// The batches of all lanes that are not acknowledged yet.
#[derive(Debug)]
pub struct Sender {
    limits: InFlightLimits,
    in_flight: InFlight,
    lanes: BTreeMap<Key, Lane>,
    connected: bool,
    /// The lane of the last sent batch, for round-robin scheduling.
    last_lane: Key,
}

#[derive(Debug, Default)]
struct Lane {
    /// The last acknowledged sequence.
    acknowledged: u64,
    /// The last deleted or skipped sequence.
    released: u64,
    /// Every event was acknowledged and no event will follow: later `Hello`s omit the lane.
    finished: bool,
    /// The last pushed sequence.
    pushed: u64,
    /// The highest sequence that the aggregator can have.
    sent: u64,
    batches: VecDeque<Batch>,
    /// The number of `batches`, from the front, that the aggregator has or gets on this connection.
    with_aggregator: usize,
}

impl Sender {
    /// A sender without lanes.
    #[must_use]
    pub const fn new(limits: InFlightLimits) -> Self {
        Self {
            limits,
            in_flight: InFlight {
                batches: 0,
                bytes: 0,
            },
            lanes: BTreeMap::new(),
            connected: false,
            last_lane: (0, 0),
        }
    }

    /// Adds a lane. Lanes are added before connecting, because the `Hello` lists them.
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

    /// Records that the journal deleted or skipped the lane's acknowledged events up to `through`.
    pub fn set_released(&mut self, lane: u8, journal: u64, through: u64) {
        if let Some(lane) = self.lanes.get_mut(&(lane, journal)) {
            lane.released = through.min(lane.acknowledged);
        }
    }

    /// Marks a lane whose events are all acknowledged as finished: the next `Hello` omits it.
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
            protocol: PROTOCOL_VERSION,
            node,
            software,
            lanes: lanes.collect(),
        }
    }

    /// The present unacknowledged batches.
    #[must_use]
    pub const fn in_flight(&self) -> InFlight {
        self.in_flight
    }

    /// Whether another batch of `bytes` may be pushed; without other batches it always may.
    #[must_use]
    pub const fn has_capacity(&self, bytes: usize) -> bool {
        self.in_flight.batches == 0
            || (self.in_flight.batches < self.limits.batches
                && self.in_flight.bytes.saturating_add(bytes) <= self.limits.bytes)
    }

    /// The sequence after which the lane's next batch starts, if the lane was added.
    #[must_use]
    pub fn pushed(&self, lane: u8, journal: u64) -> Option<u64> {
        self.lanes.get(&(lane, journal)).map(|lane| lane.pushed)
    }

    /// Adds the lane's next batch, connected or not. Check [`Sender::has_capacity`] before sealing.
    ///
    /// # Errors
    /// When the lane was not added or the batch does not follow the last one.
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
        // After a restart of the edge the aggregator may have received batches that are pushed again.
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

    /// The next batch to write to the stream, chosen from the lanes in turn.
    ///
    /// The batch counts as sent on this connection and is kept until acknowledged. `None` when no
    /// batch is unsent, or before the `Welcome`.
    pub fn next_batch(&mut self) -> Option<Batch> {
        if !self.connected {
            return None;
        }
        let waiting = |lane: &Lane| lane.with_aggregator < lane.batches.len();
        let key = *self
            .lanes
            .range((
                std::ops::Bound::Excluded(self.last_lane),
                std::ops::Bound::Unbounded,
            ))
            .chain(self.lanes.range(..=self.last_lane))
            .find(|(_, lane)| waiting(lane))?
            .0;
        self.last_lane = key;
        let lane = self.lanes.get_mut(&key)?;
        let batch = lane.batches.get(lane.with_aggregator)?.clone();
        lane.with_aggregator += 1;
        lane.sent = lane.sent.max(batch.header.last);
        Some(batch)
    }

    /// Records the end of the connection: unacknowledged batches wait for the next [`Welcome`].
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.lanes.retain(|_, lane| !lane.finished);
        for lane in self.lanes.values_mut() {
            lane.with_aggregator = 0;
        }
    }

    /// The lanes that must not continue under their journal ids, according to the `Welcome`.
    ///
    /// Call this before [`Sender::welcome`]; `held` returns the sequences of a lane and journal id.
    ///
    /// # Errors
    /// When the `Welcome` contradicts itself or the `Hello`.
    pub fn disputes(
        &self,
        welcome: &Welcome,
        held: impl Fn(u8, u64) -> HeldSequences,
    ) -> Result<Vec<Dispute>, ProtocolViolation> {
        self.check_welcome(welcome)?;
        let disputes = welcome.lanes.iter().filter_map(|state| {
            let lane = self.lanes.get(&(state.lane, state.journal))?;
            let held = held(state.lane, state.journal);
            let kind = dispute::classify(state, held, lane.acknowledged)?;
            Some(Dispute {
                kind,
                state: *state,
            })
        });
        Ok(disputes.collect())
    }

    /// Processes the `Welcome`; sending continues after the sequences that the aggregator received.
    ///
    /// # Errors
    /// When it contradicts the `Hello` or earlier acknowledgements; nothing changes then.
    pub fn welcome(&mut self, welcome: &Welcome) -> Result<Vec<Release>, ProtocolViolation> {
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

    /// Processes an acknowledgement; `None` when it acknowledges no further event.
    ///
    /// # Errors
    /// When it names a lane or events that were never sent; nothing changes then.
    pub fn ack(&mut self, ack: &Ack) -> Result<Option<Release>, ProtocolViolation> {
        let key = (ack.lane, ack.journal);
        let lane = self
            .lanes
            .get(&key)
            .ok_or(ProtocolViolation::UnknownLane(ack.lane))?;
        if ack.taken > lane.sent {
            let (taken, sent) = (ack.taken, lane.sent);
            return Err(ProtocolViolation::NeverSent {
                lane: ack.lane,
                taken,
                sent,
            });
        }
        Ok(self.release(key, ack.taken))
    }

    fn check_welcome(&self, welcome: &Welcome) -> Result<(), ProtocolViolation> {
        for state in &welcome.lanes {
            let known = self
                .lanes
                .get(&(state.lane, state.journal))
                .ok_or(ProtocolViolation::UnknownLane(state.lane))?;
            if state.taken > state.received {
                return Err(known.inconsistency_with(state));
            }
        }
        let missing = self.lanes.keys().find(|(lane, journal)| {
            !welcome
                .lanes
                .iter()
                .any(|state| (state.lane, state.journal) == (*lane, *journal))
        });
        missing.map_or(Ok(()), |(lane, _)| {
            Err(ProtocolViolation::MissingLane(*lane))
        })
    }

    fn check_received(&self, state: &LaneState) -> Result<(), ProtocolViolation> {
        match self.lanes.get(&(state.lane, state.journal)) {
            Some(lane) if state.received < lane.acknowledged => Err(lane.inconsistency_with(state)),
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
    const fn inconsistency_with(&self, state: &LaneState) -> ProtocolViolation {
        ProtocolViolation::InconsistentAck {
            lane: state.lane,
            received: state.received,
            taken: state.taken,
            acknowledged: self.acknowledged,
        }
    }
}
