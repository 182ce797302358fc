//! The phase that the aggregator is in, from serving to the end of its shutdown.

/// The progress of a shutdown, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Reading and acknowledging.
    Serving,
    /// Acknowledging only.
    Draining,
    /// Closing connections.
    Closing,
}
