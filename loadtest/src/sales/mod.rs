//! Sales of the demo: advertisers' postbacks in several dialects for a share of the clicks, with repeats,
//! revisions and forgeries among them, and identity webhooks, sent again as their senders do when an answer
//! is lost; and whether the tables hold just that.

mod stories;
mod tables;

pub use tables::arrived;

use crate::clickhouse::Analyst;
use crate::stack::FunctionFiles;
use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use stories::{Meaning, Send, Story};

/// Senders at once.
const SENDERS: usize = 8;
/// How long a sender waits before it tries again, and for how long it does.
const TRY_AFTER: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(120);

/// What was sent, or what is in the tables: both must be the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sales {
    /// Conversions, each once however often it was reported.
    pub conversions: u64,
    /// Reports that changed a conversion.
    pub revisions: u64,
    /// Reports that said nothing new.
    pub duplicates: u64,
    /// Reports that were refused, by the number of the reason.
    pub refused: BTreeMap<u16, u64>,
    /// Identity checks taken.
    pub kyc_updates: u64,
}

/// What was sent, and how much of it again because no answer came, or one that said so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// What was to be told.
    pub sales: Sales,
    /// Postbacks sent again that are to be taken: each may have been there the first time.
    pub taken_again: u64,
    /// Sent again, and to be refused: each may have been recorded the first time.
    pub refused_again: BTreeMap<u16, u64>,
    /// Webhooks sent again.
    pub kyc_again: u64,
}

/// How far the senders are.
#[derive(Debug)]
pub struct Progress<'p> {
    done: &'p AtomicUsize,
    all: usize,
}

impl Sales {
    /// Reports that were refused, for whatever reason.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    fn add(&mut self, meaning: Meaning) {
        match meaning {
            Meaning::New => self.conversions += 1,
            Meaning::Revision => self.revisions += 1,
            Meaning::Repeat => self.duplicates += 1,
            Meaning::Refused(number) => *self.refused.entry(number).or_default() += 1,
            Meaning::Kyc => self.kyc_updates += 1,
        }
    }
}

impl Sent {
    fn add(&mut self, meaning: Meaning, again: u64) {
        self.sales.add(meaning);
        match meaning {
            Meaning::New | Meaning::Revision | Meaning::Repeat => self.taken_again += again,
            Meaning::Refused(number) => *self.refused_again.entry(number).or_default() += again,
            Meaning::Kyc => self.kyc_again += again,
        }
    }

    /// How often anything was sent again.
    #[must_use]
    pub fn again(&self) -> u64 {
        self.taken_again + self.kyc_again + self.refused_again.values().sum::<u64>()
    }
}

impl Progress<'_> {
    /// Waits until that share of all has been answered, or a sender gave up.
    pub fn wait_for(&self, share: f64) {
        let wanted = self.all as f64 * share;
        while (self.done.load(Ordering::Relaxed) as f64) < wanted {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What the demo's functions are told.
pub(crate) fn files() -> FunctionFiles {
    FunctionFiles {
        advertisers: stories::ADVERTISERS.into(),
        variables: stories::variables(),
    }
}

/// Writes a file that nobody else can read.
///
/// # Errors
/// When it can't be written.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Reports sales for clicks of `run` and checks of `affiliates` at `edges`, always the same of them at the
/// same one, while `disturb` does what it does; says what must come of it.
///
/// # Errors
/// When an answer is another than it should be, or `disturb` fails.
pub fn report(
    analyst: &Analyst,
    run: &str,
    edges: &[String],
    affiliates: &[String],
    disturb: impl FnOnce(&Progress<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Sent> {
    let stories = stories::all(analyst, run, edges, affiliates)?;
    let all = stories.iter().map(|story| story.len()).sum();
    let (done, next) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let sent = Mutex::new(Sent::default());
    let send = || -> anyhow::Result<()> {
        let agent = agent();
        while let Some(story) = stories.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = tell(&agent, story, &sent, &done) {
                // Nobody is to wait for what will not come.
                done.fetch_add(all, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(send)).collect();
        let disturbed = disturb(&Progress { done: &done, all });
        let mut told = Ok(());
        for sender in senders {
            let ended = sender.join();
            let ended = ended.unwrap_or_else(|_| Err(anyhow::anyhow!("a sender panicked")));
            told = told.and(ended);
        }
        told.and(disturbed)
    })?;
    Ok(sent.into_inner().unwrap_or_default())
}

/// One connection for each request: one that was kept could be tried twice without a word.
fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .max_idle_connections(0)
        .proxy(None)
        .build();
    ureq::Agent::new_with_config(config)
}

/// Sends the parts of a story one after another, each until it is answered.
fn tell(
    agent: &ureq::Agent,
    story: &Story,
    sent: &Mutex<Sent>,
    done: &AtomicUsize,
) -> anyhow::Result<()> {
    for send in story {
        let again = until_answered(agent, send)?;
        let mut sent = sent.lock().ok().context("a sender panicked")?;
        sent.add(send.meaning, again);
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// How often it had to be sent again: after a connection that broke, and after 503.
fn until_answered(agent: &ureq::Agent, send: &Send) -> anyhow::Result<u64> {
    let begun = Instant::now();
    let mut again = 0;
    loop {
        let answer = send.once(agent);
        let patient = begun.elapsed() < PATIENCE;
        match answer {
            Ok((503, _)) | Err(_) if patient => {}
            Err(error) => return Err(error).with_context(|| send.target.clone()),
            Ok((status, text)) => {
                ensure!(
                    status == send.status && text.starts_with(&send.begins),
                    "{} was answered {status} {text:?} instead of {} {:?}",
                    send.target,
                    send.status,
                    send.begins
                );
                return Ok(again);
            }
        }
        again += 1;
        std::thread::sleep(TRY_AFTER);
    }
}
