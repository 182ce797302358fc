//! What happens to whom and when, as a seed has it; then everything heals, and what was accepted must
//! be in the table.

use crate::centre;
use crate::database::{self, Inserts, Mood};
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
/// Faults go on for so long.
const TROUBLE: Duration = Duration::from_secs(8);
/// Once they have ended, everything must have arrived after so long.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);
/// What comes twice comes within this.
const QUIET: Duration = Duration::from_secs(10);

/// What a seed brought about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Story {
    pub(crate) events: u64,
    pub(crate) connections: u64,
    pub(crate) crashes: u64,
    pub(crate) power_cuts: u64,
    pub(crate) partitions: u64,
    pub(crate) breaks: u64,
    pub(crate) disk_faults: u64,
    pub(crate) inserts: Inserts,
}

impl Story {
    pub(crate) const fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.connections += other.connections;
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.partitions += other.partitions;
        self.breaks += other.breaks;
        self.disk_faults += other.disk_faults;
        self.inserts.taken += other.inserts.taken;
        self.inserts.repeated += other.inserts.repeated;
        self.inserts.failed_before += other.inserts.failed_before;
        self.inserts.failed_amid += other.inserts.failed_amid;
        self.inserts.failed_after += other.inserts.failed_after;
        self.inserts.late += other.inserts.late;
    }

    pub(crate) const fn every_kind_happened(&self) -> bool {
        let faults = [
            self.crashes,
            self.power_cuts,
            self.partitions,
            self.breaks,
            self.disk_faults,
        ];
        let it = &self.inserts;
        let inserts = [
            it.repeated,
            it.failed_before,
            it.failed_amid,
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

/// Runs what follows from `seed`; with `told` each fault is printed.
pub(crate) fn run(seed: u64, told: bool) -> Story {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async { World::new(seed, told).live().await })
}

/// A process and the disk it has.
struct Process {
    disk: ModelDisk,
    task: JoinHandle<()>,
    /// Whether its disk never failed but by stopping.
    sound: Arc<AtomicBool>,
}

impl Process {
    fn new(
        disk: ModelDisk,
        sound: Arc<AtomicBool>,
        run: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self {
            disk,
            task: tokio::spawn(run),
            sound,
        }
    }

    fn fail(&self, fault: Fault, after: u64) {
        self.sound
            .fetch_and(fault == Fault::Stop, Ordering::Relaxed);
        self.disk
            .inject_fault_at(self.disk.operations() + after, fault);
    }
}

struct World {
    random: Random,
    told: bool,
    began: Instant,
    network: Network,
    database: database::Model,
    events: Events,
    open: watch::Sender<bool>,
    edges: Vec<Process>,
    aggregator: Process,
    story: Story,
}

impl World {
    fn new(seed: u64, told: bool) -> Self {
        let mut random = Random::new(seed);
        let network = Network::new(random.next(), EDGES);
        let database = database::Model::new(random.next());
        let disk = ModelDisk::new(random.next());
        let running = centre::run(disk.clone(), network.clone(), database.clone());
        let mut world = Self {
            told,
            began: Instant::now(),
            network,
            database,
            events: Events::new(),
            open: watch::Sender::new(true),
            edges: Vec::new(),
            aggregator: Process::new(disk, Arc::default(), running),
            story: Story::default(),
            random,
        };
        for node in 1..=EDGES {
            let disk = ModelDisk::new(world.random.next());
            let edge = world.start_edge(node, disk);
            world.edges.push(edge);
        }
        world
    }

    async fn live(mut self) -> Story {
        while self.began.elapsed() < TROUBLE {
            let pause = self.random.below(300);
            sleep(Duration::from_millis(pause)).await;
            self.something_happens();
            self.restart_stopped();
        }
        self.heal();
        let healed = Instant::now();
        while !self.database.with_rows(|rows| self.events.all_in(rows)) {
            if healed.elapsed() > DRAINED_WITHIN {
                self.database.with_rows(|rows| self.events.check(rows));
                unreachable!("not all is there, so the check fails");
            }
            sleep(Duration::from_millis(100)).await;
            self.restart_stopped();
        }
        sleep(QUIET).await;
        self.database.with_rows(|rows| self.events.check(rows));
        self.story.events = self.events.all();
        self.story.connections = self.network.connections();
        self.story.inserts = self.database.inserts();
        self.story
    }

    fn something_happens(&mut self) {
        let node = 1 + self.random.below(u64::from(EDGES)) as u16;
        match self.random.below(16) {
            0 => self.restart_edge(node),
            1 => self.restart_aggregator(),
            2 | 3 => {
                let (up_cut, down_cut) = (self.random.one_in(2), self.random.one_in(2));
                self.tell(&format!("edge {node}: cut up {up_cut}, down {down_cut}"));
                self.story.partitions += u64::from(up_cut || down_cut);
                self.network.change(node, |way| {
                    (way.up_cut, way.down_cut) = (up_cut, down_cut);
                });
            }
            4 => {
                self.tell(&format!("edge {node}: connections break"));
                self.story.breaks += 1;
                self.network.change(node, |way| way.broken += 1);
            }
            5 => {
                let slow = Duration::from_millis(self.random.below(400));
                self.tell(&format!("edge {node}: up to {slow:?} late"));
                self.network.change(node, |way| way.slow = slow);
            }
            6 | 7 => {
                let mood = Mood {
                    down: self.random.one_in(4),
                    failing: [0, 20, 60, 100][self.random.below(4) as usize],
                    slow: Duration::from_millis(self.random.below(1_500)),
                };
                self.tell(&format!("database: {mood:?}"));
                self.database.set(mood);
            }
            8 | 9 => {
                let of_edge = self.random.one_in(2);
                let after = self.random.below(20);
                let fault =
                    [Fault::Stop, Fault::NoSpace, Fault::IoError][self.random.below(3) as usize];
                let process = match of_edge {
                    true => &self.edges[usize::from(node - 1)],
                    false => &self.aggregator,
                };
                process.fail(fault, after);
                self.story.disk_faults += 1;
                let whose = if of_edge {
                    format!("edge {node}")
                } else {
                    "aggregator".into()
                };
                self.tell(&format!("{whose}: disk {fault:?} in {after} operations"));
            }
            _ => {}
        }
    }

    /// All faults end, and no new visitors come.
    fn heal(&mut self) {
        self.tell("all is well again");
        self.open.send_replace(false);
        for node in 1..=EDGES {
            self.network.change(node, |way| {
                (way.up_cut, way.down_cut) = (false, false);
                way.slow = Duration::from_millis(5);
            });
        }
        self.database.set(Mood {
            slow: Duration::from_millis(20),
            ..Mood::default()
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
        self.tell(&format!("aggregator dies, power cut {power}"));
        let disk = self.after(&self.aggregator.disk.clone(), power);
        self.aggregator.task.abort();
        let running = centre::run(disk.clone(), self.network.clone(), self.database.clone());
        self.aggregator = Process::new(disk, Arc::default(), running);
    }

    fn restart_edge(&mut self, node: u16) {
        let power = self.random.one_in(3);
        self.tell(&format!("edge {node} dies, power cut {power}"));
        let at = usize::from(node - 1);
        let disk = self.after(&self.edges[at].disk.clone(), power);
        if power {
            self.events.power_failed(node);
        }
        self.edges[at].task.abort();
        self.edges[at] = self.start_edge(node, disk);
    }

    /// What the next process finds. The one before may live on for a moment, but changes nothing any
    /// more.
    fn after(&mut self, disk: &ModelDisk, power: bool) -> ModelDisk {
        if !power {
            self.story.crashes += 1;
            let after = disk.after_crash();
            disk.stop();
            return after;
        }
        self.story.power_cuts += 1;
        let loss = match self.random.below(4) {
            0 => Loss::Everything,
            1 => Loss::Nothing,
            _ => Loss::Random(self.random.next()),
        };
        let after = disk.after_power_loss(loss);
        disk.stop();
        after
    }

    fn start_edge(&mut self, node: u16, disk: ModelDisk) -> Process {
        let edge = Edge {
            node,
            lanes: node as u8,
            network: self.network.clone(),
            events: self.events.clone(),
            open: self.open.subscribe(),
        };
        let sound = Arc::new(AtomicBool::new(true));
        let running = edge.run(disk.clone(), self.random.next(), sound.clone());
        Process::new(disk, sound, running)
    }

    fn tell(&self, what: &str) {
        if self.told {
            println!("{:>10.3} s  {what}", self.began.elapsed().as_secs_f64());
        }
    }
}
