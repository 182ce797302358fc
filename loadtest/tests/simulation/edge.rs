//! An edge's process: its journal on a model disk, simulated visitors, and the shipper.

use crate::events::Events;
use crate::network::{Network, SimulatedDial};
use daemon::settings::{Bounded, ByteSize, HumanDuration};
use domain::NodeId;
use edge_tracker::metrics::Metrics;
use edge_tracker::settings::AggregatorSettings;
use edge_tracker::shipper::{Shipper, ShippingProgress, Spool, drain_channel};
use event_journal::{
    JournalIds, JournalMaintenance, LaneReader, LaneWriter, ManualJournal, Options, open_manual,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use storage::model::{ModelDisk, Random};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracking_events::FORMAT_VERSION;

const SYNC_INTERVAL: Duration = Duration::from_millis(500);
const FILTER_SAVE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) node: u16,
    pub(crate) lanes: u8,
    pub(crate) network: Network,
    pub(crate) events: Events,
    /// Visitors send clicks while this is true.
    pub(crate) open: watch::Receiver<bool>,
}

impl Edge {
    /// Runs until the task is aborted or the machine stops. `is_reliable` is true while no operation on `disk` has
    /// failed, so that a successful sync is reliable.
    pub(crate) async fn run(self, disk: ModelDisk, seed: u64, is_reliable: Arc<AtomicBool>) {
        let options = Options {
            dir: "/edge/journal".into(),
            lanes: self.lanes,
            format_version: FORMAT_VERSION,
            segment_bytes: 64 << 10,
            max_bytes: 64 << 20,
            sync_interval: SYNC_INTERVAL,
        };
        let Ok(journal) = open_manual(disk.clone(), &options) else {
            return;
        };
        let ManualJournal {
            writers,
            readers,
            ids,
            maintenance,
            ..
        } = journal;
        let released = readers.iter().map(|it| (it.lane(), it.released()));
        let progress = Arc::new(ShippingProgress::new(released));
        let mut tasks = JoinSet::new();
        tasks.spawn(
            self.clone()
                .maintain(maintenance, disk.clone(), is_reliable),
        );
        tasks.spawn(save_filters(progress.clone()));
        let (_stop, stopped) = watch::channel(false);
        tasks.spawn(self.shipper(ids, readers, progress).run(stopped));
        self.visitors(writers, &disk, Random::new(seed)).await;
    }

    fn shipper(
        &self,
        ids: JournalIds<ModelDisk>,
        readers: Vec<LaneReader<ModelDisk>>,
        progress: Arc<ShippingProgress>,
    ) -> Shipper<ModelDisk, SimulatedDial> {
        let settings = AggregatorSettings {
            address: String::new(),
            batch_bytes: Bounded::new(ByteSize(4_096)),
            batch_age: Bounded::new(HumanDuration(Duration::from_millis(100))),
        };
        let metrics = Metrics::new();
        let spool = Spool::new(ids, readers, progress, &settings, metrics.clone());
        Shipper {
            node: NodeId(self.node),
            dial: SimulatedDial {
                network: self.network.clone(),
                node: self.node,
            },
            spool: spool.expect("there is memory"),
            metrics,
            fleet: watch::Sender::new(None),
            drain: drain_channel().1,
        }
    }

    async fn visitors(
        &self,
        mut writers: Vec<LaneWriter<ModelDisk>>,
        disk: &ModelDisk,
        mut random: Random,
    ) {
        let mut open = self.open.clone();
        while !disk.has_stopped() {
            sleep(Duration::from_micros(random.below(160_000))).await;
            disk.advance(Duration::from_millis(80));
            if !*open.borrow_and_update() {
                continue;
            }
            for _ in 0..random.below(4) {
                let lane = random.below(u64::from(self.lanes)) as u8;
                let filler = if random.one_in(8) { 3_000 } else { 60 };
                let event = self
                    .events
                    .propose(self.node, lane, random.below(filler) as usize);
                let appended = writers[usize::from(lane)].append(event.bytes.len(), |room| {
                    room.copy_from_slice(&event.bytes);
                    Some(event.bytes.len())
                });
                if appended.is_ok() && !disk.has_stopped() {
                    self.events.accepted(event);
                }
            }
        }
    }

    async fn maintain(
        self,
        maintenance: JournalMaintenance<ModelDisk>,
        disk: ModelDisk,
        is_reliable: Arc<AtomicBool>,
    ) {
        loop {
            let accepted = self.events.count(self.node);
            maintenance.preallocate_segments();
            maintenance.sync(true);
            if is_reliable.load(Ordering::Relaxed) && !disk.has_stopped() {
                self.events.synced(self.node, accepted);
            }
            sleep(SYNC_INTERVAL).await;
        }
    }
}

/// Filters cover everything that was sealed; here only their saved position is modelled.
async fn save_filters(progress: Arc<ShippingProgress>) {
    loop {
        sleep(FILTER_SAVE_INTERVAL).await;
        progress.covered(&progress.sealed());
    }
}
