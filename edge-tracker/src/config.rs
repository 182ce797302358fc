//! The configuration from the control plane: received from the aggregator, kept on disk, and in use.
//!
//! Invariant: the edge uses a version only once the whole of it is durable on its disk, and a version that it can't use
//! changes nothing.

mod disk;
mod session;
mod status;
mod target;

pub use session::ConfigClient;
pub use status::ConfigStatus;
pub use target::LinkTarget;
pub(crate) use target::open;
