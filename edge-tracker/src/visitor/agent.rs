//! What a user agent and client hints say: device, system, browser, and whether a person or a program fetches.
//!
//! Rules are read from files and replaced while serving; answers are remembered within a fixed number
//! of entries. What is done with a program's visit never belongs here.

mod files;
mod hints;
mod recent;
mod rules;
mod words;
mod yaml;

pub use files::{RuleFiles, RuleFilesError};
pub use hints::{Hints, SentHints};
pub use recent::Recent;
pub use rules::RulesError;

use super::VisitorSettings;
use super::identity::AgentDigest;
use ahash::RandomState;
use arc_swap::ArcSwap;
use daemon::files::WatchedFiles;
use dashmap::DashMap;
use rules::{Kind, Rules};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tracking_events::{Device, Flags, UserAgent};

/// What a user agent string and client hints say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The string, cut to the limit, and behind it what the hints say.
    key: Arc<str>,
    /// The length of the string.
    raw_bytes: usize,
    /// The kind of device; [`Device::Bot`] when `bot`.
    pub device: Device,
    /// Operating system without version, such as `Android`, or empty.
    pub os: Box<str>,
    /// Browser without version, or the program's name, or empty.
    pub browser: Box<str>,
    /// A crawler, feed reader, library, monitor, preview of a link, or nothing at all.
    pub bot: bool,
    /// A mail service's image proxy, for a person who opens a mail.
    pub mail_proxy: bool,
    /// The string as visitor ids take it.
    pub digest: AgentDigest,
}

impl Agent {
    /// The string itself, cut to the limit.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.key[..self.raw_bytes]
    }

    /// This answer as an event holds it.
    #[must_use]
    pub fn as_event(&self) -> UserAgent<'_> {
        UserAgent {
            device: self.device,
            os: &self.os,
            browser: &self.browser,
            raw: self.raw(),
        }
    }

    /// The marks of its visits.
    #[must_use]
    pub const fn marks(&self) -> Flags {
        match (self.bot, self.mail_proxy) {
            (true, _) => Flags::BOT,
            (_, true) => Flags::MAIL_PROXY,
            _ => Flags(0),
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
    files: RuleFiles,
    watched: Mutex<WatchedFiles>,
    max_bytes: usize,
    half: usize,
    generations: ArcSwap<Generations>,
    /// Counts the rules there have been, for workers to drop answers of earlier ones.
    edition: AtomicU64,
    misses: AtomicU64,
}

type Answers = DashMap<Arc<str>, Arc<Agent>, RandomState>;

/// The answers of one set of rules.
struct Generations {
    rules: Arc<Rules>,
    young: Arc<Answers>,
    old: Arc<Answers>,
}

impl Generations {
    fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            young: Arc::default(),
            old: Arc::default(),
        }
    }
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agents")
            .field("entries", &self.entries())
            .finish_non_exhaustive()
    }
}

impl Agents {
    /// At most `entries` answers (2 at least) for agents of at most `max_bytes` bytes are kept, by the
    /// shipped rules.
    #[must_use]
    pub fn new(entries: usize, max_bytes: usize) -> Self {
        Self::with_rules(entries, max_bytes, RuleFiles::shipped())
    }

    /// The same by the rules of `settings`; takes some tenths of a second, since patterns are compiled.
    ///
    /// Files that are no good do not stop the start: the shipped rules are used and the error is logged.
    #[must_use]
    pub fn open(settings: &VisitorSettings) -> Self {
        let files = settings.agents.clone();
        // Before they are read, or a change may be missed.
        let watched = files.watched();
        let rules = files.load().unwrap_or_else(|error| {
            tracing::error!(%error, "the agent rules are refused; the shipped ones are used");
            RuleFiles::shipped()
        });
        let (entries, max_bytes) = (settings.agent_cache_entries, settings.max_agent_bytes);
        Self {
            watched: Mutex::new(watched),
            files,
            ..Self::with_rules(entries, max_bytes, rules)
        }
    }

    fn with_rules(entries: usize, max_bytes: usize, rules: Arc<Rules>) -> Self {
        let files = RuleFiles::default();
        Self {
            watched: Mutex::new(files.watched()),
            files,
            max_bytes,
            half: (entries / 2).max(1),
            generations: ArcSwap::from_pointee(Generations::new(rules)),
            edition: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Takes up rules whose files were changed, and says whether there are any. To be called every few
    /// seconds from a thread that may block; costs a `stat` per file when nothing changed.
    ///
    /// # Errors
    /// When the changed files are no good: the rules in use stay.
    pub fn refresh(&self) -> Result<bool, RuleFilesError> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if !watched.changed() {
            return Ok(false);
        }
        let rules = self.files.load()?;
        self.generations.store(Arc::new(Generations::new(rules)));
        self.edition.fetch_add(1, Ordering::Release);
        Ok(true)
    }

    /// `agent` cut to the limit, at a character's border; what is logged and hashed of it.
    #[must_use]
    pub fn cut<'a>(&self, agent: &'a str) -> &'a str {
        &agent[..agent.floor_char_boundary(self.max_bytes)]
    }

    /// What `agent` (the header, or empty without one) says without hints. An answer that is remembered
    /// costs no allocation.
    #[must_use]
    pub fn get(&self, agent: &str) -> Arc<Agent> {
        let agent = self.cut(agent);
        self.get_by_key(agent, agent.len(), &Hints::default())
    }

    /// What the agent at the start of `key` says with the hints that are behind it.
    fn get_by_key(&self, key: &str, raw_bytes: usize, hints: &Hints<'_>) -> Arc<Agent> {
        let generations = self.generations.load();
        if let Some(answer) = generations.young.get(key) {
            return answer.clone();
        }
        let answer = match generations.old.get(key) {
            Some(answer) => answer.clone(),
            None => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                Arc::new(recognise(&generations.rules, key, raw_bytes, hints))
            }
        };
        generations.young.insert(answer.key.clone(), answer.clone());
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
            rules: full.rules.clone(),
            young: Arc::default(),
            old: full.young.clone(),
        });
        // Of several workers that saw it full, one wins; the others' turn would be one too many.
        self.generations.compare_and_swap(full, next);
    }
}

fn recognise(rules: &Rules, key: &str, raw_bytes: usize, hints: &Hints<'_>) -> Agent {
    let raw = &key[..raw_bytes];
    let found = rules.recognise(raw, hints);
    Agent {
        key: key.into(),
        raw_bytes,
        device: found.device,
        os: found.os,
        browser: found.browser,
        bot: found.kind == Kind::Program,
        mail_proxy: found.kind == Kind::MailProxy,
        digest: AgentDigest::of(raw),
    }
}
