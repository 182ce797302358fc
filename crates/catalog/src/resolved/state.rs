//! What follows for a link from its parents and the clock. Invariant: no SQL here.

use super::parents::Parents;
use super::{InactiveCause, LinkState, Named, ResolvedLink, Why};
use crate::error::CatalogError;
use crate::kind::{Kind, KindName, Object};
use crate::model::{Affiliate, Campaign, Link, Offer, OfferAccess};
use crate::status::{Activity, AffiliateStatus, ApplicationStatus};
use domain::{AffiliateId, Micros, OfferId};
use std::collections::HashMap;
use std::sync::Arc;

/// Resolves a link.
pub(super) fn resolve(
    link: Object<Link>,
    parents: &Parents,
    clock: Micros,
) -> Result<ResolvedLink, CatalogError> {
    let (campaign, campaign_name) = parents.campaigns.get(link.settings.campaign.0)?;
    let (offer, offer_name) = parents.offers.get(campaign.settings.offer.0)?;
    let (advertiser, advertiser_name) = parents.advertisers.get(offer.settings.advertiser.0)?;
    let (affiliate, affiliate_name) = parents.affiliates.get(campaign.settings.affiliate.0)?;
    let (network, network_name) = parents.networks.get(link.network.0)?;
    let creative = link.settings.creative;
    let creative = creative.map(|id| parents.creatives.get(id.0)).transpose()?;
    let own_terms = parents.campaign_terms.get(&campaign.id);
    let terms = own_terms.or_else(|| parents.offer_terms.get(&offer.id));
    let cause = of_dated(&link, clock)
        .or_else(|| of_dated(campaign, clock))
        .or_else(|| of_dated(offer, clock))
        .or_else(|| of_activity(advertiser))
        .or_else(|| of_affiliate(affiliate))
        .or_else(|| of_application(campaign, offer, &parents.applications))
        .or_else(|| of_activity(network));
    let destination = destination(&link.settings, &offer.settings);
    let Link {
        domain,
        slug,
        fallback,
        code,
        pass_query,
        append_click_id,
        ..
    } = link.settings;
    Ok(ResolvedLink {
        id: link.id,
        domain,
        slug,
        destination,
        fallback: fallback.or_else(|| offer.settings.fallback.clone()),
        code,
        state: cause.map_or(LinkState::Active, LinkState::Inactive),
        pass_query,
        append_click_id,
        network: named(network, network_name),
        advertiser: named(advertiser, advertiser_name),
        offer: named(offer, offer_name),
        affiliate: named(affiliate, affiliate_name),
        campaign: named(campaign, campaign_name),
        creative: creative.map(|(creative, name)| named(creative, name)),
        terms: terms.map(|(terms, name)| named(terms, name)),
    })
}

fn named<K: Kind>(object: &Object<K>, name: &Arc<str>) -> Named<K::Id> {
    Named {
        id: object.id,
        name: Arc::clone(name),
    }
}

fn destination(link: &Link, offer: &Offer) -> String {
    if let Some(own) = &link.destination {
        return own.clone();
    }
    let mut destinations = offer.destinations.iter();
    let chosen = destinations.find(|it| Some(&it.name) == link.offer_destination.as_ref());
    let chosen = chosen.or_else(|| offer.destinations.first());
    // Every stored offer has one.
    chosen.map(|it| it.url.clone()).unwrap_or_default()
}

fn cause(kind: KindName, why: Why) -> Option<InactiveCause> {
    Some(InactiveCause { kind, why })
}

fn of_activity<K: Kind<Status = Activity>>(object: &Object<K>) -> Option<InactiveCause> {
    match object.status {
        Activity::Active => None,
        Activity::Paused => cause(K::NAME, Why::Paused),
        Activity::Archived => cause(K::NAME, Why::Archived),
    }
}

fn of_dated<K: Kind<Status = Activity>>(
    object: &Object<K>,
    clock: Micros,
) -> Option<InactiveCause> {
    let (starts, ends) = object.settings.dates();
    of_activity(object)
        .or_else(|| cause(K::NAME, Why::NotStarted).filter(|_| starts.is_some_and(|it| clock < it)))
        .or_else(|| cause(K::NAME, Why::Ended).filter(|_| ends.is_some_and(|it| it <= clock)))
}

fn of_affiliate(affiliate: &Object<Affiliate>) -> Option<InactiveCause> {
    match affiliate.status {
        AffiliateStatus::Approved => None,
        AffiliateStatus::Applied => cause(KindName::Affiliate, Why::NotApproved),
        AffiliateStatus::Suspended | AffiliateStatus::Banned => {
            cause(KindName::Affiliate, Why::Paused)
        }
        AffiliateStatus::Archived => cause(KindName::Affiliate, Why::Archived),
    }
}

fn of_application(
    campaign: &Object<Campaign>,
    offer: &Object<Offer>,
    applications: &HashMap<(AffiliateId, OfferId), ApplicationStatus>,
) -> Option<InactiveCause> {
    if offer.settings.access == OfferAccess::Open {
        return None;
    }
    let status = applications.get(&(campaign.settings.affiliate, offer.id));
    match status {
        Some(ApplicationStatus::Approved) => None,
        _ => cause(KindName::Application, Why::NotApproved),
    }
}
