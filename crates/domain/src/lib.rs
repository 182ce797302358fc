//! The values that all components share, and the rules that follow from them alone: ids, times, money, the status of
//! conversions, and the tiers of identity checks.
//!
//! Formats and storage are defined elsewhere in terms of these values. Invariant: no files, sockets or SQL here; the
//! only input is the system clock in [`Micros::now`]. Functions compiled to WebAssembly use this crate, too.
#![forbid(unsafe_code)]

mod conversion;
mod currency;
mod ids;
mod kyc;
mod money;
mod names;
mod time;

pub use conversion::{ConversionKind, ConversionStatus};
pub use currency::Currency;
pub use ids::{AdvertiserId, AffiliateId, LaneId, LinkId, NetworkId, NodeId, Seq, VisitorId};
pub use kyc::{KycStanding, KycStatus, TIERS, Tier};
pub use money::{CostMicros, Money};
pub use names::UnknownName;
pub use time::Micros;
