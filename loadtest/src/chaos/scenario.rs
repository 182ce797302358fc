//! Scenarios and their faults.

use clap::ValueEnum;
use serde::Serialize;

/// A scenario of a chaos run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Edges are killed (SIGKILL), one time in ten during start-up.
    KillEdge,
    /// The aggregator is killed, one time in ten during start-up.
    KillAggregator,
    /// ClickHouse is killed, one time in ten during start-up.
    KillEngine,
    /// The network between edges and aggregator is cut in one or both directions, slow or lossy. As root, edges
    /// also have network namespaces whose links are broken.
    Partition,
    /// The disks of edges, aggregator or ClickHouse fill up. Needs root.
    DiskFull,
    /// Shipping is blocked under double load until edges' journals are full.
    SpoolFull,
    /// ClickHouse stalls, is slow, rejects blocks, or accepts a block without a response.
    SlowEngine,
    /// The clocks of edges and aggregator jump. Needs libfaketime.
    ClockJump,
    /// Edges and aggregator are replaced by an older build and back. Needs --old.
    Upgrade,
    /// An intruder has the certificate and a copy of the directory of an edge.
    StolenCertificate,
    /// Directories of edges are restored from older copies.
    RestoredEdge,
    /// Directories of edges are cloned, and both edges continue.
    ClonedEdge,
    /// The aggregator loses its spool or store, or an older backup is restored, while sales are reported.
    LostAggregator,
    /// Reports of the same sales arrive out of order; those of a disconnected edge arrive last.
    LateReports,
    /// Edges' clocks jump by days and years. Needs libfaketime.
    WrongClock,
    /// Two of three edges are drained and removed with their directories, then added again. Some are killed during the
    /// drain; another edge's host adopts their directories.
    ScaleIn,
    /// All faults that lose no events and that this machine supports, several at a time.
    Everything,
}

/// A single fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// An edge is killed (SIGKILL).
    KillEdge,
    /// The aggregator is killed.
    KillAggregator,
    /// ClickHouse is killed.
    KillEngine,
    /// Packets between edges and aggregator are dropped, delayed or duplicated.
    Packets,
    /// The network link of an edge's namespace is broken.
    Link,
    /// An edge's disk is full.
    EdgeDisk,
    /// The disk of the aggregator or of ClickHouse is full.
    CentralDisk,
    /// Shipping is blocked until journals are full.
    SpoolFull,
    /// ClickHouse is suspended.
    EngineStalls,
    /// ClickHouse's responses are delayed, lost or replaced.
    Responses,
    /// The shared clock jumps.
    Clock,
    /// An edge is replaced by another build.
    SwapEdge,
    /// The aggregator is replaced by another build.
    SwapAggregator,
    /// An edge's directory is restored from a copy.
    RestoreEdge,
    /// An edge's directory is cloned.
    CloneEdge,
    /// An intruder uses an edge's certificate.
    StolenCertificate,
    /// The aggregator loses a data directory.
    LoseAggregator,
    /// Reports arrive out of order.
    LateReports,
    /// The clock of one edge jumps far.
    WrongClock,
    /// Edges are removed and added.
    ScaleIn,
}

impl Fault {
    /// Whether it needs processes, directories and settings of the whole fleet, so that no other fault may run
    /// concurrently.
    pub(super) const fn needs_whole_fleet(self) -> bool {
        matches!(
            self,
            Self::RestoreEdge
                | Self::CloneEdge
                | Self::StolenCertificate
                | Self::LoseAggregator
                | Self::LateReports
                | Self::ScaleIn
        )
    }

    /// Whether simulated edges report sales.
    pub(super) const fn reports_sales(self) -> bool {
        matches!(self, Self::LoseAggregator | Self::LateReports)
    }
}

impl Scenario {
    /// Its faults, if the machine supports them.
    pub(super) const fn faults(self) -> &'static [Fault] {
        match self {
            Self::KillEdge => &[Fault::KillEdge],
            Self::KillAggregator => &[Fault::KillAggregator],
            Self::KillEngine => &[Fault::KillEngine],
            Self::Partition => &[Fault::Packets, Fault::Link],
            Self::DiskFull => &[Fault::EdgeDisk, Fault::CentralDisk],
            Self::SpoolFull => &[Fault::SpoolFull],
            Self::SlowEngine => &[Fault::EngineStalls, Fault::Responses],
            Self::ClockJump => &[Fault::Clock],
            Self::Upgrade => &[Fault::SwapEdge, Fault::SwapAggregator],
            Self::StolenCertificate => &[Fault::StolenCertificate],
            Self::RestoredEdge => &[Fault::RestoreEdge],
            Self::ClonedEdge => &[Fault::CloneEdge],
            Self::LostAggregator => &[Fault::LoseAggregator],
            Self::LateReports => &[Fault::LateReports],
            Self::WrongClock => &[Fault::WrongClock],
            Self::ScaleIn => &[Fault::ScaleIn],
            Self::Everything => &[
                Fault::KillEdge,
                Fault::KillAggregator,
                Fault::KillEngine,
                Fault::Packets,
                Fault::Link,
                Fault::CentralDisk,
                Fault::EngineStalls,
                Fault::Responses,
                Fault::Clock,
                Fault::SwapEdge,
                Fault::SwapAggregator,
            ],
        }
    }

    /// The number of edges.
    pub(super) const fn edges(self) -> u16 {
        match self {
            Self::ScaleIn => 3,
            _ => 2,
        }
    }

    /// Whether the scenario runs without `fault` where the machine does not support it.
    pub(super) const fn is_optional(self, fault: Fault) -> bool {
        match self {
            Self::Everything => true,
            Self::Partition => matches!(fault, Fault::Link),
            _ => false,
        }
    }

    /// Default number of faults per round.
    pub(super) const fn default_faults_per_round(self) -> u32 {
        match self {
            Self::KillEdge | Self::KillAggregator | Self::Everything => 50,
            Self::KillEngine => 20,
            Self::Partition | Self::SlowEngine | Self::ClockJump => 12,
            Self::StolenCertificate => 20,
            Self::LateReports => 10,
            Self::Upgrade | Self::WrongClock => 6,
            Self::RestoredEdge | Self::ClonedEdge | Self::LostAggregator | Self::ScaleIn => 3,
            Self::DiskFull => 4,
            Self::SpoolFull => 1,
        }
    }

    /// Factor of the request rate.
    pub(super) const fn rate_factor(self) -> f64 {
        match self {
            Self::SpoolFull | Self::DiskFull => 2.0,
            _ => 1.0,
        }
    }

    /// Whether clicks may be lost, if the edge counts each.
    pub(super) const fn may_lose_clicks(self) -> bool {
        matches!(self, Self::SpoolFull | Self::DiskFull)
    }
}
