//! Ids as numbers with a meaning, so that a wrong argument does not compile.

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
pub(crate) use number;

number! {
    /// A link's number, unique among all links and never given to another link.
    LinkId(u32)
}
number! {
    /// A network's number (tenant): it owns advertisers, offers, affiliates and links.
    NetworkId(u32)
}
number! {
    /// An affiliate's number, never given to another affiliate.
    AffiliateId(u32)
}
number! {
    /// An advertiser's number, never given to another advertiser.
    AdvertiserId(u32)
}
number! {
    /// An edge node's number, unique in the fleet; 0 is no node.
    NodeId(u16)
}
number! {
    /// The number of a lane (one worker's journal) on its node.
    LaneId(u8)
}
number! {
    /// An event's sequence in its lane: it increases, never repeats, and may skip values after a restart.
    Seq(u64)
}
number! {
    /// A visitor as a keyed hash with a rotating salt: the same visitor has another id in the next period.
    VisitorId(u64)
}
