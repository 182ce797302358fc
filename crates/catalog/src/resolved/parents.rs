//! The objects that a page of links depends on.

use crate::error::CatalogError;
use crate::kind::{Kind, KindName, Object};
use crate::model::{
    Advertiser, Affiliate, Application, Campaign, Creative, Link, Network, Offer, Terms, TermsOwner,
};
use crate::objects::{ObjectRow, load_all, readable, select_objects};
use crate::read::in_force;
use crate::rows::fetch_in;
use crate::status::ApplicationStatus;
use domain::{AffiliateId, CampaignId, Micros, OfferId};
use sql_store::{SqlError, Transaction};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Objects by id, each with its name.
pub(super) struct Loaded<K: Kind>(HashMap<u32, (Object<K>, Arc<str>)>);

/// The objects that a page of links depends on.
pub(super) struct Parents {
    pub(super) networks: Loaded<Network>,
    pub(super) advertisers: Loaded<Advertiser>,
    pub(super) offers: Loaded<Offer>,
    pub(super) affiliates: Loaded<Affiliate>,
    pub(super) campaigns: Loaded<Campaign>,
    pub(super) creatives: Loaded<Creative>,
    pub(super) applications: HashMap<(AffiliateId, OfferId), ApplicationStatus>,
    pub(super) campaign_terms: HashMap<CampaignId, (Object<Terms>, Arc<str>)>,
    pub(super) offer_terms: HashMap<OfferId, (Object<Terms>, Arc<str>)>,
}

impl<K: Kind> Loaded<K> {
    async fn load(
        tx: &mut Transaction,
        ids: impl IntoIterator<Item = u32>,
        name: impl Fn(&K) -> &str,
    ) -> Result<Self, CatalogError> {
        let objects = load_all::<K>(tx, ids).await?.into_iter();
        let named = objects.map(|(id, object)| {
            let name = name(&object.settings).into();
            (id, (object, name))
        });
        Ok(Self(named.collect()))
    }

    fn all(&self) -> impl Iterator<Item = &Object<K>> {
        self.0.values().map(|(object, _)| object)
    }

    /// An object that was checked to exist when it was named; it may be damaged since.
    pub(super) fn get(&self, id: u32) -> Result<&(Object<K>, Arc<str>), CatalogError> {
        let missing =
            || SqlError::UnexpectedValue(format!("{} {id} is missing or damaged", K::NAME));
        Ok(self.0.get(&id).ok_or_else(missing)?)
    }
}

impl Parents {
    pub(super) async fn load(
        tx: &mut Transaction,
        links: impl Iterator<Item = &Object<Link>> + Clone,
        clock: Micros,
    ) -> Result<Self, CatalogError> {
        let ids = links.clone().map(|it| it.settings.campaign.0);
        let campaigns = Loaded::<Campaign>::load(tx, ids, |it| &it.name).await?;
        let ids = campaigns.all().map(|it| it.settings.offer.0);
        let offers = Loaded::<Offer>::load(tx, ids, |it| &it.name).await?;
        let ids = offers.all().map(|it| it.settings.advertiser.0);
        let advertisers = Loaded::load(tx, ids, |it: &Advertiser| &it.name).await?;
        let ids = campaigns.all().map(|it| it.settings.affiliate.0);
        let affiliates = Loaded::load(tx, ids, |it: &Affiliate| &it.name).await?;
        let ids = links.clone().map(|it| it.network.0);
        let networks = Loaded::load(tx, ids, |it: &Network| &it.name).await?;
        let ids = links.filter_map(|it| it.settings.creative);
        let creatives = Loaded::load(tx, ids.map(|id| id.0), |it: &Creative| &it.name).await?;
        let applications = applications(tx, &campaigns).await?;
        let (campaign_terms, offer_terms) = terms(tx, &campaigns, clock).await?;
        Ok(Self {
            networks,
            advertisers,
            offers,
            affiliates,
            campaigns,
            creatives,
            applications,
            campaign_terms,
            offer_terms,
        })
    }
}

/// The applications of the campaigns' affiliates to their offers.
async fn applications(
    tx: &mut Transaction,
    campaigns: &Loaded<Campaign>,
) -> Result<HashMap<(AffiliateId, OfferId), ApplicationStatus>, CatalogError> {
    let ids: BTreeSet<u32> = campaigns.all().map(|it| it.settings.affiliate.0).collect();
    let ids: Vec<u32> = ids.into_iter().collect();
    let select = select_objects(KindName::Application).push(" WHERE archived IS NULL AND");
    let rows: Vec<ObjectRow> = fetch_in(tx, select, "affiliate", &ids).await?;
    let statuses = readable::<Application>(rows).map(|object| {
        let key = (object.settings.affiliate, object.settings.offer);
        (key, object.status)
    });
    Ok(statuses.collect())
}

type TermsBy<I> = HashMap<I, (Object<Terms>, Arc<str>)>;

/// The terms in force of campaigns and of their offers.
async fn terms(
    tx: &mut Transaction,
    campaigns: &Loaded<Campaign>,
    clock: Micros,
) -> Result<(TermsBy<CampaignId>, TermsBy<OfferId>), CatalogError> {
    let ids: Vec<u32> = campaigns.all().map(|it| it.id.0).collect();
    let offers: BTreeSet<u32> = campaigns.all().map(|it| it.settings.offer.0).collect();
    let offers: Vec<u32> = offers.into_iter().collect();
    let select = in_force(select_objects(KindName::Terms), clock).push(" AND campaign <> 0 AND");
    let mut rows: Vec<ObjectRow> = fetch_in(tx, select, "campaign", &ids).await?;
    let select = in_force(select_objects(KindName::Terms), clock).push(" AND campaign = 0 AND");
    rows.extend(fetch_in(tx, select, "offer", &offers).await?);
    let (mut by_campaign, mut by_offer) = (HashMap::new(), HashMap::new());
    for terms in readable::<Terms>(rows) {
        let name = Arc::from(terms.settings.name.as_str());
        match terms.settings.owner {
            TermsOwner::Campaign(id) => by_campaign.insert(id, (terms, name)),
            TermsOwner::Offer(id) => by_offer.insert(id, (terms, name)),
        };
    }
    Ok((by_campaign, by_offer))
}
