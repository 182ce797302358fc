//! What is done to one thing at a time: a hand holds what no other touches meanwhile, so that several can
//! strike at once.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::clock::Clock;
use super::disks::Disk;
use super::namespaces::{Namespace, Trouble};
use super::relay::{Mood, Packets, Streams, Way};
use super::scenario::Fault;
use crate::interrupt::Interrupt;
use crate::stack::Member;
use crate::traffic::Random;
use crate::verify;

/// Between two faults, at most.
const BETWEEN: Duration = Duration::from_millis(400);
/// Long enough to fill small journals.
const SPOOL_FULL_FOR: Duration = Duration::from_secs(20);
const DISK_FULL_FOR: Duration = Duration::from_secs(10);
/// Of a disk that others fill up: less than the filters take.
const LEFT_TO_EDGE: u64 = 1 << 20;
/// Once nothing hinders shipping any more.
const ROOM_AGAIN_WITHIN: Duration = Duration::from_secs(30);
/// Long enough to fill what is left of a disk.
const FULL_WITHIN: Duration = Duration::from_secs(90);

/// What a hand holds.
pub(super) enum Held<'a> {
    /// A process, and within what time of its start it is killed again.
    Process(&'a mut Member, Duration),
    /// Packets on the way between edges and aggregator.
    Packets,
    /// The cable of an edge.
    Cable(&'a Namespace),
    /// An edge's disk, and the edge's operators' port.
    EdgeDisk(&'a Disk, &'a str),
    /// The aggregator's disk or ClickHouse's, and how many bytes are left of it when it is full.
    CentralDisk(&'a Disk, u64),
    /// ClickHouse's answers.
    Answers,
    /// All clocks.
    Clock(&'a Clock),
}

/// What all hands know.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) packets: &'a Packets,
    pub(super) streams: &'a Streams,
    /// Folders of programs: older and today's.
    pub(super) programs: Option<[&'a Path; 2]>,
    /// Edges' operators' ports, where edges count what they lose and are not restarted meanwhile.
    pub(super) counting: &'a [String],
    /// Held by who cuts everybody off, until everybody is well again.
    pub(super) cutting: &'a Mutex<()>,
    /// Set when one hand failed.
    pub(super) over: &'a AtomicBool,
    pub(super) interrupt: &'a Interrupt,
}

pub(super) struct Hand<'a> {
    pub(super) held: Held<'a>,
    /// What it may do.
    pub(super) faults: Vec<Fault>,
    pub(super) random: Random,
    pub(super) around: Around<'a>,
}

impl Hand<'_> {
    /// Strikes so many times; how many processes it killed.
    pub(super) fn strike(mut self, times: u32) -> anyhow::Result<u64> {
        let mut kills = 0;
        for _ in 0..times {
            self.pause(BETWEEN);
            if self.around.over.load(Ordering::Relaxed) {
                break;
            }
            let fault = self.faults[self.random.below(self.faults.len() as u64) as usize];
            let struck = self.around.interrupt.check();
            match struck.and_then(|()| self.strike_with(fault)) {
                Ok(killed) => kills += killed,
                Err(error) => {
                    self.around.over.store(true, Ordering::Relaxed);
                    return Err(error.context(format!("{fault:?}")));
                }
            }
        }
        Ok(kills)
    }

    fn pause(&mut self, up_to: Duration) {
        sleep(Duration::from_micros(
            self.random.below(up_to.as_micros() as u64 + 1),
        ));
    }

    fn strike_with(&mut self, fault: Fault) -> anyhow::Result<u64> {
        match fault {
            Fault::KillEdge | Fault::KillAggregator | Fault::KillEngine => return self.kill(),
            Fault::SwapEdge | Fault::SwapAggregator => return self.swap(),
            Fault::EngineStops => self.stand_still()?,
            Fault::Packets => self.hinder_packets(),
            Fault::Cable => self.hinder_cable()?,
            Fault::EdgeDisk | Fault::CentralDisk => self.fill_disk()?,
            Fault::SpoolFull => {
                self.around.cut(true);
                sleep(SPOOL_FULL_FOR);
                self.around.cut(false);
                wait_until_nothing_is_lost(self.around.counting)?;
            }
            Fault::Answers => self.spoil_answers(),
            Fault::Clock => self.jump()?,
        }
        Ok(0)
    }

    fn process(&mut self) -> anyhow::Result<(&mut Member, Duration)> {
        match &mut self.held {
            Held::Process(member, starting) => Ok((member, *starting)),
            _ => anyhow::bail!("this hand holds no process"),
        }
    }

    fn kill(&mut self) -> anyhow::Result<u64> {
        let mut kills = 1;
        let (member, starting) = self.process()?;
        member.kill9()?;
        while self.random.below(10) == 0 {
            self.process()?.0.begin()?;
            self.pause(starting);
            self.process()?.0.kill9()?;
            kills += 1;
        }
        self.pause(Duration::from_millis(50));
        Clock::sweep();
        self.process()?.0.restart()?;
        Ok(kills)
    }

    fn swap(&mut self) -> anyhow::Result<u64> {
        let programs = self.around.programs.context("there are older programs")?;
        let folder = programs[self.random.below(2) as usize];
        let in_order = self.random.below(2) == 0;
        let (member, _) = self.process()?;
        member.program_from(folder);
        if in_order {
            member.stop()?;
        } else {
            member.kill9()?;
        }
        Clock::sweep();
        member.restart()?;
        self.pause(Duration::from_secs(2));
        Ok(u64::from(!in_order))
    }

    fn stand_still(&mut self) -> anyhow::Result<()> {
        let pid = self.process()?.0.pid().context("it runs")?;
        let group = Pid::from_raw(i32::try_from(pid)?);
        killpg(group, Signal::SIGSTOP)?;
        self.pause(Duration::from_secs(4));
        Ok(killpg(group, Signal::SIGCONT)?)
    }

    fn hinder_packets(&mut self) {
        let mut ways = [Way::default(); 2];
        let (which, random) = (self.random.below(5), &mut self.random);
        match which {
            0 => ways = ways.map(|way| Way { cut: true, ..way }),
            1 => ways[0].cut = true,
            2 => ways[1].cut = true,
            3 => {
                let late = Duration::from_millis(random.below(400));
                ways = ways.map(|way| Way { late, ..way });
            }
            _ => {
                let (lost, doubled) = (random.below(40), random.below(40));
                let late = Duration::from_millis(random.below(30));
                ways = ways.map(|way| Way {
                    lost,
                    doubled,
                    late,
                    ..way
                });
            }
        }
        self.around.packets.set(ways);
        self.pause(Duration::from_secs(4));
        self.around.packets.set([Way::default(); 2]);
    }

    fn hinder_cable(&mut self) -> anyhow::Result<()> {
        let Held::Cable(namespace) = self.held else {
            anyhow::bail!("this hand holds no cable");
        };
        let trouble = match self.random.below(4) {
            0 => Trouble::Unplugged,
            1 => Trouble::NoWayThere,
            2 => Trouble::NoWayBack,
            _ => Trouble::Narrow,
        };
        namespace.trouble(trouble)?;
        self.pause(Duration::from_secs(4));
        namespace.heal()
    }

    fn fill_disk(&self) -> anyhow::Result<()> {
        let (disk, edge) = match self.held {
            Held::EdgeDisk(disk, edge) => (disk, edge),
            Held::CentralDisk(disk, left) => {
                disk.fill_but(left)?;
                sleep(DISK_FULL_FOR);
                disk.free();
                return Ok(());
            }
            _ => anyhow::bail!("this hand holds no disk"),
        };
        let _alone = self.around.cutting.lock();
        // First the rest is its own, and shipping alone must make room; then others must.
        for left in [LEFT_TO_EDGE, 0] {
            // With nothing shipped, journals need the room that is not there.
            self.around.cut(true);
            disk.fill_but(left)?;
            wait_until_something_is_lost(edge)?;
            if left == 0 {
                disk.free();
            }
            self.around.cut(false);
            wait_until_nothing_is_lost(&[edge])?;
            disk.free();
        }
        Ok(())
    }

    fn spoil_answers(&mut self) {
        let mood = match self.random.below(5) {
            0 => Mood::Slow(Duration::from_millis(self.random.below(500))),
            1 => Mood::NoAnswer,
            2 => Mood::Failed,
            3 => Mood::Silent,
            _ => Mood::Refuse,
        };
        self.around.streams.set(mood);
        self.pause(Duration::from_secs(4));
        self.around.streams.set(Mood::Pass);
    }

    fn jump(&mut self) -> anyhow::Result<()> {
        let seconds = self.random.below(4 * 3_600) as i64 - 2 * 3_600;
        if let Held::Clock(clock) = self.held {
            clock.set(seconds)?;
        }
        self.pause(Duration::from_secs(3));
        Ok(())
    }
}

impl Around<'_> {
    fn cut(&self, cut: bool) {
        let way = Way {
            cut,
            ..Way::default()
        };
        self.packets.set([way; 2]);
    }
}

fn wait_until_something_is_lost(edge: &str) -> anyhow::Result<()> {
    let (deadline, before) = (Instant::now() + FULL_WITHIN, lost(&[edge])?);
    while lost(&[edge])? == before {
        ensure!(
            Instant::now() < deadline,
            "the disk of {edge} is not full {FULL_WITHIN:?} after all but little was taken"
        );
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Journals that were full take events again soon after there is room, while traffic flows on.
fn wait_until_nothing_is_lost(edges: &[impl AsRef<str>]) -> anyhow::Result<()> {
    let deadline = Instant::now() + ROOM_AGAIN_WITHIN;
    let mut before = lost(edges)?;
    loop {
        sleep(Duration::from_secs(1));
        let now = lost(edges)?;
        if now == before {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "edges still lose events {ROOM_AGAIN_WITHIN:?} after there is room for them"
        );
        before = now;
    }
}

/// Events that edges answered and could not log, as they counted them since they started.
pub(super) fn lost(edges: &[impl AsRef<str>]) -> anyhow::Result<u64> {
    let edges = edges.iter().map(AsRef::as_ref);
    let lost = edges.map(|url| Ok(verify::counter(url, "edge_lost_total")? as u64));
    lost.sum()
}
