//! One worker's own memory of agents: no lock and no count that other cores touch.

use super::{Agent, Agents};
use ahash::RandomState;
use std::sync::Arc;

/// How many answers it holds.
const PLACES: usize = 1_024;

/// The answers for agents that one worker saw last, each in the place its hash says; another agent
/// of the same place takes it.
#[derive(Debug)]
pub struct Recent {
    hasher: RandomState,
    places: Box<[Arc<Agent>]>,
}

impl Recent {
    /// Remembers what an empty header says and nothing else.
    #[must_use]
    pub fn new(agents: &Agents) -> Self {
        Self {
            hasher: RandomState::new(),
            places: vec![agents.get(""); PLACES].into(),
        }
    }

    /// What `header` says, from here or from `agents`, and whether it had to be cut; bytes that are
    /// not UTF-8 become replacement characters.
    pub fn get(&mut self, header: &[u8], agents: &Agents) -> (&Agent, bool) {
        let place = self.hasher.hash_one(header) as usize % PLACES;
        let known = &mut self.places[place];
        let mut cut = false;
        if known.raw.as_bytes() != header {
            let text = String::from_utf8_lossy(header);
            *known = agents.get(&text);
            cut = known.raw.len() < text.len();
        }
        (known, cut)
    }
}
