//! One worker's own memory of agents: no lock and no count that other cores change.

use super::{Agent, Agents, Hints, SentHints};
use ahash::RandomState;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many answers it holds.
const PLACES: usize = 1_024;

/// The longest character of UTF-8; so many bytes beyond the limit decide where an agent is cut.
const MAX_CHAR_BYTES: usize = 4;

/// The answers for agents that one worker saw last, each in the place its hash says; another agent
/// of the same place takes it.
#[derive(Debug)]
pub struct Recent {
    hasher: RandomState,
    places: Box<[Place]>,
    /// The rules that the answers are from.
    edition: u64,
    /// What was sent with the request at hand, and the key that follows from it.
    sent: Vec<u8>,
    key: String,
}

#[derive(Debug, Clone)]
struct Place {
    /// The headers as sent.
    sent: Vec<u8>,
    agent: Arc<Agent>,
    cut: bool,
}

impl Recent {
    /// Remembers what an empty header says and nothing else.
    #[must_use]
    pub fn new(agents: &Agents) -> Self {
        let edition = agents.edition.load(Ordering::Acquire);
        let nothing = Place {
            sent: Vec::new(),
            agent: agents.get(""),
            cut: false,
        };
        Self {
            hasher: RandomState::new(),
            places: vec![nothing; PLACES].into(),
            edition,
            sent: Vec::new(),
            key: String::new(),
        }
    }

    /// What `header` and `hints` say, from here or from `agents`, and whether the agent had to be cut;
    /// bytes that are not UTF-8 become replacement characters.
    pub fn get(&mut self, header: &[u8], hints: SentHints<'_>, agents: &Agents) -> (&Agent, bool) {
        let edition = agents.edition.load(Ordering::Acquire);
        if self.edition != edition {
            *self = Self::new(agents);
        }
        let header = &header[..header.len().min(agents.max_bytes + MAX_CHAR_BYTES)];
        let sent = joined(&mut self.sent, header, hints);
        let place = &mut self.places[self.hasher.hash_one(sent) as usize % PLACES];
        if place.sent != sent {
            let text = String::from_utf8_lossy(header);
            let raw = agents.cut(&text);
            let hints = hints.read();
            place.cut = raw.len() < text.len();
            place.agent = agents.get_by_key(key(&mut self.key, raw, &hints), raw.len(), &hints);
            place.sent.clear();
            place.sent.extend_from_slice(sent);
        }
        (&place.agent, place.cut)
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

/// The agent and what the hints say, not how: lists of brands hold made-up ones in changing order.
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
