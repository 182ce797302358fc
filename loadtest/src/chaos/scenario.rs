//! What can go wrong, and which of it a scenario has.

use clap::ValueEnum;
use serde::Serialize;

/// What goes wrong in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Edges are killed (SIGKILL), one time in ten while they start.
    KillEdge,
    /// The aggregator is killed, one time in ten while it starts.
    KillAggregator,
    /// ClickHouse is killed, one time in ten while it starts.
    KillEngine,
    /// The way between edges and aggregator is cut, in one direction or both, slow, or lossy.
    Partition,
    /// The disks of edges, aggregator or ClickHouse fill up. Needs root.
    DiskFull,
    /// Nothing can be shipped under twice the load, until edges' journals are full.
    SpoolFull,
    /// ClickHouse stands still, is slow, refuses, or takes a block and never says so.
    SlowEngine,
    /// The clocks of edges and aggregator jump. Needs libfaketime.
    ClockJump,
    /// Edges and aggregator are replaced by an older build and back. Needs --old.
    Upgrade,
    /// All that needs nothing more, in any order.
    Everything,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    KillEdge,
    KillAggregator,
    KillEngine,
    Network,
    DiskFull,
    SpoolFull,
    Engine,
    Clock,
    Swap,
}

impl Scenario {
    /// What it does, each as often as another.
    pub(super) const fn faults(self) -> &'static [Fault] {
        match self {
            Self::KillEdge => &[Fault::KillEdge],
            Self::KillAggregator => &[Fault::KillAggregator],
            Self::KillEngine => &[Fault::KillEngine],
            Self::Partition => &[Fault::Network],
            Self::DiskFull => &[Fault::DiskFull],
            Self::SpoolFull => &[Fault::SpoolFull],
            Self::SlowEngine => &[Fault::Engine],
            Self::ClockJump => &[Fault::Clock],
            Self::Upgrade => &[Fault::Swap],
            Self::Everything => &[
                Fault::KillEdge,
                Fault::KillAggregator,
                Fault::KillEngine,
                Fault::Network,
                Fault::Engine,
            ],
        }
    }

    /// How many faults a round has, unless told.
    pub(super) const fn faults_per_round(self) -> u32 {
        match self {
            Self::KillEdge | Self::KillAggregator => 50,
            Self::KillEngine => 20,
            Self::Partition | Self::SlowEngine | Self::ClockJump | Self::Everything => 12,
            Self::Upgrade => 6,
            Self::DiskFull => 3,
            Self::SpoolFull => 1,
        }
    }

    /// Requests a second, of what is usual.
    pub(super) const fn load(self) -> f64 {
        match self {
            Self::SpoolFull | Self::DiskFull => 2.0,
            _ => 1.0,
        }
    }

    /// Whether clicks may be lost, each counted by the edge.
    pub(super) const fn may_lose(self) -> bool {
        matches!(self, Self::SpoolFull | Self::DiskFull)
    }
}
