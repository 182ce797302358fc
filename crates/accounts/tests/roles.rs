//! The table of roles: every action for every role on own and foreign objects, and its document.
#![allow(missing_docs)]

mod common;

use accounts::roles::{Extent, Visibility, authorize, document, visibility};
use accounts::*;
use common::MEMBERSHIPS;
use domain::{AdvertiserId, AffiliateId, NetworkId};

fn user(text: &str) -> UserId {
    UserId::try_from(format!("usr_{text:0>22}")).expect("an id")
}

fn principal(membership: Membership) -> Principal {
    let credential = Credential::AccessToken;
    Principal::new(user("own"), membership, Scopes::ALL, credential)
}

/// Objects with the smallest extent of each kind that covers them, for the principals of [`MEMBERSHIPS`].
fn objects() -> Vec<(&'static str, ObjectOwner, Vec<Extent>)> {
    use Extent::{AllNetworks, OwnAdvertiser, OwnAffiliate, OwnNetwork, OwnUser};
    let network = ObjectOwner::network(NetworkId(1));
    let foreign = ObjectOwner::network(NetworkId(2));
    let (own_affiliate, own_advertiser) = (AffiliateId(11), AdvertiserId(21));
    vec![
        (
            "of the deployment",
            ObjectOwner::default(),
            vec![AllNetworks],
        ),
        (
            "of the network",
            network.clone(),
            vec![AllNetworks, OwnNetwork],
        ),
        ("of a foreign network", foreign.clone(), vec![AllNetworks]),
        (
            "of the affiliate",
            network.clone().with_affiliate(own_affiliate),
            vec![AllNetworks, OwnNetwork, OwnAffiliate],
        ),
        (
            "of a foreign affiliate",
            network.clone().with_affiliate(AffiliateId(12)),
            vec![AllNetworks, OwnNetwork],
        ),
        (
            "of an affiliate with the same number in a foreign network",
            foreign.clone().with_affiliate(own_affiliate),
            vec![AllNetworks],
        ),
        (
            "of the advertiser",
            network.clone().with_advertiser(own_advertiser),
            vec![AllNetworks, OwnNetwork, OwnAdvertiser],
        ),
        (
            "of a foreign advertiser",
            network.clone().with_advertiser(AdvertiserId(22)),
            vec![AllNetworks, OwnNetwork],
        ),
        (
            "a conversion of both",
            network
                .clone()
                .with_affiliate(own_affiliate)
                .with_advertiser(own_advertiser),
            vec![AllNetworks, OwnNetwork, OwnAffiliate, OwnAdvertiser],
        ),
        (
            "of the advertiser's number in a foreign network",
            foreign.with_advertiser(own_advertiser),
            vec![AllNetworks],
        ),
        (
            "of the user alone",
            ObjectOwner {
                user: Some(user("own")),
                ..ObjectOwner::default()
            },
            vec![AllNetworks, OwnUser],
        ),
        (
            "of another user of the network",
            ObjectOwner {
                user: Some(user("other")),
                ..network
            },
            vec![AllNetworks, OwnNetwork],
        ),
    ]
}

#[test]
fn every_action_reaches_only_its_extent() {
    let mut decisions = 0;
    for membership in MEMBERSHIPS {
        let principal = principal(membership);
        for action in Action::ALL.iter().copied() {
            let extent = action.extent(membership.role());
            for (name, owner, covering) in objects() {
                let expected = match extent {
                    Extent::None => Err(Denied::MissingScope(action)),
                    extent if covering.contains(&extent) => Ok(()),
                    _ => Err(Denied::NotFound),
                };
                let decided = authorize(&principal, action, Some(&owner));
                assert_eq!(decided, expected, "{membership:?} {action:?} {name}");
                decisions += 1;
            }
        }
    }
    assert_eq!(decisions, 5 * Action::ALL.len() * objects().len());
}

#[test]
fn foreign_and_missing_objects_are_denied_identically() {
    for membership in MEMBERSHIPS {
        let principal = principal(membership);
        for action in Action::ALL.iter().copied() {
            let missing = authorize(&principal, action, None);
            assert!(missing.is_err(), "{membership:?} {action:?}");
            let foreign = ObjectOwner::network(NetworkId(2)).with_affiliate(AffiliateId(12));
            if membership != Membership::Admin {
                assert_eq!(authorize(&principal, action, Some(&foreign)), missing);
            }
        }
    }
}

#[test]
fn key_without_scope_is_denied_with_its_name() {
    let scopes = Scopes::parse("links.read offers.read").expect("scopes");
    for membership in MEMBERSHIPS {
        let principal = Principal::new(user("own"), membership, scopes, Credential::AccessToken);
        let own = ObjectOwner::network(NetworkId(1)).with_affiliate(AffiliateId(11));
        let denied = authorize(&principal, Action::LinksWrite, Some(&own));
        let denied = denied.expect_err("no scope");
        assert_eq!(denied, Denied::MissingScope(Action::LinksWrite));
        assert!(denied.to_string().contains("links.write"), "{denied}");
        let read = authorize(&principal, Action::LinksRead, Some(&own));
        assert_eq!(
            read.is_ok(),
            membership.role() != Role::Advertiser,
            "{membership:?}"
        );
    }
}

#[test]
fn affiliate_user_without_affiliate_sees_none() {
    let network = NetworkId(1);
    let principal = principal(Membership::Affiliate {
        network,
        affiliate: None,
    });
    let links = visibility(&principal, Action::LinksRead);
    assert_eq!(links, Ok(Visibility::Nothing));
    let of_none = ObjectOwner::network(network);
    let read = authorize(&principal, Action::LinksRead, Some(&of_none));
    assert_eq!(read, Err(Denied::NotFound));
    let offer = authorize(&principal, Action::OffersRead, Some(&of_none));
    assert_eq!(offer, Ok(()));
}

#[test]
fn table_keeps_its_rules() {
    for action in Action::ALL.iter().copied() {
        let extents = Role::ALL.map(|role| action.extent(role));
        let [admin, manager, analyst, affiliate, advertiser] = extents;
        let writes = !action.scope().ends_with(".read");
        assert_eq!(admin, Extent::AllNetworks, "{action:?}");
        assert_ne!(manager, Extent::AllNetworks, "{action:?}");
        let is_own = |extent| matches!(extent, Extent::None | Extent::OwnUser);
        let is_export = action == Action::CatalogExport;
        assert!(!writes || is_own(analyst) || is_export, "{action:?}");
        let shared = ["networks", "platforms", "offers", "creatives"];
        let (resource, _) = action.scope().split_once('.').expect("resource.verb");
        for extent in [affiliate, advertiser] {
            let is_network = extent == Extent::OwnNetwork;
            assert!(
                !is_network || shared.contains(&resource) && !writes,
                "{action:?}"
            );
        }
        assert_ne!(affiliate, Extent::OwnAdvertiser, "{action:?}");
        assert_ne!(advertiser, Extent::OwnAffiliate, "{action:?}");
    }
}

#[test]
fn scopes_are_read_as_they_are_written() {
    for role in Role::ALL {
        let scopes = Scopes::of_role(role);
        assert_eq!(Scopes::parse(&scopes.to_text()), Ok(scopes));
        assert!(Scopes::ALL.intersection(scopes) == scopes && !scopes.is_empty());
    }
    assert_eq!(
        Scopes::parse("  links.read\tlinks.read "),
        Scopes::parse("links.read")
    );
    for unknown in [
        "links",
        "links.Read",
        "links.read,links.write",
        "*",
        &"x".repeat(999),
    ] {
        let error = Scopes::parse(unknown).expect_err(unknown).to_string();
        assert!(
            error.len() < 140 && error.contains("docs/roles.md"),
            "{error}"
        );
    }
}

#[test]
fn roles_document_is_current() {
    let committed = include_str!("../../../docs/roles.md");
    let command = "cargo run -p accounts --example roles_document > docs/roles.md";
    assert!(
        committed == document(),
        "docs/roles.md differs from the table; run: {command}"
    );
}
