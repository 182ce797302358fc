//! Replays a log against edges with open-loop latency, and records which requests were answered. Invariant: no
//! ClickHouse access here.

mod request;
mod source;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::{Mutex, mpsc};

use self::worker::{ConnectionResults, Worker};
use crate::links;

/// Options of a replay.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// A log in combined format or nginx's JSON, plain or gzip.
    pub log: PathBuf,
    /// Edges, `http://host:port`. Requests of one client address always go to the same edge.
    pub targets: Vec<String>,
    /// Slugs that paths are mapped to.
    pub slugs: Vec<String>,
    /// Requests per second over all targets; `None`: unlimited.
    pub rate: Option<f64>,
    /// Connections per target.
    pub connections: usize,
    /// Maximum number of requests.
    pub limit: Option<u64>,
    /// Number of times the log is replayed.
    pub repeat: u32,
    /// Name of the run: the `source` of its events and the prefix of each `external_id`.
    pub run: String,
    /// Whether a progress bar is drawn.
    pub progress: bool,
    /// Once true, no more requests are sent.
    pub stop: Arc<AtomicBool>,
}

impl ReplayOptions {
    /// One replay of `log` at full speed over a few connections, with the sample links and no progress bar.
    #[must_use]
    pub fn new(log: &Path, targets: &[String], run: &str) -> Self {
        Self {
            log: log.into(),
            targets: targets.into(),
            slugs: links::sample_slugs(),
            rate: None,
            connections: 4,
            limit: None,
            repeat: 1,
            run: run.into(),
            progress: false,
            stop: Arc::default(),
        }
    }
}

/// The number of a request in the run; its `external_id` is `<run>-<number>`.
pub type RequestNumber = u64;

/// The results of a replay.
#[derive(Debug)]
pub struct Outcome {
    /// Name of the run.
    pub run: String,
    /// Requests that were written to a connection.
    pub sent: u64,
    /// Lines of the log in neither format or without a client address.
    pub unreadable: u64,
    /// Responses by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests answered with a redirect or a pixel, ascending; each must be in ClickHouse.
    pub answered: Vec<RequestNumber>,
    /// Requests without a response, ascending; each may be in ClickHouse at most once.
    pub unanswered: Vec<RequestNumber>,
    /// Requests for which no connection was available in time; none is in ClickHouse.
    pub unsent: u64,
    /// Click ids from `Location` (parameter `cid`), with the request's number.
    pub click_ids: Vec<(RequestNumber, String)>,
    /// Microseconds from the scheduled send time to the complete response.
    pub latency: Histogram<u64>,
    /// From the first request to the last response.
    pub elapsed: Duration,
}

impl Outcome {
    /// The `external_id` of a request of this run.
    #[must_use]
    pub fn external_id(&self, number: RequestNumber) -> String {
        request::external_id(&self.run, number)
    }

    /// Number of responses of any status.
    #[must_use]
    pub fn responses(&self) -> u64 {
        self.by_status.values().sum()
    }

    /// Responses per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.responses() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The results as an aligned table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut rows = vec![("sent".to_owned(), self.sent.to_string())];
        rows.extend(
            self.by_status
                .iter()
                .map(|(s, n)| (format!("answered {s}"), n.to_string())),
        );
        rows.push(("unanswered".into(), self.unanswered.len().to_string()));
        rows.push(("never sent".into(), self.unsent.to_string()));
        rows.push(("unreadable lines".into(), self.unreadable.to_string()));
        for (name, quantile) in LATENCIES {
            let micros = self.latency.value_at_quantile(quantile);
            rows.push((format!("latency {name}"), format!("{micros} µs")));
        }
        rows.push(("answers a second".into(), format!("{:.0}", self.rate())));
        rows.iter()
            .map(|(name, value)| format!("{name:<18}{value:>14}\n"))
            .collect()
    }
}

const LATENCIES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// Replays the log and waits for the last response.
///
/// # Errors
/// If the log or most of its lines can't be read, an option is invalid, or a target is not `http://host:port`.
pub async fn run(options: ReplayOptions) -> anyhow::Result<Outcome> {
    ensure!(!options.targets.is_empty(), "name at least one --target");
    ensure!(
        !options.slugs.is_empty(),
        "no links: pass a links file with at least one link"
    );
    ensure!(options.connections > 0, "--connections must be at least 1");
    ensure!(
        options.rate.is_none_or(|r| r.is_finite() && r > 0.0),
        "--rate must be above 0"
    );
    ensure!(
        request::is_run_name(&options.run),
        "--run takes 1 to 40 of A-Z a-z 0-9 - _"
    );
    let bar = progress_bar(options.progress);
    let start = Instant::now();
    let (workers, queues) = start_workers(&options, &bar)?;
    let plan = options.clone();
    let reader = tokio::task::spawn_blocking(move || source::feed(&plan, start, &queues));
    let mut tally = ConnectionResults::new();
    for worker in workers {
        tally.merge(worker.await.context("a sender stopped")?)?;
    }
    let unreadable = reader.await.context("the log's reader stopped")??;
    bar.finish_and_clear();
    Ok(tally.into_outcome(options.run, unreadable, start.elapsed()))
}

type Workers = Vec<tokio::task::JoinHandle<ConnectionResults>>;
type Queues = Vec<mpsc::Sender<request::PlannedRequest>>;

fn start_workers(options: &ReplayOptions, bar: &ProgressBar) -> anyhow::Result<(Workers, Queues)> {
    let (mut workers, mut queues) = (Vec::new(), Vec::new());
    for target in &options.targets {
        let authority = request::authority(target)?;
        let (queue, receiver) = mpsc::channel(1024);
        let receiver = Arc::new(Mutex::new(receiver));
        queues.push(queue);
        for _ in 0..options.connections {
            let worker = Worker::new(authority.clone(), options.run.clone(), bar.clone());
            workers.push(tokio::spawn(worker.run(receiver.clone())));
        }
    }
    Ok((workers, queues))
}

fn progress_bar(is_visible: bool) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if !is_visible {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} answers, {per_sec}") {
        bar.set_style(style);
    }
    bar
}
