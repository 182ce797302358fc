//! The settings of each kind of objects, and what makes them valid. Invariant: no SQL here.

mod advertiser;
mod affiliate;
mod campaign;
mod creative;
mod link;
mod network;
mod offer;
mod terms;

pub use advertiser::{Advertiser, AuthMethod, AuthMode, ConversionScope, Rounding, SignedPart};
pub use affiliate::{Affiliate, Application, PayoutMethod, PayoutSettings, PostbackSettings};
pub use campaign::Campaign;
pub use creative::{Creative, CreativeContent};
pub use link::Link;
pub use network::{Brand, DEFAULT_NETWORK, Network, Platform};
pub use offer::{Cap, CapMetric, CapPeriod, Destination, Offer, OfferAccess};
pub use terms::{EventTerms, Price, PriceTier, Terms, TermsOwner, TierMeasure, TierPeriod};
