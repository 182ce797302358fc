//! Sales of the demo: postbacks in several dialects for a share of the clicks, including repeats, revisions and
//! forgeries, and KYC webhooks. Requests are retried when the response is lost, as their real senders do.
//! Afterwards the tables must hold exactly the sent sales.

mod scenarios;
mod tables;

pub use tables::wait_until_stored;

use crate::clickhouse::Analyst;
use anyhow::{Context as _, ensure};
use scenarios::{ExpectedOutcome, RequestSequence, ScenarioRequest};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Concurrent senders.
const CONCURRENT_SENDERS: usize = 8;
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);

/// Numbers of sent or of stored reports; both must be equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SalesCounts {
    /// Conversions; each counts once however often it was reported.
    pub conversions: u64,
    /// Reports that changed a conversion.
    pub revisions: u64,
    /// Reports without a change.
    pub duplicates: u64,
    /// Rejected reports, by the reason's number.
    pub rejected: BTreeMap<u16, u64>,
    /// Accepted KYC checks.
    pub kyc_updates: u64,
}

/// Sent sales, and the numbers of requests that were retried after a lost or a 503 response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SentSales {
    /// Counts without retries.
    pub sales: SalesCounts,
    /// Retried postbacks that must be accepted; the first attempt may have arrived.
    pub accepted_retries: u64,
    /// Retried postbacks that must be rejected, by reason; the first attempt may have been recorded.
    pub rejected_retries: BTreeMap<u16, u64>,
    /// Retried webhooks.
    pub kyc_retries: u64,
}

/// The senders' progress.
#[derive(Debug)]
pub struct Progress<'p> {
    done: &'p AtomicUsize,
    all: usize,
}

impl SalesCounts {
    /// Rejected reports of all reasons.
    #[must_use]
    pub fn rejections(&self) -> u64 {
        self.rejected.values().sum()
    }

    fn add(&mut self, outcome: ExpectedOutcome) {
        match outcome {
            ExpectedOutcome::New => self.conversions += 1,
            ExpectedOutcome::Revision => self.revisions += 1,
            ExpectedOutcome::Repeat => self.duplicates += 1,
            ExpectedOutcome::Rejected(number) => *self.rejected.entry(number).or_default() += 1,
            ExpectedOutcome::Kyc => self.kyc_updates += 1,
        }
    }
}

impl SentSales {
    fn add(&mut self, outcome: ExpectedOutcome, retries: u64) {
        self.sales.add(outcome);
        match outcome {
            ExpectedOutcome::New | ExpectedOutcome::Revision | ExpectedOutcome::Repeat => {
                self.accepted_retries += retries
            }
            ExpectedOutcome::Rejected(number) => {
                *self.rejected_retries.entry(number).or_default() += retries
            }
            ExpectedOutcome::Kyc => self.kyc_retries += retries,
        }
    }

    /// Number of retries.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.accepted_retries + self.kyc_retries + self.rejected_retries.values().sum::<u64>()
    }
}

impl Progress<'_> {
    /// Waits until that share of the requests has been answered, or a sender failed.
    pub fn wait_for(&self, share: f64) {
        let wanted = self.all as f64 * share;
        while (self.done.load(Ordering::Relaxed) as f64) < wanted {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reports sales for clicks of `run` and KYC checks of `affiliates` at `edges`, while `disturb` runs. Each click's
/// requests go to one edge. Returns the expected content of the tables.
///
/// # Errors
/// If a response differs from the expected one, or `disturb` fails.
pub fn report(
    analyst: &Analyst,
    run: &str,
    edges: &[String],
    affiliates: &[String],
    disturb: impl FnOnce(&Progress<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<SentSales> {
    let sequences = scenarios::all(analyst, run, edges, affiliates)?;
    let all = sequences.iter().map(|sequence| sequence.len()).sum();
    let (done, next) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let sent = Mutex::new(SentSales::default());
    let send = || -> anyhow::Result<()> {
        let agent = agent();
        while let Some(sequence) = sequences.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = send_sequence(&agent, sequence, &sent, &done) {
                // Without this, `disturb` would wait for responses that never come.
                done.fetch_add(all, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..CONCURRENT_SENDERS).map(|_| scope.spawn(send)).collect();
        let disturb_result = disturb(&Progress { done: &done, all });
        let mut result = Ok(());
        for sender in senders {
            let sender_result = sender.join();
            let sender_result =
                sender_result.unwrap_or_else(|_| Err(anyhow::anyhow!("a sender panicked")));
            result = result.and(sender_result);
        }
        result.and(disturb_result)
    })?;
    Ok(sent.into_inner().unwrap_or_default())
}

/// One connection per request: a reused connection could retry silently, which would not be counted.
fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .max_idle_connections(0)
        .proxy(None)
        .build();
    ureq::Agent::new_with_config(config)
}

/// Sends the requests of a scenario in order, each until it is answered.
fn send_sequence(
    agent: &ureq::Agent,
    sequence: &RequestSequence,
    sent: &Mutex<SentSales>,
    done: &AtomicUsize,
) -> anyhow::Result<()> {
    for request in sequence {
        let retries = send_until_answered(agent, request)?;
        let mut sent = sent.lock().ok().context("a sender panicked")?;
        sent.add(request.expected, retries);
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Number of retries after broken connections and 503 responses.
fn send_until_answered(agent: &ureq::Agent, request: &ScenarioRequest) -> anyhow::Result<u64> {
    let started = Instant::now();
    let mut retries = 0;
    loop {
        let response = request.send(agent);
        let may_retry = started.elapsed() < RETRY_TIMEOUT;
        match response {
            Ok((503, _)) | Err(_) if may_retry => {}
            Err(error) => return Err(error).with_context(|| request.target.clone()),
            Ok((status, text)) => {
                ensure!(
                    status == request.status && text.starts_with(&request.body_prefix),
                    "{} returned {status} {text:?}; expected {} {:?}",
                    request.target,
                    request.status,
                    request.body_prefix
                );
                return Ok(retries);
            }
        }
        retries += 1;
        std::thread::sleep(RETRY_INTERVAL);
    }
}
