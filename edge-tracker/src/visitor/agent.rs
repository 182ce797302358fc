//! Recognises user agents and client hints: device, operating system, browser, and whether the client is a program.
//!
//! Rules are read from files and reloaded while serving; results are cached in a fixed number of entries. Decisions
//! about programs' visits never belong here.

mod files;
mod hints;
mod rules;
mod words;
mod worker_cache;
mod yaml;

pub use files::{RuleFiles, RuleFilesError};
pub use hints::{Hints, SentHints};
pub use rules::RulesError;
pub use worker_cache::WorkerCache;

use super::VisitorSettings;
use super::identity::AgentDigest;
use ahash::RandomState;
use arc_swap::ArcSwap;
use daemon::files::WatchedFiles;
use dashmap::DashMap;
use parking_lot::Mutex;
use rules::{Kind, Rules};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tracking_events::{Device, Flags, UserAgent};

/// A recognised user agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The truncated string, followed by the content of the hints.
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
    /// A mail service's image proxy, for a person that opens a mail.
    pub mail_proxy: bool,
    /// The string's digest for visitor ids.
    pub digest: AgentDigest,
}

impl Agent {
    /// The string itself, truncated to the limit.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.key[..self.raw_bytes]
    }

    /// The agent as events store it.
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

/// Recognises user agents and caches the results; shared by all workers.
///
/// Recognition costs tens of microseconds, so results are cached in two generations. New and reused entries go to the
/// young one; when it holds half of the allowed entries it becomes the old one, and the former old one is dropped. So a
/// flood of new strings costs their recognition, but neither memory nor the entries of agents in steady use. Each worker
/// has a [`WorkerCache`] in front of it, so that most visits touch nothing shared.
pub struct Agents {
    files: RuleFiles,
    watched: Mutex<WatchedFiles>,
    max_bytes: usize,
    half: usize,
    generations: ArcSwap<Generations>,
    /// The number of the rules' version, so that workers drop results of earlier ones.
    edition: AtomicU64,
    misses: AtomicU64,
}

type CachedAgents = DashMap<Arc<str>, Arc<Agent>, RandomState>;

/// The cached results of one set of rules.
struct Generations {
    rules: Arc<Rules>,
    young: Arc<CachedAgents>,
    old: Arc<CachedAgents>,
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
    /// Uses the shipped rules, caches at most `entries` results (at least 2), and truncates agents to `max_bytes`.
    #[must_use]
    pub fn new(entries: usize, max_bytes: usize) -> Self {
        Self::with_rules(entries, max_bytes, RuleFiles::shipped())
    }

    /// Uses the rules of `settings`; takes some tenths of a second to compile patterns.
    ///
    /// Invalid files do not prevent the start: the shipped rules are used, and the error is logged.
    #[must_use]
    pub fn open(settings: &VisitorSettings) -> Self {
        let files = settings.agents.clone();
        // Before the files are read, or a change may be missed.
        let watched = files.watched();
        let rules = files.load().unwrap_or_else(|error| {
            tracing::error!(%error, "rejected the agent rules, using the shipped ones");
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

    /// Reloads rules whose files have changed; returns whether any have. To be called every few seconds from a thread
    /// that may block; costs a `stat` per file when nothing changed.
    ///
    /// # Errors
    /// When the changed files are invalid: the active rules are kept.
    pub fn refresh(&self) -> Result<bool, RuleFilesError> {
        if !self.watched.lock().changed() {
            return Ok(false);
        }
        let rules = self.files.load()?;
        self.generations.store(Arc::new(Generations::new(rules)));
        self.edition.fetch_add(1, Ordering::Release);
        Ok(true)
    }

    /// `agent` truncated to the limit at a character boundary, as it is logged and hashed.
    #[must_use]
    pub fn cut<'a>(&self, agent: &'a str) -> &'a str {
        &agent[..agent.floor_char_boundary(self.max_bytes)]
    }

    /// Recognises `agent` (the header, or empty without one) without hints. A cached result costs no allocation.
    #[must_use]
    pub fn get(&self, agent: &str) -> Arc<Agent> {
        let agent = self.cut(agent);
        self.get_by_key(agent, agent.len(), &Hints::default())
    }

    /// Recognises the agent at the start of `key` with the hints after it.
    fn get_by_key(&self, key: &str, raw_bytes: usize, hints: &Hints<'_>) -> Arc<Agent> {
        let generations = self.generations.load();
        if let Some(cached) = generations.young.get(key) {
            return cached.clone();
        }
        let result = match generations.old.get(key) {
            Some(result) => result.clone(),
            None => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                Arc::new(recognise(&generations.rules, key, raw_bytes, hints))
            }
        };
        generations.young.insert(result.key.clone(), result.clone());
        if generations.young.len() >= self.half {
            self.rotate(&generations);
        }
        result
    }

    /// Lookups that had to recognise an agent.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// The number of cached results; each worker may briefly add one beyond the limit.
    #[must_use]
    pub fn entries(&self) -> usize {
        let generations = self.generations.load();
        generations.young.len() + generations.old.len()
    }

    fn rotate(&self, full: &Arc<Generations>) {
        let next = Arc::new(Generations {
            rules: full.rules.clone(),
            young: Arc::default(),
            old: full.young.clone(),
        });
        // If several workers find it full, only one rotates it.
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
