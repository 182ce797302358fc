//! What a user agent string says: device, operating system, browser, and whether it is a program.
//!
//! Two libraries are asked and small rules of ours fill their gaps; answers are remembered within
//! a fixed number of entries. What is done with a program's visit never belongs here.

mod recent;
mod rules;

pub use recent::Recent;

use super::identity::AgentDigest;
use ahash::RandomState;
use arc_swap::ArcSwap;
use dashmap::DashMap;
use isbot::Bots;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tracking_events::{Device, UserAgent};
use woothee::parser::Parser;

/// What a user agent string says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The string itself, cut to the limit.
    pub raw: Arc<str>,
    /// The kind of device; [`Device::Bot`] when `bot`.
    pub device: Device,
    /// Operating system without version, such as `Android`, or empty.
    pub os: Box<str>,
    /// Browser without version, or the program's name, or empty.
    pub browser: Box<str>,
    /// A crawler, feed reader, library, monitor, or nothing at all.
    pub bot: bool,
    /// The string as visitor ids take it.
    pub digest: AgentDigest,
}

impl Agent {
    /// This answer as an event holds it.
    #[must_use]
    pub fn as_event(&self) -> UserAgent<'_> {
        UserAgent {
            device: self.device,
            os: &self.os,
            browser: &self.browser,
            raw: &self.raw,
        }
    }
}

/// Recognises user agents and remembers the answers; shared by all workers.
///
/// Recognition costs tens of microseconds, so answers are kept in two generations. New ones and
/// those used again go to the young one; when that holds half of the entries allowed it becomes the
/// old one and the former old one is dropped. A flood of ever-new strings thus costs recognition
/// for the flood, but neither memory nor the answers for agents in steady use. In front of it each
/// worker has a [`Recent`] of its own, so that most visits touch nothing shared.
pub struct Agents {
    parser: Parser,
    bots: Bots,
    max_bytes: usize,
    half: usize,
    generations: ArcSwap<Generations>,
    misses: AtomicU64,
}

type Answers = DashMap<Arc<str>, Arc<Agent>, RandomState>;

struct Generations {
    young: Arc<Answers>,
    old: Arc<Answers>,
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agents")
            .field("entries", &self.entries())
            .finish_non_exhaustive()
    }
}

impl Agents {
    /// At most `entries` answers (2 at least) for agents of at most `max_bytes` bytes are kept.
    ///
    /// Takes some milliseconds: crawler patterns are compiled.
    #[must_use]
    pub fn new(entries: usize, max_bytes: usize) -> Self {
        Self {
            parser: Parser::new(),
            bots: Bots::default(),
            max_bytes,
            half: (entries / 2).max(1),
            generations: ArcSwap::from_pointee(Generations {
                young: Arc::default(),
                old: Arc::default(),
            }),
            misses: AtomicU64::new(0),
        }
    }

    /// `agent` cut to the limit, at a character's border; what is logged and hashed of it.
    #[must_use]
    pub fn cut<'a>(&self, agent: &'a str) -> &'a str {
        &agent[..agent.floor_char_boundary(self.max_bytes)]
    }

    /// What `agent` (the header, or empty without one) says. An answer that is remembered costs no
    /// allocation.
    #[must_use]
    pub fn get(&self, agent: &str) -> Arc<Agent> {
        let agent = self.cut(agent);
        let generations = self.generations.load();
        if let Some(answer) = generations.young.get(agent) {
            return answer.clone();
        }
        let answer = match generations.old.get(agent) {
            Some(answer) => answer.clone(),
            None => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                Arc::new(self.recognise(agent))
            }
        };
        generations.young.insert(answer.raw.clone(), answer.clone());
        if generations.young.len() >= self.half {
            self.turn(&generations);
        }
        answer
    }

    /// How many times an agent had to be recognised.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// How many answers are remembered; each worker may add one beyond the limit for a moment.
    #[must_use]
    pub fn entries(&self) -> usize {
        let generations = self.generations.load();
        generations.young.len() + generations.old.len()
    }

    fn turn(&self, full: &Arc<Generations>) {
        let next = Arc::new(Generations {
            young: Arc::default(),
            old: full.young.clone(),
        });
        // Of several workers that saw it full, one wins; the others' turn would be one too many.
        self.generations.compare_and_swap(full, next);
    }

    fn recognise(&self, agent: &str) -> Agent {
        let asked = rules::without_false_friends(agent);
        let known = self.parser.parse(&asked).unwrap_or_default();
        let bot = rules::is_program(agent, known.category) || self.bots.is_bot(&asked);
        let (raw, digest) = (agent.into(), AgentDigest::of(agent));
        if bot {
            let browser = rules::program_name(agent, known.name);
            return Agent {
                raw,
                device: Device::Bot,
                os: "".into(),
                browser: browser.into(),
                bot,
                digest,
            };
        }
        Agent {
            raw,
            device: rules::device(agent, known.category),
            os: rules::os(agent, known.os).into(),
            browser: rules::browser(agent, known.name).into(),
            bot,
            digest,
        }
    }
}

#[cfg(test)]
mod tests;
