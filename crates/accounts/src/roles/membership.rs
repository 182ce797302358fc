//! Roles, where a user has its role, and the extents of grants.

use domain::{AdvertiserId, AffiliateId, NetworkId};
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// A role of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Operates the deployment: everything in all networks.
    Admin,
    /// Operates one network.
    Manager,
    /// Reads everything of one network, without personal data of users and without secrets.
    Analyst,
    /// Publishes links of one affiliate.
    Affiliate,
    /// Owns the offers of one advertiser.
    Advertiser,
}

impl Role {
    /// Every role, in the order of the table's columns.
    pub const ALL: [Self; 5] = [
        Self::Admin,
        Self::Manager,
        Self::Analyst,
        Self::Affiliate,
        Self::Advertiser,
    ];

    /// The name in the API, in SQL and in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::Analyst => "analyst",
            Self::Affiliate => "affiliate",
            Self::Advertiser => "advertiser",
        }
    }

    /// The role with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The objects that a grant covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// No object: the role lacks the action.
    None,
    /// The user's own objects, such as its sessions.
    OwnUser,
    /// Objects of the user's affiliate.
    OwnAffiliate,
    /// Objects of the user's advertiser.
    OwnAdvertiser,
    /// Objects of the user's network.
    OwnNetwork,
    /// Objects of all networks, and those of the deployment itself.
    AllNetworks,
}

impl Extent {
    /// The text in docs/roles.md.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "–",
            Self::OwnUser => "own user",
            Self::OwnAffiliate => "own affiliate",
            Self::OwnAdvertiser => "own advertiser",
            Self::OwnNetwork => "own network",
            Self::AllNetworks => "all networks",
        }
    }
}

/// A user's role and where the user has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase", deny_unknown_fields)]
pub enum Membership {
    /// An admin of all networks.
    Admin,
    /// A manager of a network.
    Manager {
        /// The network.
        network: NetworkId,
    },
    /// An analyst of a network.
    Analyst {
        /// The network.
        network: NetworkId,
    },
    /// A user of an affiliate.
    Affiliate {
        /// The network.
        network: NetworkId,
        /// The affiliate; `None` until the user has applied. Such a user sees no affiliate's objects.
        affiliate: Option<AffiliateId>,
    },
    /// A user of an advertiser.
    Advertiser {
        /// The network.
        network: NetworkId,
        /// The advertiser.
        advertiser: AdvertiserId,
    },
}

/// A combination of role, network, affiliate and advertiser that no user can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "not a membership: an admin has no network; a manager or analyst has a network; an affiliate has a network and may \
     have an affiliate; an advertiser has a network and an advertiser"
)]
pub struct InvalidMembership;

impl Membership {
    /// The role.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::Admin => Role::Admin,
            Self::Manager { .. } => Role::Manager,
            Self::Analyst { .. } => Role::Analyst,
            Self::Affiliate { .. } => Role::Affiliate,
            Self::Advertiser { .. } => Role::Advertiser,
        }
    }

    /// The network; `None` for an admin.
    #[must_use]
    pub const fn network(self) -> Option<NetworkId> {
        match self {
            Self::Admin => None,
            Self::Manager { network }
            | Self::Analyst { network }
            | Self::Affiliate { network, .. }
            | Self::Advertiser { network, .. } => Some(network),
        }
    }

    /// The affiliate, of a user of one.
    #[must_use]
    pub const fn affiliate(self) -> Option<AffiliateId> {
        match self {
            Self::Affiliate { affiliate, .. } => affiliate,
            _ => None,
        }
    }

    /// The advertiser, of a user of one.
    #[must_use]
    pub const fn advertiser(self) -> Option<AdvertiserId> {
        match self {
            Self::Advertiser { advertiser, .. } => Some(advertiser),
            _ => None,
        }
    }

    /// The membership with these parts.
    ///
    /// # Errors
    /// When the parts do not fit the role.
    pub const fn from_parts(
        role: Role,
        network: Option<NetworkId>,
        affiliate: Option<AffiliateId>,
        advertiser: Option<AdvertiserId>,
    ) -> Result<Self, InvalidMembership> {
        match (role, network, affiliate, advertiser) {
            (Role::Admin, None, None, None) => Ok(Self::Admin),
            (Role::Manager, Some(network), None, None) => Ok(Self::Manager { network }),
            (Role::Analyst, Some(network), None, None) => Ok(Self::Analyst { network }),
            (Role::Affiliate, Some(network), affiliate, None) => {
                Ok(Self::Affiliate { network, affiliate })
            }
            (Role::Advertiser, Some(network), None, Some(advertiser)) => Ok(Self::Advertiser {
                network,
                advertiser,
            }),
            _ => Err(InvalidMembership),
        }
    }
}
