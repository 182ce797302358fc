//! The stack that suffers, and what is done to it. What comes of it is judged elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::disks::Disk;
use super::relay::{Mood, Packets, Streams, Way};
use super::scenario::{Fault, Scenario};
use crate::stack::{Member, Stack, Wiring};
use crate::traffic::Random;
use crate::verify;

pub(super) const EDGES: u16 = 2;
/// Journals small enough to be filled.
const SMALL: &str = "[journal]\nsegment_bytes = \"1MiB\"\nmax_bytes = \"4MiB\"\n";
const SMALL_DISK: u64 = 16 << 20;
/// Once nothing hinders shipping any more.
const ROOM_AGAIN_WITHIN: Duration = Duration::from_secs(20);
const ENGINE_DISK: u64 = 512 << 20;
/// Where libfaketime lies, by distribution.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

pub(super) struct Arena {
    pub(super) stack: Stack,
    pub(super) kills: u64,
    packets: Packets,
    streams: Streams,
    random: Random,
    clock: Option<PathBuf>,
    old: Option<PathBuf>,
    new: PathBuf,
    // Last, so that nobody uses them any more.
    disks: Vec<Disk>,
}

impl Arena {
    pub(super) fn start(
        dir: &Path,
        scenario: Scenario,
        seed: u64,
        old: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let faults = scenario.faults();
        let disks = match faults.contains(&Fault::DiskFull) {
            true => mount_disks(dir)?,
            false => Vec::new(),
        };
        let clock = faults.contains(&Fault::Clock).then(|| dir.join("clock"));
        let old = match faults.contains(&Fault::Swap) {
            true => Some(old.context("name a folder of older programs: --old FOLDER")?),
            false => None,
        };
        let (packets, streams) = (Packets::listen(seed)?, Streams::listen()?);
        let wiring = Wiring {
            shipping: Some(packets.port),
            engine: Some(streams.port),
            edge_settings: match scenario.may_lose() {
                true => SMALL.to_owned(),
                false => String::new(),
            },
            environment: clock
                .as_deref()
                .map_or_else(|| Ok(Vec::new()), fake_clock)?,
        };
        let stack = Stack::start_wired(dir, EDGES, None, &wiring, |_| {})?;
        packets.lead_to(stack.aggregator_address);
        let engine = stack.clickhouse_url.trim_start_matches("http://");
        streams.lead_to(engine.parse().context("an address")?);
        let here = std::env::current_exe()?;
        let new = here
            .ancestors()
            .skip(1)
            .find(|folder| folder.join("edge-tracker").is_file());
        Ok(Self {
            stack,
            kills: 0,
            packets,
            streams,
            random: Random::new(seed),
            clock,
            old: old.map(Path::to_owned),
            new: new.context("the programs lie beside this one")?.to_owned(),
            disks,
        })
    }

    pub(super) fn pause(&mut self, up_to: Duration) {
        sleep(Duration::from_micros(
            self.random.below(up_to.as_micros() as u64 + 1),
        ));
    }

    /// Lets one of the scenario's faults happen.
    pub(super) fn strike(&mut self, scenario: Scenario) -> anyhow::Result<()> {
        let faults = scenario.faults();
        match faults[self.random.below(faults.len() as u64) as usize] {
            Fault::KillEdge => {
                let edge = self.random.below(u64::from(EDGES)) as usize;
                self.kill(|stack| &mut stack.edges[edge], Duration::from_millis(60))
            }
            Fault::KillAggregator => {
                self.kill(|stack| &mut stack.aggregator, Duration::from_millis(60))
            }
            Fault::KillEngine => self.kill(|stack| &mut stack.engine, Duration::from_secs(1)),
            Fault::Network => {
                self.network();
                Ok(())
            }
            Fault::DiskFull => self.fill_a_disk(),
            Fault::SpoolFull => {
                self.cut_both(true);
                sleep(Duration::from_secs(20));
                self.cut_both(false);
                self.wait_until_nothing_is_lost()
            }
            Fault::Engine => self.engine(),
            Fault::Clock => self.jump(),
            Fault::Swap => self.swap(),
        }
    }

    /// All faults end.
    pub(super) fn heal(&mut self) -> anyhow::Result<()> {
        self.packets.set([Way::default(); 2]);
        self.streams.set(Mood::Pass);
        self.disks.iter().for_each(Disk::free);
        if let Some(clock) = &self.clock {
            set_clock(clock, 0)?;
        }
        Ok(())
    }

    /// Events that edges answered and could not log, as they counted them. Tells all only when no
    /// edge was restarted.
    pub(super) fn lost(&self) -> anyhow::Result<u64> {
        let urls = self.stack.edge_admin_urls.iter();
        let lost = urls.map(|url| Ok(verify::counter(url, "edge_lost_total")? as u64));
        lost.sum()
    }

    fn kill(
        &mut self,
        which: impl Fn(&mut Stack) -> &mut Member,
        starting: Duration,
    ) -> anyhow::Result<()> {
        which(&mut self.stack).kill9()?;
        self.kills += 1;
        while self.random.below(10) == 0 {
            which(&mut self.stack).begin()?;
            self.pause(starting);
            which(&mut self.stack).kill9()?;
            self.kills += 1;
        }
        self.pause(Duration::from_millis(50));
        which(&mut self.stack).restart()
    }

    fn network(&mut self) {
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
        self.packets.set(ways);
        self.pause(Duration::from_secs(4));
        self.packets.set([Way::default(); 2]);
    }

    fn cut_both(&self, cut: bool) {
        let way = Way {
            cut,
            ..Way::default()
        };
        self.packets.set([way; 2]);
    }

    fn fill_a_disk(&mut self) -> anyhow::Result<()> {
        let which = self.random.below(self.disks.len() as u64) as usize;
        // With nothing shipped, journals need the room that is not there.
        self.cut_both(which < usize::from(EDGES));
        self.disks[which].fill()?;
        sleep(Duration::from_secs(6));
        self.disks[which].free();
        self.cut_both(false);
        self.wait_until_nothing_is_lost()
    }

    /// Journals that were full take events again soon after there is room, while traffic flows on.
    fn wait_until_nothing_is_lost(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + ROOM_AGAIN_WITHIN;
        let mut before = self.lost()?;
        loop {
            sleep(Duration::from_secs(1));
            let now = self.lost()?;
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

    fn engine(&mut self) -> anyhow::Result<()> {
        match self.random.below(4) {
            0 => {
                let pid = self.stack.engine.pid().context("the engine runs")?;
                let group = Pid::from_raw(i32::try_from(pid)?);
                killpg(group, Signal::SIGSTOP)?;
                self.pause(Duration::from_secs(4));
                killpg(group, Signal::SIGCONT)?;
            }
            1 => {
                let late = Duration::from_millis(self.random.below(500));
                self.streams.set(Mood::Slow(late));
                self.pause(Duration::from_secs(4));
            }
            2 => {
                self.streams.set(Mood::NoAnswer);
                self.pause(Duration::from_secs(3));
            }
            _ => {
                self.streams.set(Mood::Refuse);
                self.pause(Duration::from_secs(2));
            }
        }
        self.streams.set(Mood::Pass);
        Ok(())
    }

    fn jump(&mut self) -> anyhow::Result<()> {
        let seconds = self.random.below(4 * 3_600) as i64 - 2 * 3_600;
        if let Some(clock) = &self.clock {
            set_clock(clock, seconds)?;
        }
        self.pause(Duration::from_secs(3));
        Ok(())
    }

    fn swap(&mut self) -> anyhow::Result<()> {
        let old = self.old.clone().filter(|_| self.random.below(2) == 0);
        let folder = old.unwrap_or_else(|| self.new.clone());
        let which = self.random.below(u64::from(EDGES) + 1) as usize;
        let member = match which.checked_sub(1) {
            Some(edge) => &mut self.stack.edges[edge],
            None => &mut self.stack.aggregator,
        };
        member.program_from(&folder);
        if self.random.below(2) == 0 {
            member.stop()?;
        }
        member.restart()?;
        self.kills += 1;
        self.pause(Duration::from_secs(2));
        Ok(())
    }
}

/// Edges' journals first, then aggregator and engine.
fn mount_disks(dir: &Path) -> anyhow::Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for node in 1..=EDGES {
        let journal = dir.join(format!("edge-{node}/journal"));
        disks.push(Disk::mount(&journal, SMALL_DISK)?);
    }
    disks.push(Disk::mount(&dir.join("aggregator"), SMALL_DISK)?);
    disks.push(Disk::mount(&dir.join("clickhouse"), ENGINE_DISK)?);
    Ok(disks)
}

fn fake_clock(file: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let library = FAKETIME.into_iter().find(|path| Path::new(path).is_file());
    ensure!(
        library.is_some(),
        "libfaketime is needed to set processes' clocks; install it: apt-get install faketime"
    );
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    set_clock(file, 0)?;
    let settings = [
        ("LD_PRELOAD", library.unwrap_or_default().to_owned()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_RESET", "1".to_owned()),
    ];
    Ok(settings
        .map(|(name, value)| (name.to_owned(), value))
        .into())
}

/// Puts the clocks so many seconds ahead, in one step.
fn set_clock(file: &Path, seconds: i64) -> anyhow::Result<()> {
    let beside = file.with_extension("tmp");
    fs::write(&beside, format!("{seconds:+}\n"))?;
    Ok(fs::rename(beside, file)?)
}
