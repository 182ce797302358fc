//! The commands `drain` and `adopt`. Both ship the journal of an edge that does not run by the same code; they differ
//! in whose directory it is. `drain` is for this host's own edge, running or not. `adopt` is for the directory of
//! another node on any host, and refuses to end a running edge by mistake.

use super::control::ControlClient;
use super::error::{DrainError, RUNNING_EDGE_NEXT};
use super::report::Reporter;
use super::{DrainRequest, Progress, Stage, offline};
use crate::settings::{self, Settings};
use anyhow::Context as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout_at};

/// Far longer than a drain takes: an instant that far away can always be computed.
const NO_TIMEOUT: Duration = Duration::from_secs(365 * 86_400);

/// Options of `drain`.
#[derive(Debug, Clone)]
pub struct DrainOptions {
    /// The settings of the edge.
    pub config: PathBuf,
    /// For how long a running edge still accepts clicks after its readiness has failed.
    pub delay: Duration,
    /// After which the command gives up; the edge does not.
    pub timeout: Option<Duration>,
    /// Whether progress is printed as JSON.
    pub json: bool,
}

/// Options of `adopt`.
#[derive(Debug, Clone)]
pub struct AdoptOptions {
    /// The settings of an edge, of which the aggregator and the certificates are used.
    pub config: PathBuf,
    /// The orphaned data directory.
    pub data_dir: PathBuf,
    /// The certificates of the directory's node, instead of those in the settings.
    pub tls_dir: Option<PathBuf>,
    /// After which the command gives up.
    pub timeout: Option<Duration>,
    /// Whether progress is printed as JSON.
    pub json: bool,
}

/// Drains the edge that runs by these settings; ships its journal if it does not run.
///
/// # Errors
/// When events are left, with what to do next.
pub fn drain(options: &DrainOptions) -> Result<(), DrainError> {
    let settings = settings::read(&options.config).map_err(anyhow::Error::from)?;
    run(async {
        let mut reporter = Reporter::new(options.json);
        let connected = ControlClient::connect(&settings.data_dir).await;
        let socket = || {
            format!(
                "{}/control.sock; run the command as the edge's user",
                settings.data_dir.display()
            )
        };
        match connected.with_context(socket)? {
            Some(edge) => follow(edge, options, &mut reporter).await,
            None => offline::ship(&settings, options.timeout, &mut reporter).await,
        }
    })
}

/// Ships the journal of a node that does not come back.
///
/// # Errors
/// When events are left, with what to do next.
pub fn adopt(options: &AdoptOptions) -> Result<(), DrainError> {
    let mut settings = settings::read(&options.config).map_err(anyhow::Error::from)?;
    settings.data_dir.clone_from(&options.data_dir);
    if options.tls_dir.is_some() {
        settings.tls.dir.clone_from(&options.tls_dir);
    }
    run(async {
        if offline::is_running(&settings.data_dir).await {
            return Err(DrainError::Running(settings.data_dir.clone()));
        }
        let mut reporter = Reporter::new(options.json);
        offline::ship(&settings, options.timeout, &mut reporter).await?;
        if !options.json {
            println!("{}", adopted(&settings));
        }
        Ok(())
    })
}

fn adopted(settings: &Settings) -> String {
    format!(
        "{} holds no event that is not in ClickHouse: delete it, or start its edge on it again",
        settings.data_dir.display()
    )
}

fn run(work: impl Future<Output = Result<(), DrainError>>) -> Result<(), DrainError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    LocalSet::new().block_on(&runtime.context("no runtime")?, work)
}

/// Requests the drain and reports the edge's progress until it is drained.
async fn follow(
    mut edge: ControlClient,
    options: &DrainOptions,
    reporter: &mut Reporter,
) -> Result<(), DrainError> {
    let deadline = Instant::now() + options.timeout.unwrap_or(NO_TIMEOUT).min(NO_TIMEOUT);
    let ended = |error: std::io::Error| DrainError::EdgeEnded(error.to_string());
    let request = DrainRequest::after(options.delay);
    edge.request(request).await.map_err(ended)?;
    let mut progress = Progress::at(Stage::Serving);
    loop {
        let Ok(next) = timeout_at(deadline, edge.next()).await else {
            return Err(DrainError::EventsLeft {
                events: progress.events,
                bytes: progress.bytes,
                problem: progress.problem,
                next: RUNNING_EDGE_NEXT,
            });
        };
        let closed = || DrainError::EdgeEnded("it closed the connection".into());
        progress = next.map_err(ended)?.ok_or_else(closed)?;
        reporter.report(&progress);
        if progress.stage == Stage::Drained {
            return Ok(());
        }
    }
}
