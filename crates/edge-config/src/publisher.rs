//! The publisher: which version each edge is to hold, and how it gets there.

use crate::message::{MAX_RESOURCE_BYTES, Outcome, PART_BYTES};
use crate::{Base, Change, ConfigVersion, HeldVersion, ResourceKey, UpdatePart, UpdateRefusal};
use domain::{Micros, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use thiserror::Error;

/// The changed keys that are remembered for deltas; an edge that lacks more gets a snapshot.
const MAX_LOGGED_KEYS: usize = 1 << 20;

/// Bytes that a change has besides its content.
const CHANGE_OVERHEAD_BYTES: usize = 16;

/// Decides what to send to which edge. Versions only rise.
#[derive(Debug)]
pub struct Publisher {
    newest: Arc<ConfigVersion>,
    canary: Option<NodeId>,
    /// With a canary: the last version that it applied, once it has applied one of this publisher.
    applied_by_canary: Option<Arc<ConfigVersion>>,
    log: Log,
    edges: BTreeMap<NodeId, EdgeStatus>,
}

/// What the publisher knows of an edge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeStatus {
    /// The version that it holds.
    pub held: HeldVersion,
    /// When it applied that version; zero if it held it already when it subscribed.
    pub applied_at: Micros,
    /// The number of its subscriptions: a new one may begin before the end of the last one is noticed.
    pub subscriptions: u32,
    /// The last update that it refused since it applied one.
    pub refused: Option<RefusedUpdate>,
    /// Whether the newest version was compared with its source since the edge subscribed: only then is a version that
    /// is above the newest one known to be wrong.
    is_source_current: bool,
}

/// An update that an edge refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedUpdate {
    /// The version.
    pub version: u64,
    /// The number of the [`UpdateRefusal`].
    pub code: u16,
    /// What is wrong.
    pub detail: String,
    /// Whether it was a snapshot.
    is_snapshot: bool,
}

/// The changes since a version.
#[derive(Debug, Default)]
struct Log {
    /// The version before the first entry.
    base: HeldVersion,
    entries: VecDeque<LogEntry>,
    key_count: usize,
}

#[derive(Debug)]
struct LogEntry {
    after: HeldVersion,
    keys: Vec<ResourceKey>,
}

impl LogEntry {
    /// The number of keys; an entry without any takes memory, too.
    fn weight(&self) -> usize {
        self.keys.len().max(1)
    }
}

/// An update for one edge.
#[derive(Debug, Clone)]
pub struct Update {
    target: Arc<ConfigVersion>,
    base: Base,
    /// The changed resources of a delta.
    keys: Vec<ResourceKey>,
}

/// An update that can't be sent.
#[derive(Debug, Error)]
pub enum PartError {
    /// The resource exceeds its limit.
    #[error("{key} has {bytes} bytes, more than the limit of {MAX_RESOURCE_BYTES}")]
    ResourceTooLong {
        /// The resource.
        key: ResourceKey,
        /// Its length.
        bytes: usize,
    },
    /// Encoding failed.
    #[error("failed to encode changes: {0}")]
    Encode(#[from] postcard::Error),
    /// Compression failed.
    #[error("failed to compress changes: {0}")]
    Compress(#[from] std::io::Error),
}

impl Publisher {
    /// Publishes `version` at first.
    #[must_use]
    pub fn new(version: ConfigVersion) -> Self {
        let newest = Arc::new(version);
        Self {
            log: Log {
                base: newest.held(),
                ..Log::default()
            },
            newest,
            canary: None,
            applied_by_canary: None,
            edges: BTreeMap::new(),
        }
    }

    /// The newest version.
    #[must_use]
    pub fn newest(&self) -> &Arc<ConfigVersion> {
        &self.newest
    }

    /// The version that edges other than the canary are to hold; `None` until the canary has applied one.
    #[must_use]
    pub fn released(&self) -> Option<HeldVersion> {
        self.released_version().map(|version| version.held())
    }

    fn released_version(&self) -> Option<&Arc<ConfigVersion>> {
        match self.canary {
            Some(_) => self.applied_by_canary.as_ref(),
            None => Some(&self.newest),
        }
    }

    /// All edges that ever subscribed.
    #[must_use]
    pub const fn edges(&self) -> &BTreeMap<NodeId, EdgeStatus> {
        &self.edges
    }

    /// Publishes the next version. A version that is not above the newest one is ignored: its changes are known.
    pub fn publish(&mut self, version: u64, changes: Vec<Change>) {
        if version <= self.newest.held().version {
            return;
        }
        let newest = Arc::make_mut(&mut self.newest);
        let keys = newest.advance(version, changes);
        let after = newest.held();
        self.log.push(LogEntry { after, keys });
    }

    /// Publishes another version in place of the newest one: its source was restored from an older copy. Edges get a
    /// snapshot, the canary first.
    pub fn restart_from(&mut self, version: ConfigVersion) {
        self.newest = Arc::new(version);
        self.applied_by_canary = None;
        self.log = Log {
            base: self.newest.held(),
            ..Log::default()
        };
    }

    /// The newest version was compared with its source: edges with a higher one hold a version that does not exist any
    /// more. Returns whether this was not known before.
    pub fn confirm_newest(&mut self) -> bool {
        let mut is_new = false;
        for status in self.edges.values_mut() {
            is_new |= !std::mem::replace(&mut status.is_source_current, true);
        }
        is_new
    }

    /// Sets the edge that gets every version first. Without one, every version is released at once.
    pub fn set_canary(&mut self, canary: Option<NodeId>) {
        self.canary = canary;
        self.applied_by_canary = None;
    }

    /// An edge subscribed and holds `held`.
    pub fn subscribed(&mut self, node: NodeId, held: HeldVersion) {
        let status = self.edges.entry(node).or_default();
        if status.held != held {
            status.applied_at = Micros::default();
        }
        status.held = held;
        status.subscriptions += 1;
        status.refused = None;
        status.is_source_current = false;
        self.release_held_by_canary(node);
    }

    /// An edge's subscription ended.
    pub fn unsubscribed(&mut self, node: NodeId) {
        if let Some(status) = self.edges.get_mut(&node) {
            status.subscriptions = status.subscriptions.saturating_sub(1);
        }
    }

    /// The update that an edge needs now. `None` if it holds its version, or refused it for a reason that a repetition
    /// does not change.
    #[must_use]
    pub fn update_for(&self, node: NodeId) -> Option<Update> {
        let status = self.edges.get(&node)?;
        let target = if self.canary == Some(node) {
            &self.newest
        } else {
            self.released_version()?
        };
        let wanted = target.held();
        let is_ahead = status.held.version > wanted.version;
        if status.held == wanted || (is_ahead && !status.is_source_current) {
            return None;
        }
        let keys = match &status.refused {
            Some(refused) if refused.version == wanted.version && refused.is_final() => {
                return None;
            }
            Some(refused) if refused.is_repairable() => None,
            _ => self.log.keys_between(status.held, wanted.version),
        };
        Some(Update {
            target: target.clone(),
            base: match keys {
                Some(_) => Base::Version(status.held.version),
                None => Base::Empty,
            },
            keys: keys.unwrap_or_default(),
        })
    }

    /// An edge responded to an update at `now`.
    pub fn responded(&mut self, node: NodeId, update: &Update, outcome: &Outcome, now: Micros) {
        let status = self.edges.entry(node).or_default();
        match outcome {
            Outcome::Applied => {
                status.held = update.target.held();
                status.applied_at = now;
                status.refused = None;
                let is_known = self.log.contains(update.target.held());
                if self.canary == Some(node) && is_known {
                    self.applied_by_canary = Some(update.target.clone());
                }
            }
            Outcome::Refused { code, detail } => {
                status.refused = Some(RefusedUpdate {
                    version: update.version(),
                    code: *code,
                    detail: detail.clone(),
                    is_snapshot: update.base == Base::Empty,
                });
            }
        }
    }

    /// A canary that applied the newest version and lost its connection before its response releases it as well.
    fn release_held_by_canary(&mut self, node: NodeId) {
        let holds_newest = self
            .edges
            .get(&node)
            .is_some_and(|status| status.held == self.newest.held());
        if self.canary == Some(node) && holds_newest {
            self.applied_by_canary = Some(self.newest.clone());
        }
    }
}

impl RefusedUpdate {
    /// Whether a snapshot of the same version would be refused as well.
    fn is_final(&self) -> bool {
        self.is_snapshot || !self.is_repairable()
    }

    /// Whether a snapshot may succeed where a delta did not.
    fn is_repairable(&self) -> bool {
        let repairable = [UpdateRefusal::OtherBase, UpdateRefusal::Checksum];
        let reason = UpdateRefusal::from_number(self.code);
        reason.is_some_and(|reason| repairable.contains(&reason))
    }
}

impl Log {
    /// Whether a version is one of this log.
    fn contains(&self, version: HeldVersion) -> bool {
        let mut entries = self.entries.iter().rev();
        version == self.base || entries.any(|entry| entry.after == version)
    }

    fn push(&mut self, entry: LogEntry) {
        self.key_count += entry.weight();
        self.entries.push_back(entry);
        while self.key_count > MAX_LOGGED_KEYS {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.key_count -= oldest.weight();
            self.base = oldest.after;
        }
    }

    /// The keys that changed after `from` up to `version`; `None` if `from` is not known, or lies after `version`.
    fn keys_between(&self, from: HeldVersion, version: u64) -> Option<Vec<ResourceKey>> {
        if from.version > version {
            return None;
        }
        let first = if from == self.base {
            0
        } else {
            let known = |entry: &LogEntry| entry.after == from;
            1 + self.entries.iter().rposition(known)?
        };
        let entries = self.entries.range(first..);
        let wanted = entries.take_while(|entry| entry.after.version <= version);
        let keys: BTreeSet<_> = wanted.flat_map(|entry| &entry.keys).copied().collect();
        Some(keys.into_iter().collect())
    }
}

impl Update {
    /// The version after the update.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.target.held().version
    }

    /// Whether it is a snapshot.
    #[must_use]
    pub fn is_snapshot(&self) -> bool {
        self.base == Base::Empty
    }

    /// The parts of the update, encoded one by one.
    #[must_use]
    pub const fn parts(&self, nonce: u64) -> Parts<'_> {
        Parts {
            update: self,
            nonce,
            number: 0,
            sent_keys: 0,
            last_key: None,
            is_done: false,
        }
    }
}

/// The parts of an update.
#[derive(Debug)]
pub struct Parts<'a> {
    update: &'a Update,
    nonce: u64,
    number: u32,
    /// How many keys of a delta are in earlier parts.
    sent_keys: usize,
    /// The last resource of a snapshot that is in an earlier part.
    last_key: Option<ResourceKey>,
    is_done: bool,
}

impl Parts<'_> {
    fn next_part(&mut self) -> Result<UpdatePart, PartError> {
        let update = self.update;
        let mut part = PartChanges::default();
        if update.is_snapshot() {
            for (key, content) in update.target.after(self.last_key) {
                if part.is_full() {
                    break;
                }
                part.push(key, Some(content))?;
                self.last_key = Some(key);
            }
            self.is_done = update.target.after(self.last_key).next().is_none();
        } else {
            for key in &update.keys[self.sent_keys..] {
                if part.is_full() {
                    break;
                }
                part.push(*key, update.target.get(*key))?;
                self.sent_keys += 1;
            }
            self.is_done = self.sent_keys == update.keys.len();
        }
        let place = (self.nonce, self.number, self.is_done);
        self.number += 1;
        UpdatePart::new(place, (update.base, update.target.held()), &part.changes)
    }
}

impl Iterator for Parts<'_> {
    type Item = Result<UpdatePart, PartError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let part = self.next_part();
        self.is_done |= part.is_err();
        Some(part)
    }
}

#[derive(Default)]
struct PartChanges {
    changes: Vec<Change>,
    bytes: usize,
}

impl PartChanges {
    const fn is_full(&self) -> bool {
        self.bytes >= PART_BYTES
    }

    fn push(&mut self, key: ResourceKey, content: Option<&[u8]>) -> Result<(), PartError> {
        let bytes = content.map_or(0, <[u8]>::len);
        if bytes > MAX_RESOURCE_BYTES {
            return Err(PartError::ResourceTooLong { key, bytes });
        }
        self.bytes += bytes + CHANGE_OVERHEAD_BYTES;
        self.changes.push(Change {
            key,
            content: content.map(<[u8]>::to_vec),
        });
        Ok(())
    }
}
