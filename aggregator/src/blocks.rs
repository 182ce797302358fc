//! Blocks on disk: which batches make which insert, and up to where ClickHouse has each lane.
//! What an event is, and ClickHouse, are not known here.

mod block;
mod checkpoint;
mod sealed;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use block::{Block, Entry};
pub(crate) use checkpoint::Checkpoint;
pub(crate) use store::{Recovered, Store, StoreError};
