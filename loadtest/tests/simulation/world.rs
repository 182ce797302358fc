//! Injects faults as a seed determines, ends them, and then checks that every accepted event is in the table.

use crate::aggregator;
use crate::database::{self, DatabaseFaults, Inserts};
use crate::edge::Edge;
use crate::events::Events;
use crate::network::Network;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use storage::model::{Fault, Loss, ModelDisk, Random};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const EDGES: u16 = 2;
/// How long faults are injected.
const FAULT_DURATION: Duration = Duration::from_secs(8);
/// Maximum time until all events have arrived once faults have ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(120);
/// Waiting time in which duplicates would arrive.
const QUIET_PERIOD: Duration = Duration::from_secs(10);

/// Counts of events during a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FaultStats {
    pub(crate) events: u64,
    pub(crate) connections: u64,
    pub(crate) crashes: u64,
    pub(crate) power_cuts: u64,
    pub(crate) partitions: u64,
    pub(crate) breaks: u64,
    pub(crate) disk_faults: u64,
    pub(crate) inserts: Inserts,
}

impl FaultStats {
    pub(crate) const fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.connections += other.connections;
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.partitions += other.partitions;
        self.breaks += other.breaks;
        self.disk_faults += other.disk_faults;
        self.inserts.accepted += other.inserts.accepted;
        self.inserts.deduplicated += other.inserts.deduplicated;
        self.inserts.failed_before += other.inserts.failed_before;
        self.inserts.failed_midway += other.inserts.failed_midway;
        self.inserts.failed_after += other.inserts.failed_after;
        self.inserts.late += other.inserts.late;
    }

    pub(crate) const fn covers_all_faults(&self) -> bool {
        let faults = [
            self.crashes,
            self.power_cuts,
            self.partitions,
            self.breaks,
            self.disk_faults,
        ];
        let it = &self.inserts;
        let inserts = [
            it.deduplicated,
            it.failed_before,
            it.failed_midway,
            it.failed_after,
            it.late,
        ];
        let mut at = 0;
        while at < 5 {
            if faults[at] == 0 || inserts[at] == 0 {
                return false;
            }
            at += 1;
        }
        true
    }
}

/// Runs the simulation of `seed`; with `verbose` each fault is printed.
pub(crate) fn run(seed: u64, verbose: bool) -> FaultStats {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("runtime");
    runtime.block_on(async { Simulation::new(seed, verbose).run_to_end().await })
}

/// A process and its disk.
struct Process {
    disk: ModelDisk,
    task: JoinHandle<()>,
    /// Whether its disk never failed, apart from stopping.
    is_reliable: Arc<AtomicBool>,
}

impl Process {
    fn new(
        disk: ModelDisk,
        is_reliable: Arc<AtomicBool>,
        run: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self {
            disk,
            task: tokio::spawn(run),
            is_reliable,
        }
    }

    fn fail(&self, fault: Fault, operations: u64) {
        self.is_reliable
            .fetch_and(fault == Fault::Stop, Ordering::Relaxed);
        self.disk
            .inject_fault_at(self.disk.operations() + operations, fault);
    }
}

struct Simulation {
    random: Random,
    verbose: bool,
    started: Instant,
    network: Network,
    database: database::Model,
    events: Events,
    open: watch::Sender<bool>,
    edges: Vec<Process>,
    aggregator: Process,
    stats: FaultStats,
}

impl Simulation {
    fn new(seed: u64, verbose: bool) -> Self {
        let mut random = Random::new(seed);
        let network = Network::new(random.next(), EDGES);
        let database = database::Model::new(random.next());
        let disk = ModelDisk::new(random.next());
        let running = aggregator::run(disk.clone(), network.clone(), database.clone());
        let mut simulation = Self {
            verbose,
            started: Instant::now(),
            network,
            database,
            events: Events::new(),
            open: watch::Sender::new(true),
            edges: Vec::new(),
            aggregator: Process::new(disk, Arc::default(), running),
            stats: FaultStats::default(),
            random,
        };
        for node in 1..=EDGES {
            let disk = ModelDisk::new(simulation.random.next());
            let edge = simulation.start_edge(node, disk);
            simulation.edges.push(edge);
        }
        simulation
    }

    async fn run_to_end(mut self) -> FaultStats {
        while self.started.elapsed() < FAULT_DURATION {
            let pause = self.random.below(300);
            sleep(Duration::from_millis(pause)).await;
            self.inject_fault();
            self.restart_stopped();
        }
        self.heal();
        let healed = Instant::now();
        while !self.database.with_rows(|rows| self.events.all_in(rows)) {
            if healed.elapsed() > DRAIN_TIMEOUT {
                self.database.with_rows(|rows| self.events.check(rows));
                unreachable!("events are missing, so the check fails");
            }
            sleep(Duration::from_millis(100)).await;
            self.restart_stopped();
        }
        sleep(QUIET_PERIOD).await;
        self.database.with_rows(|rows| self.events.check(rows));
        self.stats.events = self.events.all();
        self.stats.connections = self.network.connections();
        self.stats.inserts = self.database.inserts();
        self.stats
    }

    fn inject_fault(&mut self) {
        let node = 1 + self.random.below(u64::from(EDGES)) as u16;
        match self.random.below(16) {
            0 => self.restart_edge(node),
            1 => self.restart_aggregator(),
            2 | 3 => {
                let (up_cut, down_cut) = (self.random.one_in(2), self.random.one_in(2));
                self.log(&format!("edge {node}: cut up {up_cut}, down {down_cut}"));
                self.stats.partitions += u64::from(up_cut || down_cut);
                self.network.change(node, |link| {
                    (link.up_cut, link.down_cut) = (up_cut, down_cut);
                });
            }
            4 => {
                self.log(&format!("edge {node}: connections break"));
                self.stats.breaks += 1;
                self.network.change(node, |link| link.break_count += 1);
            }
            5 => {
                let max_delay = Duration::from_millis(self.random.below(400));
                self.log(&format!("edge {node}: up to {max_delay:?} late"));
                self.network.change(node, |link| link.max_delay = max_delay);
            }
            6 | 7 => {
                let faults = DatabaseFaults {
                    is_down: self.random.one_in(4),
                    failure_percent: [0, 20, 60, 100][self.random.below(4) as usize],
                    max_delay: Duration::from_millis(self.random.below(1_500)),
                };
                self.log(&format!("database: {faults:?}"));
                self.database.set(faults);
            }
            8 | 9 => {
                let is_edge = self.random.one_in(2);
                let operations = self.random.below(20);
                let fault =
                    [Fault::Stop, Fault::NoSpace, Fault::IoError][self.random.below(3) as usize];
                let process = match is_edge {
                    true => &self.edges[usize::from(node - 1)],
                    false => &self.aggregator,
                };
                process.fail(fault, operations);
                self.stats.disk_faults += 1;
                let target = if is_edge {
                    format!("edge {node}")
                } else {
                    "aggregator".into()
                };
                self.log(&format!(
                    "{target}: disk {fault:?} in {operations} operations"
                ));
            }
            _ => {}
        }
    }

    /// Ends all faults and stops new visitors.
    fn heal(&mut self) {
        self.log("all faults end");
        self.open.send_replace(false);
        for node in 1..=EDGES {
            self.network.change(node, |link| {
                (link.up_cut, link.down_cut) = (false, false);
                link.max_delay = Duration::from_millis(5);
            });
        }
        self.database.set(DatabaseFaults {
            max_delay: Duration::from_millis(20),
            ..DatabaseFaults::default()
        });
    }

    fn restart_stopped(&mut self) {
        if self.aggregator.task.is_finished() {
            self.restart_aggregator();
        }
        for node in 1..=EDGES {
            if self.edges[usize::from(node - 1)].task.is_finished() {
                self.restart_edge(node);
            }
        }
    }

    fn restart_aggregator(&mut self) {
        let power = self.random.one_in(3);
        self.log(&format!("aggregator restarts, power loss {power}"));
        let disk = self.next_disk(&self.aggregator.disk.clone(), power);
        self.aggregator.task.abort();
        let running = aggregator::run(disk.clone(), self.network.clone(), self.database.clone());
        self.aggregator = Process::new(disk, Arc::default(), running);
    }

    fn restart_edge(&mut self, node: u16) {
        let power = self.random.one_in(3);
        self.log(&format!("edge {node} restarts, power loss {power}"));
        let at = usize::from(node - 1);
        let disk = self.next_disk(&self.edges[at].disk.clone(), power);
        if power {
            self.events.power_failed(node);
        }
        self.edges[at].task.abort();
        self.edges[at] = self.start_edge(node, disk);
    }

    /// The disk of the next process. The previous one may run for a moment longer, but can't change it.
    fn next_disk(&mut self, disk: &ModelDisk, power: bool) -> ModelDisk {
        if !power {
            self.stats.crashes += 1;
            let next_disk = disk.after_crash();
            disk.stop();
            return next_disk;
        }
        self.stats.power_cuts += 1;
        let loss = match self.random.below(4) {
            0 => Loss::Everything,
            1 => Loss::Nothing,
            _ => Loss::Random(self.random.next()),
        };
        let next_disk = disk.after_power_loss(loss);
        disk.stop();
        next_disk
    }

    fn start_edge(&mut self, node: u16, disk: ModelDisk) -> Process {
        let edge = Edge {
            node,
            lanes: node as u8,
            network: self.network.clone(),
            events: self.events.clone(),
            open: self.open.subscribe(),
        };
        let is_reliable = Arc::new(AtomicBool::new(true));
        let running = edge.run(disk.clone(), self.random.next(), is_reliable.clone());
        Process::new(disk, is_reliable, running)
    }

    fn log(&self, what: &str) {
        if self.verbose {
            println!("{:>10.3} s  {what}", self.started.elapsed().as_secs_f64());
        }
    }
}
