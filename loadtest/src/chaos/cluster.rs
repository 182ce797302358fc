//! The stack under test with its relays, disks, clocks and network namespaces. Faults are injected in
//! `injector.rs`; results are checked elsewhere.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use super::clock::Clock;
use super::context::{self, FaultContext};
use super::counts::FaultCounts;
use super::disks::{self, Disk};
use super::fleet::{Fleet, SimulatedSales};
use super::injector::{FaultInjector, FaultTarget};
use super::namespaces::Namespace;
use super::relay::{FaultMode, PacketFaults, TcpRelay, UdpRelay};
use super::scenario::{Fault, Scenario};
use super::wrong_clock::EdgeClock;
use crate::clickhouse::Analyst;
use crate::interrupt::Interrupt;
use crate::stack::{EdgeHost, Stack, StackOptions, wait_for_tables};
use crate::traffic::Random;
use crate::verify;

/// Journals small enough to be filled.
const SMALL_JOURNAL: &str = "[journal]\nsegment_bytes = \"1MiB\"\nmax_bytes = \"4MiB\"\n";
/// Journals limited only by the disk.
const LARGE_JOURNAL: &str = "[journal]\nsegment_bytes = \"1MiB\"\nmax_bytes = \"1GiB\"\n";
/// Holds a small journal and two copies of the filters: the new copy is written before the old one is deleted.
const EDGE_DISK_BYTES: u64 = 48 << 20;
const AGGREGATOR_DISK_BYTES: u64 = 16 << 20;
const ENGINE_DISK_BYTES: u64 = 512 << 20;
/// Below ClickHouse's reserve, so that it starts no new write, and enough to finish the current one: ClickHouse
/// 26.7 does not notice when the disk rejects the end of a file.
const ENGINE_FREE_BYTES: u64 = 32 << 20;
/// Maximum time after its start at which a process is killed again.
const STARTUP_KILL_WINDOW: Duration = Duration::from_millis(60);
const ENGINE_STARTUP_KILL_WINDOW: Duration = Duration::from_secs(1);

pub(super) struct FaultCluster {
    pub(super) stack: Stack,
    /// The scenario's faults that this machine supports.
    faults: Vec<Fault>,
    /// Descriptions of the faults that this machine does not support.
    pub(super) skipped: Vec<String>,
    udp_relay: UdpRelay,
    tcp_relay: TcpRelay,
    clock: Option<Clock>,
    /// One for each edge.
    edge_clocks: Vec<Clock>,
    /// Reports of simulated edges.
    sales: Option<SimulatedSales>,
    /// Directories of programs: the older build and the current one.
    programs: Option<[PathBuf; 2]>,
    // Dropped last, after all processes that use them.
    namespaces: Vec<Namespace>,
    disks: Disks,
}

/// Small disks that the scenario fills.
#[derive(Default)]
struct Disks {
    edges: Vec<Disk>,
    /// Each with the number of bytes that stay free when it is full.
    central: Vec<(Disk, u64)>,
}

impl Disks {
    fn all(&self) -> impl Iterator<Item = &Disk> {
        let central = self.central.iter().map(|(disk, _)| disk);
        self.edges.iter().chain(central)
    }
}

impl FaultCluster {
    pub(super) fn start(
        dir: &Path,
        scenario: Scenario,
        seed: u64,
        [old, new]: [Option<&Path>; 2],
    ) -> anyhow::Result<Self> {
        disks::unmount_stale();
        let edges = scenario.edges();
        let mut plan = FaultPlan {
            scenario,
            faults: scenario.faults().to_vec(),
            skipped: Vec::new(),
        };
        let disks = Disks {
            edges: plan.prepare(&[Fault::EdgeDisk], "full disks", || edge_disks(dir, edges))?,
            central: plan.prepare(&[Fault::CentralDisk], "full disks", || central_disks(dir))?,
        };
        let namespaces: Vec<_> = plan.prepare(&[Fault::Link], "broken network links", || {
            Namespace::ensure_supported()?;
            (1..=edges).map(|_| Namespace::make()).collect()
        })?;
        let clock = plan.prepare(&[Fault::Clock], "clock jumps", || {
            Clock::make(dir.join("clock")).map(Some)
        })?;
        let edge_clocks: Vec<_> = plan.prepare(&[Fault::WrongClock], "wrong clocks", || {
            let clock = |node| Clock::make(dir.join(format!("clock-{node}/clock")));
            (1..=edges).map(clock).collect()
        })?;
        let swaps = [Fault::SwapEdge, Fault::SwapAggregator];
        let programs = plan.prepare(&swaps, "older programs", || {
            let old = old.context("pass the directory of the older programs: --old DIR")?;
            let new = new.map_or_else(current_programs_dir, |new| Ok(new.to_owned()))?;
            Ok(Some([old.to_owned(), new]))
        })?;
        let front = match namespaces.is_empty() {
            true => Ipv4Addr::LOCALHOST,
            false => Ipv4Addr::UNSPECIFIED,
        };
        let (udp_relay, tcp_relay) = (UdpRelay::listen(front, seed)?, TcpRelay::listen()?);
        let options = StackOptions {
            functions: false,
            function_files: None,
            shipping: Some(udp_relay.port),
            engine: Some(tcp_relay.port),
            control_plane: false,
            edge_settings: match scenario {
                Scenario::SpoolFull => SMALL_JOURNAL.to_owned(),
                Scenario::DiskFull => LARGE_JOURNAL.to_owned(),
                _ => String::new(),
            },
            aggregator_settings: String::new(),
            environment: clock.as_ref().map_or_else(Vec::new, Clock::environment),
            hosts: match edge_clocks.is_empty() {
                true => namespaces.iter().map(Namespace::host).collect(),
                false => edge_clocks.iter().map(host_with_clock).collect(),
            },
        };
        let stack = Stack::start_with(dir, edges, None, &options, |_| {})?;
        udp_relay.set_target(stack.aggregator_address);
        let engine = stack.clickhouse_url.trim_start_matches("http://");
        tcp_relay.set_target(engine.parse().context("an address")?);
        if !disks.central.is_empty() {
            // ClickHouse 26.7 loses tables that are created while its disk fills up.
            wait_for_tables(&stack.aggregator_admin_url, dir)?;
        }
        let sales = plan.faults.iter().any(|it| it.reports_sales()).then(|| {
            let dir = stack.dir();
            SimulatedSales::new(dir, stack.aggregator_address)
        });
        Ok(Self {
            sales: sales.transpose()?,
            edge_clocks,
            stack,
            faults: plan.faults,
            skipped: plan.skipped,
            udp_relay,
            tcp_relay,
            clock,
            programs,
            namespaces,
            disks,
        })
    }

    /// Injects that many of the scenario's faults, concurrently on independent targets, ends them all and returns
    /// their counts.
    pub(super) fn run_faults(
        &mut self,
        faults: u32,
        seed: u64,
        interrupt: &Interrupt,
    ) -> anyhow::Result<FaultCounts> {
        let (is_aborted, exclusive) = (AtomicBool::new(false), Mutex::new(()));
        let injectors = self.injectors(seed, (&is_aborted, &exclusive), interrupt);
        let count = u32::try_from(injectors.len())?;
        let counts = thread::scope(|scope| {
            let shares =
                (0..count).map(|number| faults / count + u32::from(number < faults % count));
            let running: Vec<_> = injectors
                .into_iter()
                .zip(shares)
                .map(|(injector, share)| scope.spawn(move || injector.inject(share)))
                .collect();
            let injected = running
                .into_iter()
                .map(|injector| injector.join().ok().context("a fault injector panicked")?);
            injected.collect::<Vec<anyhow::Result<FaultCounts>>>()
        });
        let healed = self.heal();
        let counts = counts.into_iter().sum::<anyhow::Result<FaultCounts>>()?;
        healed.map(|()| counts)
    }

    fn injectors<'a>(
        &'a mut self,
        seed: u64,
        (is_aborted, exclusive): (&'a AtomicBool, &'a Mutex<()>),
        interrupt: &'a Interrupt,
    ) -> Vec<FaultInjector<'a>> {
        if self.faults.iter().any(|it| it.needs_whole_fleet()) {
            return vec![FaultInjector {
                target: FaultTarget::Fleet(Fleet {
                    stack: &mut self.stack,
                    sales: self.sales.as_mut(),
                    turn: 0,
                }),
                faults: self.faults.clone(),
                random: Random::new(seed),
                context: FaultContext {
                    udp_relay: &self.udp_relay,
                    tcp_relay: &self.tcp_relay,
                    programs: None,
                    admin_urls: &[],
                    exclusive,
                    is_aborted,
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
        let context = FaultContext {
            udp_relay: &self.udp_relay,
            tcp_relay: &self.tcp_relay,
            programs: programs.map(|both| both.each_ref().map(PathBuf::as_path)),
            admin_urls: edge_admin_urls,
            exclusive,
            is_aborted,
            interrupt,
        };
        let mut targets: Vec<(FaultTarget<'a>, &[Fault])> = Vec::new();
        let mut clocks = self.edge_clocks.iter();
        for (edge, admin) in edges.iter_mut().zip(edge_admin_urls.iter()) {
            if let Some(clock) = clocks.next() {
                let edge = EdgeClock { clock, edge, admin };
                targets.push((FaultTarget::EdgeClock(edge), &[Fault::WrongClock]));
                continue;
            }
            let allowed = &[Fault::KillEdge, Fault::SwapEdge];
            targets.push((FaultTarget::Process(edge, STARTUP_KILL_WINDOW), allowed));
        }
        let allowed = &[Fault::KillAggregator, Fault::SwapAggregator];
        targets.push((
            FaultTarget::Process(aggregator, STARTUP_KILL_WINDOW),
            allowed,
        ));
        let allowed = &[Fault::KillEngine, Fault::EngineStalls];
        targets.push((
            FaultTarget::Process(engine, ENGINE_STARTUP_KILL_WINDOW),
            allowed,
        ));
        targets.push((FaultTarget::Packets, &[Fault::Packets, Fault::SpoolFull]));
        targets.push((FaultTarget::Responses, &[Fault::Responses]));
        for namespace in &self.namespaces {
            targets.push((FaultTarget::Link(namespace), &[Fault::Link]));
        }
        for (disk, edge) in self.disks.edges.iter().zip(edge_admin_urls.iter()) {
            targets.push((FaultTarget::EdgeDisk(disk, edge), &[Fault::EdgeDisk]));
        }
        for (disk, left) in &self.disks.central {
            targets.push((FaultTarget::CentralDisk(disk, *left), &[Fault::CentralDisk]));
        }
        if let Some(clock) = &self.clock {
            targets.push((FaultTarget::Clock(clock), &[Fault::Clock]));
        }
        let mut seeds = Random::new(seed);
        let possible = |allowed: &[Fault]| -> Vec<Fault> {
            let all = allowed.iter().copied();
            all.filter(|fault| self.faults.contains(fault)).collect()
        };
        targets
            .into_iter()
            .map(|(target, allowed)| FaultInjector {
                target,
                faults: possible(allowed),
                random: Random::new(seeds.below(u64::MAX)),
                context,
            })
            .filter(|injector| !injector.faults.is_empty())
            .collect()
    }

    /// Ends all faults.
    fn heal(&self) -> anyhow::Result<()> {
        self.udp_relay.set([PacketFaults::default(); 2]);
        self.tcp_relay.set(FaultMode::Pass);
        self.disks.all().for_each(Disk::free);
        let links = self.namespaces.iter().try_for_each(Namespace::heal);
        let mut clocks = self.clock.iter().chain(&self.edge_clocks);
        links.and(clocks.try_for_each(|clock| clock.set(0)))
    }

    /// Conversions whose state differs from the result of their sorted reports, once everything has arrived.
    pub(super) fn contradicted(&self, analyst: &Analyst) -> anyhow::Result<u64> {
        let sales = self.sales.as_ref();
        sales.map_or(Ok(0), |sales| sales.compare(analyst))
    }

    /// Events that the aggregator could not decode or store since its start.
    pub(super) fn quarantined(&self) -> anyhow::Result<u64> {
        let admin = &self.stack.aggregator_admin_url;
        let name = "aggregator_quarantined_total";
        Ok(verify::labelled_counter(admin, name, "")? as u64)
    }

    /// The disks' contents are not copied when they are unmounted.
    pub(super) fn discard_disks(&self) {
        self.disks.all().for_each(Disk::discard);
    }

    /// Events that edges answered and could not journal, by their own counters. Complete only if no edge was
    /// restarted.
    pub(super) fn lost(&self) -> anyhow::Result<u64> {
        context::lost(&self.stack.edge_admin_urls)
    }
}

/// A scenario's faults, without those that this machine does not support and that are optional.
struct FaultPlan {
    scenario: Scenario,
    faults: Vec<Fault>,
    skipped: Vec<String>,
}

impl FaultPlan {
    /// Prepares the environment of `faults` if the scenario has them.
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
            Err(error) if faults.iter().all(|fault| self.scenario.is_optional(*fault)) => {
                self.faults.retain(|fault| !faults.contains(fault));
                self.skipped.push(format!("skipping {what}: {error:#}"));
                Ok(T::default())
            }
            prepared => prepared,
        }
    }
}

/// Loopback, with a clock of its own.
fn host_with_clock(clock: &Clock) -> EdgeHost {
    let variables = clock.environment().into_iter();
    let variables = variables.map(|(name, value)| format!("{name}={value}"));
    EdgeHost {
        starter: std::iter::once("env".to_owned()).chain(variables).collect(),
        ..EdgeHost::default()
    }
}

fn edge_disks(dir: &Path, edges: u16) -> anyhow::Result<Vec<Disk>> {
    let disk = |node| Disk::mount(&dir.join(format!("edge-{node}")), EDGE_DISK_BYTES);
    (1..=edges).map(disk).collect()
}

fn central_disks(dir: &Path) -> anyhow::Result<Vec<(Disk, u64)>> {
    let aggregator = Disk::mount(&dir.join("aggregator"), AGGREGATOR_DISK_BYTES)?;
    let engine = Disk::mount(&dir.join("clickhouse"), ENGINE_DISK_BYTES)?;
    Ok(vec![(aggregator, 0), (engine, ENGINE_FREE_BYTES)])
}

fn current_programs_dir() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    here.ancestors()
        .skip(1)
        .find(|dir| dir.join("edge-tracker").is_file())
        .map(Path::to_owned)
        .context("edge-tracker is not in a directory above this program")
}
