//! The catalog as plain lists in memory: what writes should do, and which links should follow.

use crate::support::*;
use catalog::*;
use domain::*;
use std::collections::BTreeSet;

/// A write. Numbers choose among the objects that there are, and one that there is not.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    CreateOffer(OfferValues),
    CreateAffiliate {
        name: u8,
        approved: bool,
    },
    CreateApplication {
        affiliate: u32,
        offer: u32,
        approved: bool,
    },
    CreateCampaign {
        affiliate: u32,
        offer: u32,
        values: CampaignValues,
    },
    CreateLink {
        campaign: u32,
        values: LinkValues,
    },
    UpdateOffer(Target, OfferValues),
    UpdateCampaign(Target, CampaignValues),
    UpdateLink(Target, LinkValues),
    SetStatus {
        kind: KindName,
        target: Target,
        status: usize,
    },
    CreateTerms {
        of_campaign: bool,
        owner: u32,
        from: Option<u8>,
        until: Option<u8>,
    },
    EndTerms(Target, u8),
    WithdrawTerms(Target),
    RecordDates,
}

/// The object that is changed, and whether its revision is the present one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) number: u32,
    pub(crate) is_stale: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct OfferValues {
    pub(crate) name: u8,
    pub(crate) is_open: bool,
    pub(crate) starts: Option<u8>,
    pub(crate) ends: Option<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct CampaignValues {
    pub(crate) name: u8,
    pub(crate) starts: Option<u8>,
    pub(crate) ends: Option<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct LinkValues {
    pub(crate) slug: u8,
    pub(crate) has_destination: bool,
    pub(crate) starts: Option<u8>,
    pub(crate) ends: Option<u8>,
}

/// An object in the model; its id is its place, from 1.
#[derive(Debug, Clone)]
pub(crate) struct Stored<K: Kind> {
    pub(crate) settings: K,
    pub(crate) status: K::Status,
    pub(crate) revision: u32,
}

/// All objects, in the order of their ids.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) clock: Micros,
    pub(crate) advertisers: Vec<Stored<Advertiser>>,
    pub(crate) offers: Vec<Stored<Offer>>,
    pub(crate) affiliates: Vec<Stored<Affiliate>>,
    pub(crate) applications: Vec<Stored<Application>>,
    pub(crate) campaigns: Vec<Stored<Campaign>>,
    pub(crate) links: Vec<Stored<Link>>,
    pub(crate) terms: Vec<Stored<Terms>>,
}

/// Why a write should be refused; empty if it should succeed.
pub(crate) type Reasons = BTreeSet<u16>;

fn at(second: Option<u8>) -> Option<Micros> {
    second.map(|second| seconds(second.into()))
}

impl OfferValues {
    pub(crate) fn settings(&self) -> Offer {
        Offer {
            access: if self.is_open {
                OfferAccess::Open
            } else {
                OfferAccess::OnApproval
            },
            starts: at(self.starts),
            ends: at(self.ends),
            ..offer(AdvertiserId(1), &format!("offer {}", self.name))
        }
    }
}

impl CampaignValues {
    pub(crate) fn settings(&self, affiliate: AffiliateId, offer: OfferId) -> Campaign {
        Campaign {
            starts: at(self.starts),
            ends: at(self.ends),
            ..campaign(affiliate, offer, &format!("campaign {}", self.name))
        }
    }
}

impl LinkValues {
    pub(crate) fn settings(&self, campaign: CampaignId) -> Link {
        let own = || format!("https://own.example/{}", self.slug);
        Link {
            destination: self.has_destination.then(own),
            starts: at(self.starts),
            ends: at(self.ends),
            ..link(campaign, &format!("slug-{}", self.slug))
        }
    }
}

pub(crate) fn terms_settings(owner: TermsOwner, from: Option<u8>, until: Option<u8>) -> Terms {
    terms(owner, at(from), at(until))
}

/// The object with this id.
pub(crate) fn find<K: Kind>(objects: &[Stored<K>], id: u32) -> Option<&Stored<K>> {
    objects.get((id as usize).checked_sub(1)?)
}

fn is_live<K: Kind>(objects: &[Stored<K>], id: u32) -> bool {
    find(objects, id).is_some_and(|it| it.status != K::Status::ARCHIVED)
}

/// The objects that are not archived, with their ids.
fn live<K: Kind>(objects: &[Stored<K>]) -> impl Iterator<Item = (u32, &Stored<K>)> {
    let objects = (1..).zip(objects);
    objects.filter(|(_, it)| it.status != K::Status::ARCHIVED)
}

fn create<K: Kind>(
    objects: &mut Vec<Stored<K>>,
    settings: K,
    status: K::Status,
    reasons: Reasons,
) -> Reasons {
    if reasons.is_empty() {
        objects.push(Stored {
            settings,
            status,
            revision: 1,
        });
    }
    reasons
}

/// Checks that an object can be changed.
fn target<K: Kind>(objects: &[Stored<K>], target: Target) -> Option<Reason> {
    match find(objects, target.number) {
        None => Some(Reason::NotFound),
        Some(_) if target.is_stale => Some(Reason::RevisionConflict),
        Some(found) => (found.status == K::Status::ARCHIVED).then_some(Reason::Archived),
    }
}

fn update<K: Kind>(
    objects: &mut [Stored<K>],
    of: Target,
    settings: impl FnOnce(&K) -> K,
    check: impl FnOnce(&[Stored<K>], u32, &K) -> Reasons,
) -> Reasons {
    if let Some(reason) = target(objects, of) {
        return [reason.number()].into();
    }
    let settings = settings(&objects[of.number as usize - 1].settings);
    let reasons = check(objects, of.number, &settings);
    let object = &mut objects[of.number as usize - 1];
    if reasons.is_empty() && object.settings != settings {
        object.settings = settings;
        object.revision += 1;
    }
    reasons
}

fn set_status<K: Kind>(objects: &mut [Stored<K>], of: Target, status: usize) -> Reasons {
    if let Some(reason) = target(objects, of) {
        return [reason.number()].into();
    }
    let object = &mut objects[of.number as usize - 1];
    let status = K::Status::ALL[status % K::Status::ALL.len()];
    if !object.status.next().contains(&status) {
        return [Reason::StatusNotPossible.number()].into();
    }
    object.status = status;
    object.revision += 1;
    Reasons::new()
}

fn add_if(reasons: &mut Reasons, applies: bool, reason: Reason) {
    if applies {
        reasons.insert(reason.number());
    }
}

fn check_period(reasons: &mut Reasons, starts: Option<Micros>, ends: Option<Micros>) {
    let is_wrong = starts
        .zip(ends)
        .is_some_and(|(starts, ends)| starts >= ends);
    add_if(reasons, is_wrong, Reason::InvalidPeriod);
}

fn check_offer(offers: &[Stored<Offer>], own: u32, new: &Offer) -> Reasons {
    let mut reasons = Reasons::new();
    check_period(&mut reasons, new.starts, new.ends);
    let is_taken = live(offers).any(|(id, it)| id != own && it.settings.name == new.name);
    add_if(&mut reasons, is_taken, Reason::NameTaken);
    reasons
}

fn check_campaign(campaigns: &[Stored<Campaign>], own: u32, new: &Campaign) -> Reasons {
    let mut reasons = Reasons::new();
    check_period(&mut reasons, new.starts, new.ends);
    let key = |it: &Campaign| (it.affiliate, it.offer, it.name.clone());
    let mut others = live(campaigns);
    let is_taken = others.any(|(id, it)| id != own && key(&it.settings) == key(new));
    add_if(&mut reasons, is_taken, Reason::NameTaken);
    reasons
}

fn check_link(links: &[Stored<Link>], own: u32, new: &Link) -> Reasons {
    let mut reasons = Reasons::new();
    check_period(&mut reasons, new.starts, new.ends);
    let is_taken = live(links).any(|(id, it)| id != own && it.settings.slug == new.slug);
    add_if(&mut reasons, is_taken, Reason::NameTaken);
    reasons
}

impl Model {
    /// Performs a write at a time, if it should succeed.
    pub(crate) fn apply(&mut self, operation: &Operation, now: Micros) -> Reasons {
        let now = now.max(self.clock);
        let reasons = self.perform(operation, now);
        if reasons.is_empty() {
            self.clock = now;
        }
        reasons
    }

    fn perform(&mut self, operation: &Operation, now: Micros) -> Reasons {
        match operation {
            Operation::CreateOffer(values) => {
                let settings = values.settings();
                let mut reasons = check_offer(&self.offers, 0, &settings);
                let is_missing = !is_live(&self.advertisers, settings.advertiser.0);
                add_if(&mut reasons, is_missing, Reason::UnknownReference);
                create(&mut self.offers, settings, Activity::Active, reasons)
            }
            Operation::CreateAffiliate { name, approved } => {
                let settings = affiliate(&format!("affiliate {name}"));
                let mut reasons = Reasons::new();
                let name = &settings.name;
                let is_taken = live(&self.affiliates).any(|(_, it)| &it.settings.name == name);
                add_if(&mut reasons, is_taken, Reason::NameTaken);
                let status = [AffiliateStatus::Applied, AffiliateStatus::Approved];
                let status = status[usize::from(*approved)];
                create(&mut self.affiliates, settings, status, reasons)
            }
            Operation::CreateApplication {
                affiliate,
                offer,
                approved,
            } => self.create_application(*affiliate, *offer, *approved),
            Operation::CreateCampaign {
                affiliate,
                offer,
                values,
            } => {
                let settings = values.settings(AffiliateId(*affiliate), OfferId(*offer));
                let mut reasons = check_campaign(&self.campaigns, 0, &settings);
                self.check_parents(&mut reasons, *affiliate, *offer);
                create(&mut self.campaigns, settings, Activity::Active, reasons)
            }
            Operation::CreateLink { campaign, values } => {
                let settings = values.settings(CampaignId(*campaign));
                let mut reasons = check_link(&self.links, 0, &settings);
                let is_missing = !is_live(&self.campaigns, *campaign);
                add_if(&mut reasons, is_missing, Reason::UnknownReference);
                create(&mut self.links, settings, Activity::Active, reasons)
            }
            Operation::UpdateOffer(target, values) => update(
                &mut self.offers,
                *target,
                |_| values.settings(),
                check_offer,
            ),
            Operation::UpdateCampaign(target, values) => {
                let settings = |old: &Campaign| values.settings(old.affiliate, old.offer);
                update(&mut self.campaigns, *target, settings, check_campaign)
            }
            Operation::UpdateLink(target, values) => {
                let settings = |old: &Link| values.settings(old.campaign);
                update(&mut self.links, *target, settings, check_link)
            }
            Operation::SetStatus {
                kind,
                target,
                status,
            } => self.set_status(*kind, *target, *status),
            Operation::CreateTerms {
                of_campaign,
                owner,
                from,
                until,
            } => {
                let owner = terms_owner(*of_campaign, *owner);
                self.create_terms(terms_settings(owner, *from, *until), now)
            }
            Operation::EndTerms(target, second) => self.end_terms(*target, *second, now),
            Operation::WithdrawTerms(target) => self.withdraw_terms(*target, now),
            Operation::RecordDates => Reasons::new(),
        }
    }

    fn check_parents(&self, reasons: &mut Reasons, affiliate: u32, offer: u32) {
        let has_both = is_live(&self.affiliates, affiliate) && is_live(&self.offers, offer);
        add_if(reasons, !has_both, Reason::UnknownReference);
    }

    fn create_application(&mut self, affiliate: u32, offer: u32, approved: bool) -> Reasons {
        let mut reasons = Reasons::new();
        self.check_parents(&mut reasons, affiliate, offer);
        let (affiliate, offer) = (AffiliateId(affiliate), OfferId(offer));
        let key = |it: &Application| (it.affiliate, it.offer);
        let wanted = (affiliate, offer);
        let is_taken = live(&self.applications).any(|(_, it)| key(&it.settings) == wanted);
        add_if(&mut reasons, is_taken, Reason::NameTaken);
        let settings = Application {
            affiliate,
            offer,
            message: String::new(),
        };
        let status = [ApplicationStatus::Pending, ApplicationStatus::Approved];
        let status = status[usize::from(approved)];
        create(&mut self.applications, settings, status, reasons)
    }

    fn set_status(&mut self, kind: KindName, target: Target, status: usize) -> Reasons {
        match kind {
            KindName::Advertiser => set_status(&mut self.advertisers, target, status),
            KindName::Offer => set_status(&mut self.offers, target, status),
            KindName::Affiliate => set_status(&mut self.affiliates, target, status),
            KindName::Application => set_status(&mut self.applications, target, status),
            KindName::Campaign => set_status(&mut self.campaigns, target, status),
            KindName::Link => set_status(&mut self.links, target, status),
            other => panic!("no {other} is chosen"),
        }
    }

    fn create_terms(&mut self, mut new: Terms, now: Micros) -> Reasons {
        let from = *new.valid_from.get_or_insert(now);
        let mut reasons = Reasons::new();
        add_if(&mut reasons, from < now, Reason::TermsInPast);
        check_period(&mut reasons, new.valid_from, new.valid_until);
        let has_owner = match new.owner {
            TermsOwner::Offer(id) => is_live(&self.offers, id.0),
            TermsOwner::Campaign(id) => is_live(&self.campaigns, id.0),
        };
        add_if(&mut reasons, !has_owner, Reason::UnknownReference);
        let end = |terms: &Terms| terms.valid_until.unwrap_or(Micros(u64::MAX));
        let begin = |terms: &Terms| terms.valid_from.expect("stored");
        let mut replaced = None;
        for (id, other) in live(&self.terms) {
            let other = &other.settings;
            let is_past = end(other) <= now;
            let overlaps = from < end(other) && begin(other) < end(&new);
            if other.owner != new.owner || is_past || !overlaps {
                continue;
            }
            if other.valid_until.is_none() && begin(other) < from {
                replaced = Some(id);
            } else {
                reasons.insert(Reason::TermsOverlap.number());
            }
        }
        let mut continuation = None;
        if let Some(id) = replaced.filter(|_| reasons.is_empty()) {
            let replaced = &mut self.terms[id as usize - 1];
            continuation = new.valid_until.map(|end| Terms {
                valid_from: Some(end),
                ..replaced.settings.clone()
            });
            replaced.settings.valid_until = Some(from);
            replaced.revision += 1;
        }
        let reasons = create(&mut self.terms, new, TermsStatus::Active, reasons);
        if let Some(continuation) = continuation {
            create(
                &mut self.terms,
                continuation,
                TermsStatus::Active,
                Reasons::new(),
            );
        }
        reasons
    }

    fn end_terms(&mut self, of: Target, second: u8, now: Micros) -> Reasons {
        if let Some(reason) = target(&self.terms, of) {
            return [reason.number()].into();
        }
        let terms = &mut self.terms[of.number as usize - 1];
        let end = seconds(second.into());
        let mut reasons = Reasons::new();
        add_if(&mut reasons, end < now, Reason::TermsInPast);
        let is_later = terms.settings.valid_until.is_some_and(|until| end > until);
        add_if(&mut reasons, is_later, Reason::TermsOverlap);
        check_period(&mut reasons, terms.settings.valid_from, Some(end));
        if reasons.is_empty() && terms.settings.valid_until != Some(end) {
            terms.settings.valid_until = Some(end);
            terms.revision += 1;
        }
        reasons
    }

    fn withdraw_terms(&mut self, of: Target, now: Micros) -> Reasons {
        if let Some(reason) = target(&self.terms, of) {
            return [reason.number()].into();
        }
        let terms = &mut self.terms[of.number as usize - 1];
        if terms.settings.valid_from <= Some(now) {
            return [Reason::TermsInForce.number()].into();
        }
        terms.status = TermsStatus::Archived;
        terms.revision += 1;
        let withdrawn = terms.settings.clone();
        let mut others = self.terms.iter_mut();
        let before = others.find(|it| {
            it.status == TermsStatus::Active
                && it.settings.owner == withdrawn.owner
                && it.settings.valid_until == withdrawn.valid_from
        });
        if let Some(before) = before {
            before.settings.valid_until = withdrawn.valid_until;
            before.revision += 1;
        }
        Reasons::new()
    }

    /// The links that the edges should have.
    pub(crate) fn links(&self) -> Vec<ResolvedLink> {
        let links = live(&self.links);
        links.map(|(id, link)| self.resolve(id, link)).collect()
    }

    fn resolve(&self, id: u32, link: &Stored<Link>) -> ResolvedLink {
        let settings = &link.settings;
        let campaign = find(&self.campaigns, settings.campaign.0).expect("a parent");
        let offer = find(&self.offers, campaign.settings.offer.0).expect("a parent");
        let affiliate_id = campaign.settings.affiliate;
        let affiliate = find(&self.affiliates, affiliate_id.0).expect("a parent");
        let offer_url = || offer.settings.destinations[0].url.clone();
        let terms = self
            .in_force(TermsOwner::Campaign(settings.campaign))
            .or_else(|| self.in_force(TermsOwner::Offer(campaign.settings.offer)));
        ResolvedLink {
            id: LinkId(id),
            domain: String::new(),
            slug: settings.slug.clone(),
            destination: settings.destination.clone().unwrap_or_else(offer_url),
            fallback: None,
            code: 302,
            state: self.state(link, campaign, offer, affiliate.status),
            pass_query: false,
            append_click_id: true,
            network: named(DEFAULT_NETWORK, "default"),
            advertiser: named(AdvertiserId(1), "shop"),
            offer: named(campaign.settings.offer, &offer.settings.name),
            affiliate: named(affiliate_id, &affiliate.settings.name),
            campaign: named(settings.campaign, &campaign.settings.name),
            creative: None,
            terms: terms.map(|id| named(id, "standard")),
        }
    }

    fn state(
        &self,
        link: &Stored<Link>,
        campaign: &Stored<Campaign>,
        offer: &Stored<Offer>,
        affiliate: AffiliateStatus,
    ) -> LinkState {
        let advertiser = self.advertisers[0].status;
        let dated = [
            (
                KindName::Link,
                link.status,
                link.settings.starts,
                link.settings.ends,
            ),
            (
                KindName::Campaign,
                campaign.status,
                campaign.settings.starts,
                campaign.settings.ends,
            ),
            (
                KindName::Offer,
                offer.status,
                offer.settings.starts,
                offer.settings.ends,
            ),
            (KindName::Advertiser, advertiser, None, None),
        ];
        for (kind, status, starts, ends) in dated {
            let why = match status {
                Activity::Paused => Why::Paused,
                Activity::Archived => Why::Archived,
                Activity::Active if starts > Some(self.clock) => Why::NotStarted,
                Activity::Active if ends.is_some_and(|ends| ends <= self.clock) => Why::Ended,
                Activity::Active => continue,
            };
            return LinkState::Inactive(InactiveCause { kind, why });
        }
        let why = match affiliate {
            AffiliateStatus::Approved => None,
            AffiliateStatus::Applied => Some(Why::NotApproved),
            AffiliateStatus::Archived => Some(Why::Archived),
            AffiliateStatus::Suspended | AffiliateStatus::Banned => Some(Why::Paused),
        };
        if let Some(why) = why {
            let kind = KindName::Affiliate;
            return LinkState::Inactive(InactiveCause { kind, why });
        }
        let is_approved = live(&self.applications).any(|(_, it)| {
            let of = (it.settings.affiliate, it.settings.offer);
            of == (campaign.settings.affiliate, campaign.settings.offer)
                && it.status == ApplicationStatus::Approved
        });
        if offer.settings.access == OfferAccess::Open || is_approved {
            return LinkState::Active;
        }
        let (kind, why) = (KindName::Application, Why::NotApproved);
        LinkState::Inactive(InactiveCause { kind, why })
    }

    fn in_force(&self, owner: TermsOwner) -> Option<TermsId> {
        let mut terms = live(&self.terms);
        let found = terms.find(|(_, it)| {
            it.settings.owner == owner
                && it.settings.valid_from <= Some(self.clock)
                && it
                    .settings
                    .valid_until
                    .is_none_or(|until| self.clock < until)
        });
        found.map(|(id, _)| TermsId(id))
    }
}

pub(crate) fn terms_owner(of_campaign: bool, owner: u32) -> TermsOwner {
    if of_campaign {
        TermsOwner::Campaign(CampaignId(owner))
    } else {
        TermsOwner::Offer(OfferId(owner))
    }
}

fn named<I>(id: I, name: &str) -> Named<I> {
    Named {
        id,
        name: name.into(),
    }
}
