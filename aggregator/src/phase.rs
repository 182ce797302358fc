//! The phase that the aggregator is in, from serving to the end of its shutdown.

/// The progress of a shutdown, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Batches are read and acknowledged.
    Serving,
    /// Batches are only acknowledged.
    Draining,
    /// Connections are closed.
    Closing,
}
