//! An edge past its capacity: more visitors than it can answer, readers and writers of a byte now and
//! then, a crowd of idle connections. What visitors met is held against what the edge counted and
//! logged. What the edge does about it never belongs here.

mod crowd;
mod edge;
mod machine;
mod report;
mod visitors;

use crate::bench::machine::Cores;
use crate::interrupt::Interrupt;
use anyhow::{Context as _, ensure};
use crowd::{Crowd, Habit};
use edge::{Counted, Edge, Setup};
use machine::Neighbour;
use report::{Held, Phase};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use visitors::Visitors;

/// How many times the capacity is offered.
const OVER: [f64; 2] = [2.0, 10.0];
/// Descriptors for everything but connections of one kind.
const SPARE: u64 = 8_192;
/// Connections under way while the capacity is measured.
const CLOSED_LOOP: usize = 64;
/// Connections of the edge that is overloaded.
const FEW: usize = 1_024;
/// How long visitors may still be answered when no more come: beyond four tries of a system to
/// connect.
const PATIENCE: Duration = Duration::from_secs(20);
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What an edge's memory may grow by, apart from its connections: caches and buffers of its own.
const APART: u64 = 48 << 20;

/// How the edge is tried.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Seconds of each phase.
    #[arg(long, default_value_t = 8.0)]
    pub seconds: f64,
    /// Idle connections at once.
    #[arg(long, default_value_t = 50_000)]
    pub idle: usize,
    /// Visitors a second while connections are held.
    #[arg(long, default_value_t = 2_000.0)]
    pub rate: f64,
    /// Seed of the visitors.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the edge's files go.
    #[arg(long, value_name = "FOLDER", default_value = "target/overload")]
    pub out: PathBuf,
}

/// A phase before it has begun.
struct Plan {
    name: &'static str,
    what: String,
    setup: Setup,
    /// Visitors a second; none come at 0.
    rate: f64,
    /// Who is held, and how many.
    crowd: Option<(Habit, usize)>,
    /// Whether the memory of each is what is measured.
    measure: bool,
}

struct Trial<'o> {
    options: &'o Options,
    /// Connections that a process can have.
    room: usize,
    cores: Cores,
    interrupt: Interrupt,
}

/// Tries it all, prints what was found and, as the last line, one JSON object.
///
/// # Errors
/// When a count differs, memory exceeds its bound or an answered redirect was not logged; or when
/// the trial can't be made here.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let wanted = options.idle as u64 * 2 + SPARE;
    let descriptors = machine::allow_descriptors(wanted, 2 * SPARE)?;
    let trial = Trial {
        options,
        room: (descriptors - SPARE) as usize,
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
    ensure!(faults.is_empty(), "{} faults, see above", faults.len());
    Ok(())
}

fn plans(options: &Options, most: usize, capacity: f64) -> Vec<Plan> {
    let nice = Setup {
        connections: FEW,
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
            "{times:.0} times the capacity: {:.0} visitors a second, {FEW} connections",
            capacity * times
        ),
        setup: nice,
        rate: capacity * times,
        crowd: None,
        measure: false,
    };
    let held = |name, what: &str, habit, count, setup, rate| Plan {
        name,
        what: format!("{count} {what}, {rate:.0} visitors a second"),
        setup,
        rate,
        crowd: Some((habit, count)),
        measure: rate == 0.0,
    };
    let rate = options.rate;
    let room = (options.idle * 9 / 10).min(most);
    let few = (options.idle / 10).min(4_000);
    vec![
        over("2x", OVER[0]),
        over("10x", OVER[1]),
        held(
            "slow readers",
            "readers of a byte now and then",
            Habit::SlowReader,
            256,
            roomy(FEW, 30),
            rate,
        ),
        held(
            "slow writers",
            "writers of a byte now and then, cut off after 3 s",
            Habit::SlowWriter,
            few,
            roomy(few + FEW, 3),
            rate,
        ),
        held(
            "silent",
            "connections that never send a byte",
            Habit::Silent,
            few,
            roomy(few, 60),
            0.0,
        ),
        held(
            "HTTP/1.1",
            "connections idle after a click",
            Habit::Idle,
            few,
            roomy(few, 60),
            0.0,
        ),
        held(
            "HTTP/2",
            "connections idle after a greeting",
            Habit::Http2,
            few,
            roomy(few, 60),
            0.0,
        ),
        held(
            "idle crowd",
            &format!("connections, each idle after a click, where {room} fit"),
            Habit::Idle,
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

    /// Visitors a second that an edge with a small share of a core answers at most.
    fn capacity(&self) -> anyhow::Result<f64> {
        let setup = Setup {
            connections: FEW,
            header_timeout: 30,
            nice: true,
        };
        let (edge, _neighbour) = self.start(setup)?;
        let mut visitors = Visitors::new(edge.address, self.options.seed, self.room)?;
        let mut turn = |seconds: f64| {
            let until = Instant::now() + Duration::from_secs_f64(seconds);
            while Instant::now() < until {
                self.interrupt.check()?;
                visitors.keep_up(CLOSED_LOOP)?;
            }
            anyhow::Ok(visitors.tally.redirects + visitors.tally.pixels)
        };
        let (before, started) = (turn(1.0)?, Instant::now());
        let after = turn(self.options.seconds / 2.0)?;
        let capacity = (after - before) as f64 / started.elapsed().as_secs_f64();
        ensure!(capacity > 0.0, "the edge answered nobody");
        Ok(capacity)
    }

    fn phase(&self, plan: &Plan) -> anyhow::Result<Phase> {
        let (edge, neighbour) = self.start(plan.setup)?;
        let most = plan.crowd.map_or(self.room, |_| SPARE as usize / 2);
        let mut visitors = Visitors::new(edge.address, self.options.seed, most)?;
        let crowd = plan.crowd.map(|(habit, _)| Crowd::new(habit, edge.address));
        let mut crowd = crowd.transpose()?;
        let mut memory = Peak::new(&edge)?;
        visitors.begin();
        let started = Instant::now();
        let lasts = Duration::from_secs_f64(self.options.seconds);
        loop {
            self.interrupt.check()?;
            let share = (started.elapsed().as_secs_f64() / lasts.as_secs_f64()).min(1.0);
            if let (Some(crowd), Some((_, count))) = (&mut crowd, plan.crowd) {
                // All have come after half of the time.
                if crowd.len() > plan.setup.connections + SPARE as usize / 4 {
                    crowd.look();
                }
                let due = (count as f64 * (share * 2.0).min(1.0)) as u64;
                crowd.open((due - crowd.opened).min(64) as usize)?;
                crowd.step();
                if crowd.opened < count as u64 {
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
        visitors.finish(PATIENCE)?;
        let settled = self.settle(&edge, &mut crowd)?;
        memory.look_now(&edge)?;
        drop(neighbour);
        let grown = memory.last.saturating_sub(edge.memory_at_start);
        let bound = edge.memory_at_start
            + APART
            + plan.setup.connections as u64 * bytes_of(plan.crowd.map(|(habit, _)| habit));
        let held = crowd.map_or_else(Held::default, |crowd| Held {
            opened: crowd.opened,
            closed: crowd.closed,
            redirects: crowd.redirects,
            deaf: plan
                .crowd
                .is_some_and(|(habit, _)| habit == Habit::SlowReader),
        });
        let logged = edge.stop()?;
        Ok(Phase {
            name: plan.name,
            what: plan.what.clone(),
            missing: report::missing(&visitors.tally.ids, &logged.ids),
            visitors: report::Visitors::of(&visitors.tally, answered),
            crowd: held,
            edge: settled.counted,
            unsettled: !settled.whole,
            logged: logged.events,
            memory: memory.most,
            memory_bound: bound,
            always_idle: plan.crowd.is_some_and(|(habit, _)| habit == Habit::Idle),
            bytes_per_connection: plan.measure.then(|| grown / settled.open.max(1)),
        })
    }

    /// Waits until the edge has open what the crowd has, and takes its counts while that is so.
    fn settle(&self, edge: &Edge, crowd: &mut Option<Crowd>) -> anyhow::Result<Settled> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        loop {
            self.interrupt.check()?;
            let (open, answered) = look(crowd);
            let alike = answered && edge.connections()? == open;
            let counted = edge.counted()?;
            // Who was closed meanwhile may be among those counted, or not.
            let whole = alike && look(crowd).0 == open;
            if whole || Instant::now() >= deadline {
                return Ok(Settled {
                    open,
                    counted,
                    whole,
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What is counted in the end.
struct Settled {
    /// Connections of the crowd.
    open: u64,
    counted: Counted,
    /// Whether the edge and the crowd agreed on who is there while it was counted.
    whole: bool,
}

/// How many of the crowd are open, and whether nobody waits for an answer.
fn look(crowd: &mut Option<Crowd>) -> (u64, bool) {
    crowd.as_mut().map_or((0, true), |crowd| {
        crowd.look();
        (crowd.len() as u64, crowd.settled())
    })
}

/// What a connection may take of the edge's memory, in bytes.
const fn bytes_of(habit: Option<Habit>) -> u64 {
    match habit {
        Some(Habit::Silent) => 4 << 10,
        Some(Habit::Http2) => 32 << 10,
        _ => 40 << 10,
    }
}

/// An edge's memory, looked at now and then.
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
        self.next = Instant::now() + LOOK_EVERY;
        Ok(())
    }
}
