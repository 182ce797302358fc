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
    /// The way between edges and aggregator is cut, in one direction or both, slow, or lossy. As root, edges
    /// also have networks of their own whose cables are pulled.
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
    /// An intruder has the certificate and a copy of the directory of an edge.
    StolenCertificate,
    /// Directories of edges are restored from older copies.
    RestoredEdge,
    /// Directories of edges are cloned, and both edges go on.
    ClonedEdge,
    /// The aggregator loses its spool or its store, or has an older backup put back, while sales are reported.
    LostAggregator,
    /// Reports of the same sales arrive out of order, those of an edge that was cut off last.
    LateReports,
    /// The clocks of edges jump by days and years. Needs libfaketime.
    WrongClock,
    /// All that loses nothing and is possible here, several at a time.
    Everything,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL of an edge…
    KillEdge,
    /// …the aggregator…
    KillAggregator,
    /// …or ClickHouse.
    KillEngine,
    /// Packets between edges and aggregator fare badly.
    Packets,
    /// The network of an edge's own has trouble.
    Cable,
    /// An edge's disk is full…
    EdgeDisk,
    /// …or the aggregator's, or ClickHouse's.
    CentralDisk,
    /// Nothing is shipped until journals are full.
    SpoolFull,
    /// ClickHouse stands still.
    EngineStops,
    /// ClickHouse's answers fare badly.
    Answers,
    /// Clocks jump.
    Clock,
    /// An edge is replaced by another build…
    SwapEdge,
    /// …or the aggregator.
    SwapAggregator,
    /// An edge's directory is restored…
    RestoreEdge,
    /// …or cloned.
    CloneEdge,
    /// An intruder tries what its certificate may allow.
    StolenCertificate,
    /// The aggregator loses a directory.
    LoseAggregator,
    /// Reports arrive out of order.
    LateReports,
    /// The clock of one edge jumps far.
    WrongClock,
}

impl Fault {
    /// Whether it needs processes, directories and settings of the whole fleet, so that nothing else may happen
    /// meanwhile.
    pub(super) const fn concerns_the_fleet(self) -> bool {
        matches!(
            self,
            Self::RestoreEdge
                | Self::CloneEdge
                | Self::StolenCertificate
                | Self::LoseAggregator
                | Self::LateReports
        )
    }

    /// Whether simulated edges report sales.
    pub(super) const fn reports_sales(self) -> bool {
        matches!(self, Self::LoseAggregator | Self::LateReports)
    }
}

impl Scenario {
    /// What it does, as far as it is possible.
    pub(super) const fn faults(self) -> &'static [Fault] {
        match self {
            Self::KillEdge => &[Fault::KillEdge],
            Self::KillAggregator => &[Fault::KillAggregator],
            Self::KillEngine => &[Fault::KillEngine],
            Self::Partition => &[Fault::Packets, Fault::Cable],
            Self::DiskFull => &[Fault::EdgeDisk, Fault::CentralDisk],
            Self::SpoolFull => &[Fault::SpoolFull],
            Self::SlowEngine => &[Fault::EngineStops, Fault::Answers],
            Self::ClockJump => &[Fault::Clock],
            Self::Upgrade => &[Fault::SwapEdge, Fault::SwapAggregator],
            Self::StolenCertificate => &[Fault::StolenCertificate],
            Self::RestoredEdge => &[Fault::RestoreEdge],
            Self::ClonedEdge => &[Fault::CloneEdge],
            Self::LostAggregator => &[Fault::LoseAggregator],
            Self::LateReports => &[Fault::LateReports],
            Self::WrongClock => &[Fault::WrongClock],
            Self::Everything => &[
                Fault::KillEdge,
                Fault::KillAggregator,
                Fault::KillEngine,
                Fault::Packets,
                Fault::Cable,
                Fault::CentralDisk,
                Fault::EngineStops,
                Fault::Answers,
                Fault::Clock,
                Fault::SwapEdge,
                Fault::SwapAggregator,
            ],
        }
    }

    /// Whether it goes on without `fault` where that is not possible.
    pub(super) const fn can_do_without(self, fault: Fault) -> bool {
        match self {
            Self::Everything => true,
            Self::Partition => matches!(fault, Fault::Cable),
            _ => false,
        }
    }

    /// How many faults a round has, unless told.
    pub(super) const fn faults_per_round(self) -> u32 {
        match self {
            Self::KillEdge | Self::KillAggregator | Self::Everything => 50,
            Self::KillEngine => 20,
            Self::Partition | Self::SlowEngine | Self::ClockJump => 12,
            Self::StolenCertificate => 20,
            Self::LateReports => 10,
            Self::Upgrade | Self::WrongClock => 6,
            Self::RestoredEdge | Self::ClonedEdge | Self::LostAggregator => 3,
            Self::DiskFull => 4,
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
