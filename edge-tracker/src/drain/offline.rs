//! Ships the journal of an edge that does not run, under the identity of its node. Nothing is written to the journal
//! except what was acknowledged, and no unique-visit filter is touched: an edge that starts on the directory later
//! finds both as a killed edge left them.

use super::error::{DrainError, OFFLINE_NEXT};
use super::report::Reporter;
use super::{Progress, Stage, control::ControlClient};
use crate::data_dir::{EDGE_DIRECTORY, log_recovery};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::shipper::{
    Certificates, DrainControl, Quic, Shipper, ShippingProgress, Spool, drain_channel,
};
use anyhow::{Context as _, bail};
use domain::NodeId;
use event_journal::{LaneReader, ManualJournal, OpenError, Options, open_manual};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use storage::Disk;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};
use tracking_events::FORMAT_VERSION;

/// Nothing is appended, so that no segment is created.
const UNUSED_SEGMENT_BYTES: u32 = 1 << 20;

/// Ships everything in `settings.data_dir`, and returns once it was acknowledged.
pub(super) async fn ship(
    settings: &Settings,
    timeout: Option<Duration>,
    reporter: &mut Reporter,
) -> Result<(), DrainError> {
    let node = owner(&settings.data_dir, settings.node.get())?;
    let metrics = Metrics::new();
    let tls_dir = settings.tls_dir();
    let development = settings.tls.development;
    let certificates = Certificates::open(&tls_dir, node, development, metrics.clone())
        .map_err(anyhow::Error::from)
        .with_context(|| format!("the journal is one of node {}", node.0))?;
    let ManualJournal {
        readers,
        ids,
        recovery,
        ..
    } = open_journal(&settings.data_dir)?;
    log_recovery(&recovery);
    // Without saved filters nothing is released: see above.
    let lanes = readers.iter().map(LaneReader::lane);
    let progress = Arc::new(ShippingProgress::new(lanes.map(|lane| (lane, 0))));
    let (control, drain) = drain_channel();
    control.request();
    let aggregator = &settings.aggregator;
    let shipper = Shipper {
        node,
        dial: Quic::new(aggregator.address.clone(), certificates.credentials())
            .context("no UDP socket for the connection to the aggregator")?,
        spool: Spool::new(ids, readers, progress, aggregator, metrics.clone())
            .context("no memory for batches")?,
        metrics,
        fleet: watch::channel(None).0,
        drain,
    };
    let (stop, stopped) = watch::channel(false);
    let certificates = spawn_local(certificates.run(stopped.clone()));
    let shipper = spawn_local(shipper.run(stopped));
    let outcome = follow(&control, timeout, reporter).await;
    stop.send_replace(true);
    let ended = shipper.await.and(certificates.await);
    ended.context("a task panicked")?;
    outcome
}

/// Reports the progress until nothing remains.
async fn follow(
    control: &DrainControl,
    timeout: Option<Duration>,
    reporter: &mut Reporter,
) -> Result<(), DrainError> {
    let mut remaining = control.remaining();
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let expired = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let ended = async {
        tokio::select! {
            () = expired => {}
            _ = daemon::signals::shutdown_signal() => {}
        }
    };
    tokio::pin!(ended);
    let mut progress = Progress::at(Stage::Shipping);
    loop {
        tokio::select! {
            biased;
            changed = remaining.changed() => {
                changed.context("shipping ended early; see the log")?;
                if let Some(remaining) = &*remaining.borrow_and_update() {
                    progress = Progress::from(remaining);
                }
                reporter.report(&progress);
                if progress.stage == Stage::Drained {
                    return Ok(());
                }
            }
            () = &mut ended => return Err(DrainError::EventsLeft {
                events: progress.events,
                bytes: progress.bytes,
                problem: progress.problem,
                next: OFFLINE_NEXT,
            }),
        }
    }
}

/// The node whose events are in `dir`; `configured` where an earlier build left no record.
fn owner(dir: &Path, configured: u16) -> anyhow::Result<NodeId> {
    require_journal(dir)?;
    let recorded = EDGE_DIRECTORY.read(dir)?.and_then(|recorded| recorded.node);
    Ok(NodeId(recorded.unwrap_or(configured)))
}

fn require_journal(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    let metadata = std::fs::metadata(dir).with_context(|| shown.to_string())?;
    if !metadata.is_dir() {
        bail!("{shown} is not a directory; name the data directory of an edge");
    }
    let holds = |dir: &Path| dir.join("spool.id").try_exists();
    if holds(dir).with_context(|| shown.to_string())? {
        bail!("{shown} is a journal itself; name the directory above it");
    }
    if !holds(&dir.join("journal")).with_context(|| shown.to_string())? {
        bail!(
            "{shown} is not the data directory of an edge: {shown}/journal/spool.id does not exist"
        );
    }
    Ok(())
}

fn open_journal(data_dir: &Path) -> Result<ManualJournal<Disk>, DrainError> {
    let options = Options {
        dir: data_dir.join("journal"),
        lanes: 0,
        format_version: FORMAT_VERSION,
        segment_bytes: UNUSED_SEGMENT_BYTES,
        max_bytes: u64::MAX,
        sync_interval: Duration::ZERO,
    };
    open_manual(Disk, &options).map_err(|error| match error {
        OpenError::InUse(_) => DrainError::InUse(data_dir.to_owned()),
        other => DrainError::Unusable(other.into()),
    })
}

/// Whether an edge runs on `dir` and listens.
pub(super) async fn is_running(dir: &Path) -> bool {
    matches!(ControlClient::connect(dir).await, Ok(Some(_)))
}
