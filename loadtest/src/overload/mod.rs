//! Loads an edge beyond its capacity: too many visitors, slow readers and writers, many idle connections. The
//! clients' results are compared with the edge's counters and journal. Invariant: no knowledge of the edge's
//! overload handling.

mod edge;
mod machine;
mod report;
mod swarm;
mod visitors;

use crate::bench::machine::Cores;
use crate::interrupt::Interrupt;
use anyhow::{Context as _, ensure};
use edge::{Counted, Edge, Setup};
use machine::Neighbour;
use report::{Held, Phase};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use swarm::{ClientBehavior, ConnectionSwarm};
use visitors::Visitors;

/// Offered load as a multiple of the capacity.
const LOAD_FACTORS: [f64; 2] = [2.0, 10.0];
/// File descriptors for everything except connections of one kind.
const SPARE_FDS: u64 = 8_192;
/// Concurrent connections while the capacity is measured.
const CAPACITY_CONNECTIONS: usize = 64;
/// Connection limit of the overloaded edge.
const MAX_CONNECTIONS: usize = 1_024;
/// Maximum time for responses after the last visitor: longer than four SYN retries.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Allowed growth of the edge's memory, apart from its connections: caches and buffers.
const MEMORY_ALLOWANCE_BYTES: u64 = 48 << 20;

/// Options of the run.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Duration of each phase in seconds.
    #[arg(long, default_value_t = 8.0)]
    pub seconds: f64,
    /// Number of idle connections.
    #[arg(long, default_value_t = 50_000)]
    pub idle: usize,
    /// Visitors per second while connections are held.
    #[arg(long, default_value_t = 2_000.0)]
    pub rate: f64,
    /// Seed of the visitors.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Directory of the edge's files.
    #[arg(long, value_name = "DIR", default_value = "target/overload")]
    pub out: PathBuf,
}

/// A phase before its start.
struct Plan {
    name: &'static str,
    what: String,
    setup: Setup,
    /// Visitors per second; 0 for none.
    rate: f64,
    /// Held connections: their behavior and number.
    swarm: Option<(ClientBehavior, usize)>,
    /// Whether the memory per connection is measured.
    measure: bool,
}

struct Trial<'o> {
    options: &'o Options,
    /// Connections that a process can have.
    room: usize,
    cores: Cores,
    interrupt: Interrupt,
}

/// Runs all phases, prints the results and, as the last line, a JSON object.
///
/// # Errors
/// If a count differs, memory exceeds its bound, an answered redirect was not logged, or the run can't be set up.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let wanted = options.idle as u64 * 2 + SPARE_FDS;
    let descriptors = machine::allow_descriptors(wanted, 2 * SPARE_FDS)?;
    let trial = Trial {
        options,
        room: (descriptors - SPARE_FDS) as usize,
        cores: Cores::find()?,
        interrupt: Interrupt::listen()?,
    };
    println!(
        "seed {}, {descriptors} open files allowed to each process",
        options.seed
    );
    let capacity = trial.capacity()?;
    println!(
        "capacity: {capacity:.0} visitors a second, each with a connection of its own, on a small \
         share of a core; a neighbour takes the rest"
    );
    let (mut phases, mut faults) = (Vec::new(), Vec::new());
    for plan in plans(options, trial.room, capacity) {
        let phase = trial.phase(&plan).with_context(|| plan.what.clone())?;
        println!("\n{}\n{}", phase.what, phase.table());
        for fault in phase.faults() {
            println!("FAULT: {fault}");
            faults.push(format!("{}: {fault}", phase.name));
        }
        phases.push(phase);
    }
    println!(
        "\n{}",
        serde_json::json!({"capacity": capacity, "phases": phases, "faults": faults})
    );
    ensure!(faults.is_empty(), "{} faults, listed above", faults.len());
    Ok(())
}

fn plans(options: &Options, most: usize, capacity: f64) -> Vec<Plan> {
    let nice = Setup {
        connections: MAX_CONNECTIONS,
        header_timeout: 30,
        nice: true,
    };
    let roomy = |connections, header_timeout| Setup {
        connections,
        header_timeout,
        nice: false,
    };
    let over = |name, times: f64| Plan {
        name,
        what: format!(
            "{times:.0} times the capacity: {:.0} visitors per second, {MAX_CONNECTIONS} connections",
            capacity * times
        ),
        setup: nice,
        rate: capacity * times,
        swarm: None,
        measure: false,
    };
    let held = |name, what: &str, behavior, count, setup, rate| Plan {
        name,
        what: format!("{count} {what}, {rate:.0} visitors per second"),
        setup,
        rate,
        swarm: Some((behavior, count)),
        measure: rate == 0.0,
    };
    let rate = options.rate;
    let room = (options.idle * 9 / 10).min(most);
    let few = (options.idle / 10).min(4_000);
    vec![
        over("2x", LOAD_FACTORS[0]),
        over("10x", LOAD_FACTORS[1]),
        held(
            "slow readers",
            "connections that read a byte at intervals",
            ClientBehavior::SlowReader,
            256,
            roomy(MAX_CONNECTIONS, 30),
            rate,
        ),
        held(
            "slow writers",
            "connections that write a byte at intervals, closed after 3 s",
            ClientBehavior::SlowWriter,
            few,
            roomy(few + MAX_CONNECTIONS, 3),
            rate,
        ),
        held(
            "silent",
            "connections that never send a byte",
            ClientBehavior::Silent,
            few,
            roomy(few, 60),
            0.0,
        ),
        held(
            "HTTP/1.1",
            "connections idle after a click",
            ClientBehavior::Idle,
            few,
            roomy(few, 60),
            0.0,
        ),
        held(
            "HTTP/2",
            "connections idle after an HTTP/2 preface",
            ClientBehavior::Http2,
            few,
            roomy(few, 60),
            0.0,
        ),
        held(
            "idle crowd",
            &format!("connections, each idle after a click, above the limit of {room}"),
            ClientBehavior::Idle,
            options.idle,
            roomy(room, 60),
            rate,
        ),
    ]
}

impl Trial<'_> {
    fn start(&self, setup: Setup) -> anyhow::Result<(Edge, Option<Neighbour>)> {
        let edge = Edge::start(&self.options.out.join("edge"), setup, self.cores)?;
        let neighbour = setup.nice.then(|| Neighbour::start(self.cores));
        Ok((edge, neighbour.transpose()?))
    }

    /// Maximum number of visitors per second that an edge with a small share of a core serves.
    fn capacity(&self) -> anyhow::Result<f64> {
        let setup = Setup {
            connections: MAX_CONNECTIONS,
            header_timeout: 30,
            nice: true,
        };
        let (edge, _neighbour) = self.start(setup)?;
        let mut visitors = Visitors::new(edge.address, self.options.seed, self.room)?;
        let mut turn = |seconds: f64| {
            let until = Instant::now() + Duration::from_secs_f64(seconds);
            while Instant::now() < until {
                self.interrupt.check()?;
                visitors.keep_up(CAPACITY_CONNECTIONS)?;
            }
            anyhow::Ok(visitors.tally.redirects + visitors.tally.pixels)
        };
        let (before, started) = (turn(1.0)?, Instant::now());
        let after = turn(self.options.seconds / 2.0)?;
        let capacity = (after - before) as f64 / started.elapsed().as_secs_f64();
        ensure!(capacity > 0.0, "the edge answered no visitor");
        Ok(capacity)
    }

    fn phase(&self, plan: &Plan) -> anyhow::Result<Phase> {
        let (edge, neighbour) = self.start(plan.setup)?;
        let most = plan.swarm.map_or(self.room, |_| SPARE_FDS as usize / 2);
        let mut visitors = Visitors::new(edge.address, self.options.seed, most)?;
        let swarm = plan
            .swarm
            .map(|(behavior, _)| ConnectionSwarm::new(behavior, edge.address));
        let mut swarm = swarm.transpose()?;
        let mut memory = Peak::new(&edge)?;
        visitors.begin();
        let started = Instant::now();
        let lasts = Duration::from_secs_f64(self.options.seconds);
        loop {
            self.interrupt.check()?;
            let share = (started.elapsed().as_secs_f64() / lasts.as_secs_f64()).min(1.0);
            if let (Some(swarm), Some((_, count))) = (&mut swarm, plan.swarm) {
                // All have arrived after half of the time.
                if swarm.len() > plan.setup.connections + SPARE_FDS as usize / 4 {
                    swarm.look();
                }
                let due = (count as f64 * (share * 2.0).min(1.0)) as u64;
                swarm.open((due - swarm.opened).min(64) as usize)?;
                swarm.step();
                if swarm.opened < count as u64 {
                    visitors.go_on_if(plan.rate)?;
                    memory.look(&edge)?;
                    continue;
                }
            }
            visitors.go_on_if(plan.rate)?;
            memory.look(&edge)?;
            if share >= 1.0 {
                break;
            }
        }
        let answered = visitors.tally.answered() as f64 / started.elapsed().as_secs_f64();
        visitors.finish(RESPONSE_TIMEOUT)?;
        let settled = self.settle(&edge, &mut swarm)?;
        memory.look_now(&edge)?;
        drop(neighbour);
        let grown = memory.last.saturating_sub(edge.memory_at_start);
        let bound = edge.memory_at_start
            + MEMORY_ALLOWANCE_BYTES
            + plan.setup.connections as u64 * bytes_of(plan.swarm.map(|(behavior, _)| behavior));
        let held = swarm.map_or_else(Held::default, |swarm| Held {
            opened: swarm.opened,
            closed: swarm.closed,
            redirects: swarm.redirects,
            deaf: plan
                .swarm
                .is_some_and(|(behavior, _)| behavior == ClientBehavior::SlowReader),
        });
        let logged = edge.stop()?;
        Ok(Phase {
            name: plan.name,
            what: plan.what.clone(),
            missing: report::missing(&visitors.tally.ids, &logged.ids),
            visitors: report::Visitors::of(&visitors.tally, answered),
            swarm: held,
            edge: settled.counted,
            unsettled: !settled.is_exact,
            logged: logged.events,
            memory: memory.most,
            memory_bound: bound,
            always_idle: plan
                .swarm
                .is_some_and(|(behavior, _)| behavior == ClientBehavior::Idle),
            bytes_per_connection: plan.measure.then(|| grown / settled.open.max(1)),
        })
    }

    /// Waits until edge and client agree on the open connections, and reads the counters meanwhile.
    fn settle(&self, edge: &Edge, swarm: &mut Option<ConnectionSwarm>) -> anyhow::Result<Settled> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            self.interrupt.check()?;
            let (open, answered) = look(swarm);
            let counts_agree = answered && edge.connections()? == open;
            let counted = edge.counted()?;
            // A connection closed meanwhile may or may not be counted.
            let is_exact = counts_agree && look(swarm).0 == open;
            if is_exact || Instant::now() >= deadline {
                return Ok(Settled {
                    open,
                    counted,
                    is_exact,
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Final counts.
struct Settled {
    /// Held connections.
    open: u64,
    counted: Counted,
    /// Whether edge and client agreed on the open connections while counting.
    is_exact: bool,
}

/// Number of open held connections, and whether none waits for a response.
fn look(swarm: &mut Option<ConnectionSwarm>) -> (u64, bool) {
    swarm.as_mut().map_or((0, true), |swarm| {
        swarm.look();
        (swarm.len() as u64, swarm.settled())
    })
}

/// Maximum memory per connection in bytes.
const fn bytes_of(behavior: Option<ClientBehavior>) -> u64 {
    match behavior {
        Some(ClientBehavior::Silent) => 4 << 10,
        Some(ClientBehavior::Http2) => 32 << 10,
        _ => 40 << 10,
    }
}

/// Samples of an edge's memory.
struct Peak {
    most: u64,
    last: u64,
    next: Instant,
}

impl Peak {
    fn new(edge: &Edge) -> anyhow::Result<Self> {
        let now = edge.memory()?;
        Ok(Self {
            most: now,
            last: now,
            next: Instant::now(),
        })
    }

    fn look(&mut self, edge: &Edge) -> anyhow::Result<()> {
        if Instant::now() >= self.next {
            self.look_now(edge)?;
        }
        Ok(())
    }

    fn look_now(&mut self, edge: &Edge) -> anyhow::Result<()> {
        self.last = edge.memory()?;
        self.most = self.most.max(self.last);
        self.next = Instant::now() + POLL_INTERVAL;
        Ok(())
    }
}
