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
    places: Box<[Option<Arc<Agent>>]>,
}

impl Recent {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            places: vec![None; PLACES].into(),
        }
    }

    /// What `agent` says, from here or from `agents`.
    pub fn get(&mut self, agent: &str, agents: &Agents) -> &Agent {
        let agent = agents.cut(agent);
        let place = self.hasher.hash_one(agent) as usize % PLACES;
        let place = &mut self.places[place];
        if place.as_ref().is_some_and(|known| *known.raw != *agent) {
            *place = None;
        }
        place.get_or_insert_with(|| agents.get(agent))
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self::new()
    }
}
