//! One worker's own cache of agents, without locks or counters that other cores change.

use super::{Agent, Agents, Hints, SentHints};
use ahash::RandomState;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The number of cached results.
const SLOTS: usize = 1_024;

/// The longest character of UTF-8; this many bytes beyond the limit decide where an agent is truncated.
const MAX_CHAR_BYTES: usize = 4;

/// The results for agents that one worker saw last, each in the slot of its hash; another agent of the same slot
/// replaces it.
#[derive(Debug)]
pub struct WorkerCache {
    hasher: RandomState,
    slots: Box<[CacheSlot]>,
    /// The version of the rules that the results are from.
    edition: u64,
    /// The headers of the current request, and the key that follows from them.
    sent: Vec<u8>,
    key: String,
}

#[derive(Debug, Clone)]
struct CacheSlot {
    /// The headers as sent.
    sent: Vec<u8>,
    agent: Arc<Agent>,
    cut: bool,
}

impl WorkerCache {
    /// Contains only the result for an empty header.
    #[must_use]
    pub fn new(agents: &Agents) -> Self {
        let edition = agents.edition.load(Ordering::Acquire);
        let empty = CacheSlot {
            sent: Vec::new(),
            agent: agents.get(""),
            cut: false,
        };
        Self {
            hasher: RandomState::new(),
            slots: vec![empty; SLOTS].into(),
            edition,
            sent: Vec::new(),
            key: String::new(),
        }
    }

    /// The result for `header` and `hints`, from this cache or from `agents`, and whether the agent was truncated.
    /// Bytes that are not UTF-8 become replacement characters.
    pub fn get(&mut self, header: &[u8], hints: SentHints<'_>, agents: &Agents) -> (&Agent, bool) {
        let edition = agents.edition.load(Ordering::Acquire);
        if self.edition != edition {
            *self = Self::new(agents);
        }
        let header = &header[..header.len().min(agents.max_bytes + MAX_CHAR_BYTES)];
        let sent = joined(&mut self.sent, header, hints);
        let slot = &mut self.slots[self.hasher.hash_one(sent) as usize % SLOTS];
        if slot.sent != sent {
            let text = String::from_utf8_lossy(header);
            let raw = agents.cut(&text);
            let hints = hints.read();
            slot.cut = raw.len() < text.len();
            slot.agent = agents.get_by_key(key(&mut self.key, raw, &hints), raw.len(), &hints);
            slot.sent.clear();
            slot.sent.extend_from_slice(sent);
        }
        (&slot.agent, slot.cut)
    }
}

/// The headers as one text: most often the agent alone.
fn joined<'s>(room: &'s mut Vec<u8>, header: &'s [u8], hints: SentHints<'_>) -> &'s [u8] {
    if hints.is_empty() {
        return header;
    }
    room.clear();
    room.extend_from_slice(header);
    for part in hints.parts() {
        room.push(b'\n');
        room.extend_from_slice(part);
    }
    room
}

/// The agent and the content of the hints, not their text: lists of brands contain invented ones in changing order.
fn key<'k>(room: &'k mut String, raw: &'k str, hints: &Hints<'_>) -> &'k str {
    if *hints == Hints::default() {
        return raw;
    }
    let (brand, platform) = (
        hints.brand.unwrap_or_default(),
        hints.platform.unwrap_or_default(),
    );
    let mobile = hints
        .mobile
        .map_or("", |mobile| if mobile { "1" } else { "0" });
    room.clear();
    write!(room, "{raw}\n{brand}\n{mobile}\n{platform}").expect("writing to a String can't fail");
    room
}
