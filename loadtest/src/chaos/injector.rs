//! Injects faults into one target at a time. Each injector owns its target exclusively, so that several can run
//! concurrently.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::clock::Clock;
use super::context::FaultContext;
use super::counts::FaultCounts;
use super::disks::Disk;
use super::fleet::Fleet;
use super::namespaces::{LinkFault, Namespace};
use super::relay::{FaultMode, PacketFaults};
use super::scenario::Fault;
use super::wrong_clock::EdgeClock;
use crate::stack::ManagedProcess;
use crate::traffic::Random;

/// Maximum pause between two faults.
const MAX_PAUSE: Duration = Duration::from_millis(400);
/// Long enough to fill small journals.
const SPOOL_FULL_DURATION: Duration = Duration::from_secs(20);
const DISK_FULL_DURATION: Duration = Duration::from_secs(10);
/// Less space than the filters need.
const EDGE_FREE_BYTES: u64 = 1 << 20;

/// The target of an injector.
pub(super) enum FaultTarget<'a> {
    /// A process, and the maximum time after its start at which it is killed again.
    Process(&'a mut ManagedProcess, Duration),
    /// Packets between edges and aggregator.
    Packets,
    /// The network link of an edge.
    Link(&'a Namespace),
    /// An edge's disk and the edge's admin URL.
    EdgeDisk(&'a Disk, &'a str),
    /// The disk of the aggregator or of ClickHouse, and the bytes that stay free when it is full.
    CentralDisk(&'a Disk, u64),
    /// ClickHouse's responses.
    Responses,
    /// The clock of all processes.
    Clock(&'a Clock),
    /// One edge and its clock.
    EdgeClock(EdgeClock<'a>),
    /// The whole fleet, exclusively.
    Fleet(Fleet<'a>),
}

pub(super) struct FaultInjector<'a> {
    pub(super) target: FaultTarget<'a>,
    /// Faults that this target allows.
    pub(super) faults: Vec<Fault>,
    pub(super) random: Random,
    pub(super) context: FaultContext<'a>,
}

impl FaultInjector<'_> {
    /// Injects that many faults and returns their counts.
    pub(super) fn inject(mut self, times: u32) -> anyhow::Result<FaultCounts> {
        let mut abort = AbortOnDrop {
            is_aborted: self.context.is_aborted,
            armed: true,
        };
        let mut counts = FaultCounts::default();
        for _ in 0..times {
            self.pause(MAX_PAUSE);
            if self.context.is_ended() {
                break;
            }
            let fault = self.faults[self.random.below(self.faults.len() as u64) as usize];
            let injected = self.inject_fault(fault);
            counts += injected.with_context(|| format!("{fault:?}"))?;
        }
        self.context.interrupt.check()?;
        abort.armed = false;
        Ok(counts)
    }

    fn pause(&mut self, up_to: Duration) {
        let micros = self.random.below(up_to.as_micros() as u64 + 1);
        self.context.sleep(Duration::from_micros(micros));
    }

    fn inject_fault(&mut self, fault: Fault) -> anyhow::Result<FaultCounts> {
        match &mut self.target {
            FaultTarget::Fleet(fleet) => {
                return fleet.run_faults(fault, &mut self.random, self.context);
            }
            FaultTarget::EdgeClock(edge) => return edge.jump(&mut self.random, self.context),
            _ => {}
        }
        match fault {
            Fault::KillEdge | Fault::KillAggregator | Fault::KillEngine => {
                return self.kill().map(FaultCounts::with_kills);
            }
            Fault::SwapEdge | Fault::SwapAggregator => {
                return self.swap().map(FaultCounts::with_kills);
            }
            Fault::EngineStalls => self.suspend()?,
            Fault::Packets => self.disturb_packets(),
            Fault::Link => self.disturb_link()?,
            Fault::EdgeDisk | Fault::CentralDisk => self.fill_disk()?,
            Fault::SpoolFull => {
                self.context.block_shipping(true);
                self.context.sleep(SPOOL_FULL_DURATION);
                self.context.block_shipping(false);
                self.context
                    .wait_until_nothing_is_lost(self.context.admin_urls)?;
            }
            Fault::Responses => self.disturb_responses(),
            Fault::Clock => self.jump()?,
            Fault::RestoreEdge
            | Fault::CloneEdge
            | Fault::StolenCertificate
            | Fault::LoseAggregator
            | Fault::LateReports
            | Fault::ScaleIn
            | Fault::WrongClock => {
                anyhow::bail!("this injector's target does not support the fault")
            }
        }
        Ok(FaultCounts::default())
    }

    fn process(&mut self) -> anyhow::Result<(&mut ManagedProcess, Duration)> {
        match &mut self.target {
            FaultTarget::Process(member, starting) => Ok((member, *starting)),
            _ => anyhow::bail!("the target is no process"),
        }
    }

    fn kill(&mut self) -> anyhow::Result<u64> {
        let mut kills = 1;
        let (member, starting) = self.process()?;
        member.kill()?;
        while self.random.below(10) == 0 {
            self.process()?.0.spawn()?;
            self.pause(starting);
            self.process()?.0.kill()?;
            kills += 1;
        }
        self.pause(Duration::from_millis(50));
        Clock::remove_stale();
        self.process()?.0.restart()?;
        Ok(kills)
    }

    fn swap(&mut self) -> anyhow::Result<u64> {
        let programs = self.context.programs.context("there are older programs")?;
        let dir = programs[self.random.below(2) as usize];
        let in_order = self.random.below(2) == 0;
        let (member, _) = self.process()?;
        member.use_programs_from(dir);
        if in_order {
            member.stop()?;
        } else {
            member.kill()?;
        }
        Clock::remove_stale();
        member.restart()?;
        self.pause(Duration::from_secs(2));
        Ok(u64::from(!in_order))
    }

    fn suspend(&mut self) -> anyhow::Result<()> {
        let pid = self.process()?.0.pid().context("it runs")?;
        let group = Pid::from_raw(i32::try_from(pid)?);
        killpg(group, Signal::SIGSTOP)?;
        self.pause(Duration::from_secs(4));
        Ok(killpg(group, Signal::SIGCONT)?)
    }

    fn disturb_packets(&mut self) {
        let mut directions = [PacketFaults::default(); 2];
        let (which, random) = (self.random.below(5), &mut self.random);
        match which {
            0 => {
                directions = directions.map(|faults| PacketFaults {
                    drop_all: true,
                    ..faults
                })
            }
            1 => directions[0].drop_all = true,
            2 => directions[1].drop_all = true,
            3 => {
                let delay = Duration::from_millis(random.below(400));
                directions = directions.map(|faults| PacketFaults { delay, ..faults });
            }
            _ => {
                let (loss_percent, duplicate_percent) = (random.below(40), random.below(40));
                let delay = Duration::from_millis(random.below(30));
                directions = directions.map(|faults| PacketFaults {
                    loss_percent,
                    duplicate_percent,
                    delay,
                    ..faults
                });
            }
        }
        self.context.udp_relay.set(directions);
        self.pause(Duration::from_secs(4));
        self.context.udp_relay.set([PacketFaults::default(); 2]);
    }

    fn disturb_link(&mut self) -> anyhow::Result<()> {
        let FaultTarget::Link(namespace) = self.target else {
            anyhow::bail!("the target is no network link");
        };
        let fault = match self.random.below(4) {
            0 => LinkFault::LinkDown,
            1 => LinkFault::NoRouteOut,
            2 => LinkFault::NoRouteBack,
            _ => LinkFault::SmallMtu,
        };
        namespace.fault(fault)?;
        self.pause(Duration::from_secs(4));
        namespace.heal()
    }

    fn fill_disk(&self) -> anyhow::Result<()> {
        // An edge's disk has no free space again before the others ship.
        let _alone = self.context.exclusive.lock();
        let (disk, edge) = match self.target {
            FaultTarget::EdgeDisk(disk, edge) => (disk, edge),
            FaultTarget::CentralDisk(disk, left) => {
                disk.fill_but(left)?;
                self.context.sleep(DISK_FULL_DURATION);
                disk.free();
                return Ok(());
            }
            _ => anyhow::bail!("the target is no disk"),
        };
        // First the edge itself has space left, and shipping alone must make room. Then other processes must free
        // some.
        for left in [EDGE_FREE_BYTES, 0] {
            // Without shipping, journals need space that is not there.
            self.context.block_shipping(true);
            self.context
                .fill_until_something_is_lost(disk, left, edge)?;
            if left == 0 {
                disk.free();
            }
            self.context.block_shipping(false);
            self.context.wait_until_nothing_is_lost(&[edge])?;
            disk.free();
        }
        Ok(())
    }

    fn disturb_responses(&mut self) {
        let mode = match self.random.below(5) {
            0 => FaultMode::Delay(Duration::from_millis(self.random.below(500))),
            1 => FaultMode::DropResponse,
            2 => FaultMode::GatewayTimeout,
            3 => FaultMode::StallResponse,
            _ => FaultMode::CloseAtOnce,
        };
        self.context.tcp_relay.set(mode);
        self.pause(Duration::from_secs(4));
        self.context.tcp_relay.set(FaultMode::Pass);
    }

    fn jump(&mut self) -> anyhow::Result<()> {
        let seconds = self.random.below(4 * 3_600) as i64 - 2 * 3_600;
        if let FaultTarget::Clock(clock) = self.target {
            clock.set(seconds)?;
        }
        self.pause(Duration::from_secs(3));
        Ok(())
    }
}

/// Ends the run if dropped while armed: after a failure or during a panic.
struct AbortOnDrop<'a> {
    is_aborted: &'a AtomicBool,
    armed: bool,
}

impl Drop for AbortOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.is_aborted.store(true, Ordering::Relaxed);
        }
    }
}
