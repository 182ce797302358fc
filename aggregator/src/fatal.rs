//! Why an aggregator ends by itself: going on would store something twice or out of order.

use thiserror::Error;

/// What only an operator can decide.
#[derive(Debug, Error)]
pub enum FatalError {
    /// Another aggregator works in this one's place.
    #[error(
        "{spool}: another spool has taken over as generation {generation} of instance {instance:?}; what is in this \
         one was sent again to that aggregator, so it must not be inserted. If this aggregator is to take over, remove \
         {spool} and start again: edges have all that is missing. If both are to work, give each its own `instance`"
    )]
    Superseded {
        /// The directory.
        spool: String,
        /// The name in the settings.
        instance: String,
        /// The generation of the spool that took over.
        generation: u64,
    },
    /// An empty store where one with reports is expected.
    #[error("[store] {0}")]
    EmptyStore(String),
}
