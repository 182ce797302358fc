//! Errors that end the aggregator, because continuing would store events twice or out of order.

use thiserror::Error;

/// A situation that only an operator can resolve.
#[derive(Debug, Error)]
pub enum FatalError {
    /// Another aggregator has taken over from this one.
    #[error(
        "{spool}: another spool has taken over as generation {generation} of instance {instance:?}. Edges sent the \
         events of this spool to that aggregator again, so they must not be inserted. To take over with this aggregator, \
         remove {spool} and start again: edges have all missing events. To run both, give each its own `instance`"
    )]
    Superseded {
        /// The spool's directory.
        spool: String,
        /// The name in the settings.
        instance: String,
        /// The generation of the spool that took over.
        generation: u64,
    },
    /// The store is empty, although ClickHouse has evaluated reports.
    #[error("[store] {0}")]
    EmptyStore(String),
}
