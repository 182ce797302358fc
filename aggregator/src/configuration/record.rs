//! A link of the catalog as a resource of edges.

use catalog::{LinkState, Named, ResolvedLink};
use edge_config::{Change, LinkRecord, NamedId, ResourceKey};

/// The resource of a link.
pub(super) fn resource(link: &ResolvedLink) -> (ResourceKey, Vec<u8>) {
    let record = LinkRecord {
        id: link.id.0,
        domain: link.domain.clone(),
        slug: link.slug.clone(),
        destination: link.destination.clone(),
        fallback: link.fallback.clone(),
        code: link.code,
        is_paused: link.state != LinkState::Active,
        pass_query: link.pass_query,
        append_click_id: link.append_click_id,
        network: link.network.id.0,
        advertiser: link.advertiser.id.0,
        offer: named(link.offer.id.0, &link.offer),
        campaign: named(link.campaign.id.0, &link.campaign),
        affiliate: named(link.affiliate.id.0, &link.affiliate),
        creative: link.creative.as_ref().map_or(0, |it| it.id.0),
        terms: link.terms.as_ref().map_or(0, |it| it.id.0),
    };
    (ResourceKey::link(link.id.0), record.encode())
}

/// The change to a link.
pub(super) fn change(link: &ResolvedLink) -> Change {
    let (key, content) = resource(link);
    Change {
        key,
        content: Some(content),
    }
}

fn named<I>(id: u32, named: &Named<I>) -> NamedId {
    NamedId {
        id,
        name: named.name.to_string(),
    }
}
