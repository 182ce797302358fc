//! The stack that suffers, with everything that faults need around it. What is done to it lies in
//! `hand.rs`; what comes of it is judged elsewhere.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use super::clock::Clock;
use super::disks::{self, Disk};
use super::fleet::{Fleet, Sales};
use super::hand::{self, Around, Hand, Held};
use super::namespaces::Namespace;
use super::relay::{Mood, Packets, Streams, Way};
use super::scenario::{Fault, Scenario};
use super::toll::Toll;
use super::wrong_clock::EdgeClock;
use crate::clickhouse::Analyst;
use crate::interrupt::Interrupt;
use crate::stack::{Place, Stack, Wiring, wait_for_tables};
use crate::traffic::Random;
use crate::verify;

const EDGES: u16 = 2;
/// Journals small enough to be filled…
const SMALL: &str = "[journal]\nsegment_bytes = \"1MiB\"\nmax_bytes = \"4MiB\"\n";
/// …and those that only the disk bounds.
const UNBOUNDED: &str = "[journal]\nsegment_bytes = \"1MiB\"\nmax_bytes = \"1GiB\"\n";
/// Holds a small journal and the filters twice, which are saved beside those saved before.
const EDGES_DISK: u64 = 48 << 20;
const AGGREGATORS_DISK: u64 = 16 << 20;
const ENGINE_DISK: u64 = 512 << 20;
/// Less than it keeps free, so that it begins nothing, and enough to end what it began: ClickHouse 26.7 does not
/// see that the disk refuses the end of a file.
const LEFT_TO_ENGINE: u64 = 32 << 20;
/// Within what time of its start a process is killed again.
const STARTING: Duration = Duration::from_millis(60);
const ENGINE_STARTING: Duration = Duration::from_secs(1);

pub(super) struct Arena {
    pub(super) stack: Stack,
    /// What the scenario does and is possible here.
    faults: Vec<Fault>,
    /// What it would do but for what is missing here.
    pub(super) left_out: Vec<String>,
    packets: Packets,
    streams: Streams,
    clock: Option<Clock>,
    /// One for each edge.
    edge_clocks: Vec<Clock>,
    /// What simulated edges report.
    sales: Option<Sales>,
    /// Folders of programs: older and today's.
    programs: Option<[PathBuf; 2]>,
    // Last, so that nobody uses them any more.
    namespaces: Vec<Namespace>,
    disks: Disks,
}

/// Small disks, as far as the scenario needs them.
#[derive(Default)]
struct Disks {
    edges: Vec<Disk>,
    /// Each with the bytes that are left of it when it is full.
    central: Vec<(Disk, u64)>,
}

impl Disks {
    fn all(&self) -> impl Iterator<Item = &Disk> {
        let central = self.central.iter().map(|(disk, _)| disk);
        self.edges.iter().chain(central)
    }
}

impl Arena {
    pub(super) fn start(
        dir: &Path,
        scenario: Scenario,
        seed: u64,
        old: Option<&Path>,
    ) -> anyhow::Result<Self> {
        disks::sweep();
        let mut plan = Plan {
            scenario,
            faults: scenario.faults().to_vec(),
            left_out: Vec::new(),
        };
        let disks = Disks {
            edges: plan.prepare(&[Fault::EdgeDisk], "full disks", || edges_disks(dir))?,
            central: plan.prepare(&[Fault::CentralDisk], "full disks", || central_disks(dir))?,
        };
        let namespaces: Vec<_> = plan.prepare(&[Fault::Cable], "cables that are pulled", || {
            Namespace::are_possible()?;
            (1..=EDGES).map(|_| Namespace::make()).collect()
        })?;
        let clock = plan.prepare(&[Fault::Clock], "clocks that jump", || {
            Clock::make(dir.join("clock")).map(Some)
        })?;
        let edge_clocks: Vec<_> = plan.prepare(&[Fault::WrongClock], "wrong clocks", || {
            let clock = |node| Clock::make(dir.join(format!("clock-{node}/clock")));
            (1..=EDGES).map(clock).collect()
        })?;
        let swaps = [Fault::SwapEdge, Fault::SwapAggregator];
        let programs = plan.prepare(&swaps, "older programs", || {
            let old = old.context("name their folder: --old FOLDER")?;
            Ok(Some([old.to_owned(), folder_of_programs()?]))
        })?;
        let front = match namespaces.is_empty() {
            true => Ipv4Addr::LOCALHOST,
            false => Ipv4Addr::UNSPECIFIED,
        };
        let (packets, streams) = (Packets::listen(front, seed)?, Streams::listen()?);
        let wiring = Wiring {
            functions: false,
            function_files: None,
            shipping: Some(packets.port),
            engine: Some(streams.port),
            edge_settings: match scenario {
                Scenario::SpoolFull => SMALL.to_owned(),
                Scenario::DiskFull => UNBOUNDED.to_owned(),
                _ => String::new(),
            },
            aggregator_settings: String::new(),
            environment: clock.as_ref().map_or_else(Vec::new, Clock::environment),
            places: match edge_clocks.is_empty() {
                true => namespaces.iter().map(Namespace::place).collect(),
                false => edge_clocks.iter().map(place_of).collect(),
            },
        };
        let stack = Stack::start_wired(dir, EDGES, None, &wiring, |_| {})?;
        packets.lead_to(stack.aggregator_address);
        let engine = stack.clickhouse_url.trim_start_matches("http://");
        streams.lead_to(engine.parse().context("an address")?);
        if !disks.central.is_empty() {
            // ClickHouse 26.7 forgets what it is told to make just when its disk fills up.
            wait_for_tables(&stack.aggregator_admin_url, dir)?;
        }
        let sales = plan.faults.iter().any(|it| it.reports_sales()).then(|| {
            let dir = stack.dir();
            Sales::new(dir, stack.aggregator_address)
        });
        Ok(Self {
            sales: sales.transpose()?,
            edge_clocks,
            stack,
            faults: plan.faults,
            left_out: plan.left_out,
            packets,
            streams,
            clock,
            programs,
            namespaces,
            disks,
        })
    }

    /// Lets so many of the scenario's faults happen, several at a time as far as they do not concern the
    /// same thing, and then all end. What they did.
    pub(super) fn suffer(
        &mut self,
        faults: u32,
        seed: u64,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Toll> {
        let (over, cutting) = (AtomicBool::new(false), Mutex::new(()));
        let hands = self.hands(seed, (&over, &cutting), interrupt);
        let count = u32::try_from(hands.len())?;
        let suffered = thread::scope(|scope| {
            let shares =
                (0..count).map(|number| faults / count + u32::from(number < faults % count));
            let striking: Vec<_> = hands
                .into_iter()
                .zip(shares)
                .map(|(hand, share)| scope.spawn(move || hand.strike(share)))
                .collect();
            let struck = striking
                .into_iter()
                .map(|hand| hand.join().ok().context("a hand panicked")?);
            struck.collect::<Vec<anyhow::Result<Toll>>>()
        });
        let healed = self.heal();
        let toll = suffered.into_iter().sum::<anyhow::Result<Toll>>()?;
        healed.map(|()| toll)
    }

    fn hands<'a>(
        &'a mut self,
        seed: u64,
        (over, cutting): (&'a AtomicBool, &'a Mutex<()>),
        interrupt: &'a Interrupt,
    ) -> Vec<Hand<'a>> {
        if self.faults.iter().any(|it| it.concerns_the_fleet()) {
            return vec![Hand {
                held: Held::Fleet(Fleet {
                    stack: &mut self.stack,
                    sales: self.sales.as_mut(),
                    turn: 0,
                }),
                faults: self.faults.clone(),
                random: Random::new(seed),
                around: Around {
                    packets: &self.packets,
                    streams: &self.streams,
                    programs: None,
                    counting: &[],
                    cutting,
                    over,
                    interrupt,
                },
            }];
        }
        let Stack {
            edges,
            aggregator,
            engine,
            edge_admin_urls,
            ..
        } = &mut self.stack;
        let programs = self.programs.as_ref();
        let around = Around {
            packets: &self.packets,
            streams: &self.streams,
            programs: programs.map(|both| both.each_ref().map(PathBuf::as_path)),
            counting: edge_admin_urls,
            cutting,
            over,
            interrupt,
        };
        let mut holds: Vec<(Held<'a>, &[Fault])> = Vec::new();
        let mut clocks = self.edge_clocks.iter();
        for (edge, admin) in edges.iter_mut().zip(edge_admin_urls.iter()) {
            if let Some(clock) = clocks.next() {
                let edge = EdgeClock { clock, edge, admin };
                holds.push((Held::EdgeClock(edge), &[Fault::WrongClock]));
                continue;
            }
            let may = &[Fault::KillEdge, Fault::SwapEdge];
            holds.push((Held::Process(edge, STARTING), may));
        }
        let may = &[Fault::KillAggregator, Fault::SwapAggregator];
        holds.push((Held::Process(aggregator, STARTING), may));
        let may = &[Fault::KillEngine, Fault::EngineStops];
        holds.push((Held::Process(engine, ENGINE_STARTING), may));
        holds.push((Held::Packets, &[Fault::Packets, Fault::SpoolFull]));
        holds.push((Held::Answers, &[Fault::Answers]));
        for namespace in &self.namespaces {
            holds.push((Held::Cable(namespace), &[Fault::Cable]));
        }
        for (disk, edge) in self.disks.edges.iter().zip(edge_admin_urls.iter()) {
            holds.push((Held::EdgeDisk(disk, edge), &[Fault::EdgeDisk]));
        }
        for (disk, left) in &self.disks.central {
            holds.push((Held::CentralDisk(disk, *left), &[Fault::CentralDisk]));
        }
        if let Some(clock) = &self.clock {
            holds.push((Held::Clock(clock), &[Fault::Clock]));
        }
        let mut seeds = Random::new(seed);
        let possible = |may: &[Fault]| -> Vec<Fault> {
            let all = may.iter().copied();
            all.filter(|fault| self.faults.contains(fault)).collect()
        };
        holds
            .into_iter()
            .map(|(held, may)| Hand {
                held,
                faults: possible(may),
                random: Random::new(seeds.below(u64::MAX)),
                around,
            })
            .filter(|hand| !hand.faults.is_empty())
            .collect()
    }

    /// All faults end.
    fn heal(&self) -> anyhow::Result<()> {
        self.packets.set([Way::default(); 2]);
        self.streams.set(Mood::Pass);
        self.disks.all().for_each(Disk::free);
        let cables = self.namespaces.iter().try_for_each(Namespace::heal);
        let mut clocks = self.clock.iter().chain(&self.edge_clocks);
        cables.and(clocks.try_for_each(|clock| clock.set(0)))
    }

    /// Conversions that stand otherwise than their sorted reports say, once everything has arrived.
    pub(super) fn contradicted(&self, analyst: &Analyst) -> anyhow::Result<u64> {
        let sales = self.sales.as_ref();
        sales.map_or(Ok(0), |sales| sales.compare(analyst))
    }

    /// Events that the aggregator could not decode or store, since it started.
    pub(super) fn quarantined(&self) -> anyhow::Result<u64> {
        let admin = &self.stack.aggregator_admin_url;
        let name = "aggregator_quarantined_total";
        Ok(verify::labelled_counter(admin, name, "")? as u64)
    }

    /// What small disks hold goes with them.
    pub(super) fn forget_disks(&self) {
        self.disks.all().for_each(Disk::forget);
    }

    /// Events that edges answered and could not log, as they counted them. Tells all only when no
    /// edge was restarted.
    pub(super) fn lost(&self) -> anyhow::Result<u64> {
        hand::lost(&self.stack.edge_admin_urls)
    }
}

/// What a scenario does, less what is not possible here and not necessary.
struct Plan {
    scenario: Scenario,
    faults: Vec<Fault>,
    left_out: Vec<String>,
}

impl Plan {
    /// What `faults` need, if the scenario has them.
    fn prepare<T: Default>(
        &mut self,
        faults: &[Fault],
        what: &str,
        prepare: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if !faults.iter().any(|fault| self.faults.contains(fault)) {
            return Ok(T::default());
        }
        match prepare() {
            Err(error)
                if faults
                    .iter()
                    .all(|fault| self.scenario.can_do_without(*fault)) =>
            {
                self.faults.retain(|fault| !faults.contains(fault));
                self.left_out
                    .push(format!("{what} are left out: {error:#}"));
                Ok(T::default())
            }
            prepared => prepared,
        }
    }
}

/// Here, with a clock of its own.
fn place_of(clock: &Clock) -> Place {
    let variables = clock.environment().into_iter();
    let variables = variables.map(|(name, value)| format!("{name}={value}"));
    Place {
        starter: std::iter::once("env".to_owned()).chain(variables).collect(),
        ..Place::default()
    }
}

fn edges_disks(dir: &Path) -> anyhow::Result<Vec<Disk>> {
    let folder = |node| Disk::mount(&dir.join(format!("edge-{node}")), EDGES_DISK);
    (1..=EDGES).map(folder).collect()
}

fn central_disks(dir: &Path) -> anyhow::Result<Vec<(Disk, u64)>> {
    let aggregators = Disk::mount(&dir.join("aggregator"), AGGREGATORS_DISK)?;
    let engines = Disk::mount(&dir.join("clickhouse"), ENGINE_DISK)?;
    Ok(vec![(aggregators, 0), (engines, LEFT_TO_ENGINE)])
}

fn folder_of_programs() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    here.ancestors()
        .skip(1)
        .find(|folder| folder.join("edge-tracker").is_file())
        .map(Path::to_owned)
        .context("the programs lie beside this one")
}
