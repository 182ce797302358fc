//! What is done to one thing at a time: a hand holds what no other touches meanwhile, so that several can
//! strike at once.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::clock::Clock;
use super::disks::Disk;
use super::fleet::Fleet;
use super::namespaces::{Namespace, Trouble};
use super::relay::{Mood, Packets, Streams, Way};
use super::scenario::Fault;
use super::toll::Toll;
use super::wrong_clock::EdgeClock;
use crate::interrupt::Interrupt;
use crate::stack::Member;
use crate::traffic::Random;
use crate::verify;

/// Between two faults, at most.
const BETWEEN: Duration = Duration::from_millis(400);
/// How often who waits looks whether it is all over.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Long enough to fill small journals.
const SPOOL_FULL_FOR: Duration = Duration::from_secs(20);
const DISK_FULL_FOR: Duration = Duration::from_secs(10);
/// Of a disk that others fill up: less than the filters take.
const LEFT_TO_EDGE: u64 = 1 << 20;
/// Once nothing hinders shipping any more.
const ROOM_AGAIN_WITHIN: Duration = Duration::from_secs(30);
/// Long enough to fill what is left of a disk, whatever else this machine does.
const FULL_WITHIN: Duration = Duration::from_secs(300);

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
    /// The clock of one edge, and the edge.
    EdgeClock(EdgeClock<'a>),
    /// Everything at once.
    Fleet(Fleet<'a>),
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
    /// Held by who cuts everybody off or fills what everybody's events go through, until everybody is well
    /// again.
    pub(super) cutting: &'a Mutex<()>,
    /// Set when one hand failed or panicked.
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
    /// Strikes so many times; what it did.
    pub(super) fn strike(mut self, times: u32) -> anyhow::Result<Toll> {
        let mut alarm = Alarm {
            over: self.around.over,
            armed: true,
        };
        let mut toll = Toll::default();
        for _ in 0..times {
            self.pause(BETWEEN);
            if self.around.is_over() {
                break;
            }
            let fault = self.faults[self.random.below(self.faults.len() as u64) as usize];
            let struck = self.strike_with(fault);
            toll += struck.with_context(|| format!("{fault:?}"))?;
        }
        self.around.interrupt.check()?;
        alarm.armed = false;
        Ok(toll)
    }

    fn pause(&mut self, up_to: Duration) {
        let micros = self.random.below(up_to.as_micros() as u64 + 1);
        self.around.sleep(Duration::from_micros(micros));
    }

    fn strike_with(&mut self, fault: Fault) -> anyhow::Result<Toll> {
        match &mut self.held {
            Held::Fleet(fleet) => return fleet.suffer(fault, &mut self.random, self.around),
            Held::EdgeClock(edge) => return edge.jump(&mut self.random, self.around),
            _ => {}
        }
        match fault {
            Fault::KillEdge | Fault::KillAggregator | Fault::KillEngine => {
                return self.kill().map(Toll::of_kills);
            }
            Fault::SwapEdge | Fault::SwapAggregator => return self.swap().map(Toll::of_kills),
            Fault::EngineStops => self.stand_still()?,
            Fault::Packets => self.hinder_packets(),
            Fault::Cable => self.hinder_cable()?,
            Fault::EdgeDisk | Fault::CentralDisk => self.fill_disk()?,
            Fault::SpoolFull => {
                self.around.cut(true);
                self.around.sleep(SPOOL_FULL_FOR);
                self.around.cut(false);
                self.around
                    .wait_until_nothing_is_lost(self.around.counting)?;
            }
            Fault::Answers => self.spoil_answers(),
            Fault::Clock => self.jump()?,
            Fault::RestoreEdge
            | Fault::CloneEdge
            | Fault::StolenCertificate
            | Fault::LoseAggregator
            | Fault::LateReports
            | Fault::WrongClock => anyhow::bail!("this hand does not hold what it needs"),
        }
        Ok(Toll::default())
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
        // An edge's disk has no room again before others ship on.
        let _alone = self.around.cutting.lock();
        let (disk, edge) = match self.held {
            Held::EdgeDisk(disk, edge) => (disk, edge),
            Held::CentralDisk(disk, left) => {
                disk.fill_but(left)?;
                self.around.sleep(DISK_FULL_FOR);
                disk.free();
                return Ok(());
            }
            _ => anyhow::bail!("this hand holds no disk"),
        };
        // First the rest is its own, and shipping alone must make room; then others must.
        for left in [LEFT_TO_EDGE, 0] {
            // With nothing shipped, journals need the room that is not there.
            self.around.cut(true);
            self.around.fill_until_something_is_lost(disk, left, edge)?;
            if left == 0 {
                disk.free();
            }
            self.around.cut(false);
            self.around.wait_until_nothing_is_lost(&[edge])?;
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

    /// Whether nothing more is to be done.
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.interrupt.check().is_err()
    }

    /// Sleeps, unless or until it is all over.
    pub(super) fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(LOOK_EVERY));
        }
    }

    fn fill_until_something_is_lost(
        &self,
        disk: &Disk,
        left: u64,
        edge: &str,
    ) -> anyhow::Result<()> {
        let (deadline, before) = (Instant::now() + FULL_WITHIN, lost(&[edge])?);
        while lost(&[edge])? == before && !self.is_over() {
            // Again and again: filters saved anew give back the room of those saved before.
            disk.fill_but(left)?;
            ensure!(
                Instant::now() < deadline,
                "the disk of {edge} is not full {FULL_WITHIN:?} after all but little was taken"
            );
            self.sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Journals that were full take events again soon after there is room, while traffic flows on.
    fn wait_until_nothing_is_lost(&self, edges: &[impl AsRef<str>]) -> anyhow::Result<()> {
        let deadline = Instant::now() + ROOM_AGAIN_WITHIN;
        let mut before = lost(edges)?;
        loop {
            self.sleep(Duration::from_secs(1));
            let now = lost(edges)?;
            if now == before || self.is_over() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "edges still lose events {ROOM_AGAIN_WITHIN:?} after there is room for them"
            );
            before = now;
        }
    }
}

/// Says that it is all over when it goes while armed: after a failure, or in a panic.
struct Alarm<'a> {
    over: &'a AtomicBool,
    armed: bool,
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}

/// Events that edges answered and could not log, as they counted them since they started.
pub(super) fn lost(edges: &[impl AsRef<str>]) -> anyhow::Result<u64> {
    let edges = edges.iter().map(AsRef::as_ref);
    let lost = edges.map(|url| Ok(verify::counter(url, "edge_lost_total")? as u64));
    lost.sum()
}
