//! The decision whether a principal may do something to an object.

use super::actions::Action;
use super::membership::{Extent, Membership};
use super::scopes::Scopes;
use crate::ids::{KeyId, SessionId, UserId};
use domain::{AdvertiserId, AffiliateId, Micros, NetworkId};
use thiserror::Error;

/// How a principal proved its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The cookie of a session.
    Session(SessionId),
    /// An API key.
    Key(KeyId),
    /// A token of the sign-on provider.
    AccessToken,
}

/// An authenticated user with what it may do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: UserId,
    /// The user's role and where it has it.
    pub membership: Membership,
    /// The scopes: those of the role, or fewer with a key or token.
    pub scopes: Scopes,
    /// How the user was authenticated.
    pub credential: Credential,
    /// When the key or token expires; `None` for a session, whose end follows from its use.
    pub expires: Option<Micros>,
    /// Whether the user has repeated its password for this request.
    pub(crate) is_confirmed: bool,
}

impl Principal {
    /// A principal with those of `scopes` that the role has.
    #[must_use]
    pub fn new(
        user: UserId,
        membership: Membership,
        scopes: Scopes,
        credential: Credential,
    ) -> Self {
        let scopes = scopes.intersection(Scopes::of_role(membership.role()));
        Self {
            user,
            membership,
            scopes,
            credential,
            expires: None,
            is_confirmed: false,
        }
    }

    /// Sets when the credential expires.
    #[must_use]
    pub fn until(self, expires: Option<Micros>) -> Self {
        Self { expires, ..self }
    }
}

/// The owners of an object. An object of the deployment itself, such as an edge, has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectOwner {
    /// The network.
    pub network: Option<NetworkId>,
    /// The affiliate, of links, applications, conversions and others.
    pub affiliate: Option<AffiliateId>,
    /// The advertiser, of offers, conversions and others.
    pub advertiser: Option<AdvertiserId>,
    /// The user, of keys, sessions and the user itself.
    pub user: Option<UserId>,
}

impl ObjectOwner {
    /// The owner of an object of a network, such as a platform.
    #[must_use]
    pub fn network(network: NetworkId) -> Self {
        Self {
            network: Some(network),
            ..Self::default()
        }
    }

    /// Adds the affiliate.
    #[must_use]
    pub const fn with_affiliate(mut self, affiliate: AffiliateId) -> Self {
        self.affiliate = Some(affiliate);
        self
    }

    /// Adds the advertiser.
    #[must_use]
    pub const fn with_advertiser(mut self, advertiser: AdvertiserId) -> Self {
        self.advertiser = Some(advertiser);
        self
    }

    /// The owner of a user with this membership, and of its keys and sessions.
    #[must_use]
    pub fn user(user: UserId, membership: Membership) -> Self {
        Self {
            network: membership.network(),
            affiliate: membership.affiliate(),
            advertiser: membership.advertiser(),
            user: Some(user),
        }
    }
}

/// Why a principal may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denied {
    /// The role, key or token lacks the scope.
    #[error("the scope {} is missing; use a key or a user that has it", .0.scope())]
    MissingScope(Action),
    /// There is no such object, or it belongs to another owner; the difference is not revealed.
    #[error("there is no such object")]
    NotFound,
}

/// The objects that a principal reaches with an action; a list is filtered by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visibility {
    /// No objects: the user has no affiliate yet.
    Nothing,
    /// The user's own.
    User(UserId),
    /// Those of an affiliate of a network.
    Affiliate(NetworkId, AffiliateId),
    /// Those of an advertiser of a network.
    Advertiser(NetworkId, AdvertiserId),
    /// Those of a network.
    Network(NetworkId),
    /// All.
    AllNetworks,
}

impl Visibility {
    /// Whether an object with this owner is among them.
    #[must_use]
    pub fn contains(&self, owner: &ObjectOwner) -> bool {
        match self {
            Self::Nothing => false,
            Self::User(user) => owner.user.as_ref() == Some(user),
            Self::Affiliate(network, affiliate) => {
                owner.network == Some(*network) && owner.affiliate == Some(*affiliate)
            }
            Self::Advertiser(network, advertiser) => {
                owner.network == Some(*network) && owner.advertiser == Some(*advertiser)
            }
            Self::Network(network) => owner.network == Some(*network),
            Self::AllNetworks => true,
        }
    }
}

/// The objects on which `principal` may do `action`. An API calls it before it looks for any object.
///
/// # Errors
/// When the scope is missing.
pub fn visibility(principal: &Principal, action: Action) -> Result<Visibility, Denied> {
    if !principal.scopes.contains(action) {
        return Err(Denied::MissingScope(action));
    }
    let membership = principal.membership;
    let network = membership.network();
    Ok(match action.extent(membership.role()) {
        Extent::None => return Err(Denied::MissingScope(action)),
        Extent::OwnUser => Visibility::User(principal.user.clone()),
        Extent::OwnAffiliate => network
            .zip(membership.affiliate())
            .map_or(Visibility::Nothing, |(network, affiliate)| {
                Visibility::Affiliate(network, affiliate)
            }),
        Extent::OwnAdvertiser => network
            .zip(membership.advertiser())
            .map_or(Visibility::Nothing, |(network, advertiser)| {
                Visibility::Advertiser(network, advertiser)
            }),
        Extent::OwnNetwork => network.map_or(Visibility::Nothing, Visibility::Network),
        Extent::AllNetworks => Visibility::AllNetworks,
    })
}

/// Decides whether `principal` may do `action` to the object with this owner; `None` stands for an object that does not
/// exist, so that its denial is the same as that of a foreign one.
///
/// # Errors
/// When it may not. A missing scope is reported whether the object exists or not.
pub fn authorize(
    principal: &Principal,
    action: Action,
    owner: Option<&ObjectOwner>,
) -> Result<(), Denied> {
    let visible = visibility(principal, action)?;
    if owner.is_some_and(|owner| visible.contains(owner)) {
        Ok(())
    } else {
        Err(Denied::NotFound)
    }
}
