//! Catalogs of tests, and objects with as few settings as possible.

use catalog::*;
use domain::*;
use sql_store::test_server::TestDatabase;
use sql_store::{Access, Database, Isolation, Location, Statement};
use std::time::Duration;

pub(crate) const ACCESS: Access = Access {
    application_name: "test",
    max_connections: 8,
};

/// The time at which every test begins.
pub(crate) const START: Micros = Micros(1_800_000_000_000_000);

pub(crate) const NETWORK: Scope = Scope::Network(DEFAULT_NETWORK);

pub(crate) fn seconds(count: u64) -> Micros {
    START.saturating_add(Duration::from_secs(count))
}

/// A catalog in a database of its own.
pub(crate) struct TestCatalog {
    pub(crate) catalog: Catalog,
    pub(crate) location: Location,
    _database: TestDatabase,
}

/// One catalog in each kind of database.
pub(crate) async fn both() -> Vec<TestCatalog> {
    let mut catalogs = Vec::new();
    for database in TestDatabase::both() {
        catalogs.push(TestCatalog::open(database).await);
    }
    catalogs
}

pub(crate) async fn open(location: &Location) -> Catalog {
    let database = Database::open(location, ACCESS, &[]).await.expect("opened");
    Catalog::open(database, START).await.expect("up to date")
}

impl TestCatalog {
    pub(crate) async fn open(database: TestDatabase) -> Self {
        let location = database.location();
        Self {
            catalog: open(&location).await,
            location,
            _database: database,
        }
    }

    /// Runs one write of the default network in a transaction of its own.
    pub(crate) async fn write<T>(
        &self,
        now: Micros,
        write: impl AsyncFnOnce(&mut Writer<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        self.write_in(NETWORK, now, write).await
    }

    /// Runs one write in a transaction of its own, which is rolled back if it fails.
    pub(crate) async fn write_in<T>(
        &self,
        scope: Scope,
        now: Micros,
        write: impl AsyncFnOnce(&mut Writer<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        write_to(&self.catalog, scope, now, write).await
    }

    /// Runs reads of the default network in a transaction of their own.
    pub(crate) async fn read<T>(
        &self,
        read: impl AsyncFnOnce(&mut Reader<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        self.read_in(NETWORK, read).await
    }

    pub(crate) async fn read_in<T>(
        &self,
        scope: Scope,
        read: impl AsyncFnOnce(&mut Reader<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let mut tx = self.catalog.database().begin().await.expect("transaction");
        read(&mut self.catalog.reader(&mut tx, scope)).await
    }

    pub(crate) async fn create<K: Editable>(&self, draft: impl Into<Draft<K>>) -> Object<K> {
        let created = self.write(START, async |writer| writer.create(draft).await);
        created.await.expect("created")
    }

    /// Moves the catalog's clock.
    pub(crate) async fn record_dates(&self, now: Micros) {
        let mut tx = self.catalog.database().begin().await.expect("transaction");
        record_dates(&mut tx, || now).await.expect("recorded");
        tx.commit().await.expect("committed");
    }

    /// Changes rows as a damaged disk or a hand at the database would.
    pub(crate) async fn execute(&self, sql: &'static str) {
        let mut tx = self.catalog.database().begin().await.expect("transaction");
        tx.execute(Statement::new(sql)).await.expect("executed");
        tx.commit().await.expect("committed");
    }

    /// Creates another network.
    pub(crate) async fn network(&self, name: &str) -> Object<Network> {
        let created = self.write_in(Scope::Installation, START, async |writer| {
            writer.create(network(name)).await
        });
        created.await.expect("created")
    }

    /// All links, and the version.
    pub(crate) async fn links(&self) -> (Version, Vec<ResolvedLink>) {
        let mut tx = self.catalog.database().begin().await.expect("transaction");
        let version = current_version(&mut tx).await.expect("read");
        let mut links = Vec::new();
        loop {
            let after = links.last().map(|link: &ResolvedLink| link.id);
            let page = resolved_links(&mut tx, after, 2).await.expect("read");
            if page.is_empty() {
                return (version, links);
            }
            links.extend(page);
        }
    }

    pub(crate) async fn links_changed(&self, since: Version) -> LinkChanges {
        let mut tx = self.catalog.database().begin().await.expect("transaction");
        resolved_links_changed(&mut tx, since).await.expect("read")
    }

    /// An offer that every affiliate may promote, an approved affiliate and a campaign.
    pub(crate) async fn campaign(&self) -> Parents {
        let created = self.write(START, create_campaign).await;
        created.expect("created")
    }

    /// The same in another network, which gets a domain.
    pub(crate) async fn campaign_in(&self, scope: Scope, domain: &str) -> Parents {
        let created = self.write_in(scope, START, async |writer| {
            let id = scope.network().expect("one network");
            let mut network = writer.reader().get::<Network>(id).await?;
            network.settings.domains.push(domain.to_owned());
            writer
                .update(id, network.revision, network.settings)
                .await?;
            create_campaign(writer).await
        });
        created.await.expect("created")
    }
}

async fn create_campaign(writer: &mut Writer<'_>) -> Result<Parents, CatalogError> {
    let advertiser = writer.create(advertiser("shop")).await?;
    let offer = writer.create(offer(advertiser.id, "shoes")).await?;
    let affiliate = writer.create(approved("ann")).await?;
    let settings = campaign(affiliate.id, offer.id, "spring");
    let campaign = writer.create(settings).await?;
    Ok(Parents {
        advertiser,
        offer,
        affiliate,
        campaign,
    })
}

/// The objects that a link needs.
pub(crate) struct Parents {
    pub(crate) advertiser: Object<Advertiser>,
    pub(crate) offer: Object<Offer>,
    pub(crate) affiliate: Object<Affiliate>,
    pub(crate) campaign: Object<Campaign>,
}

pub(crate) async fn write_to<T>(
    catalog: &Catalog,
    scope: Scope,
    now: Micros,
    write: impl AsyncFnOnce(&mut Writer<'_>) -> Result<T, CatalogError>,
) -> Result<T, CatalogError> {
    let author = Author {
        kind: AuthorKind::User,
        id: "operator-7".to_owned(),
        address: Some([192, 0, 2, 7].into()),
    };
    let mut attempts = catalog.database().attempts(Isolation::ReadCommitted);
    let mut tx = attempts.begin().await.expect("transaction");
    let written = async {
        let mut writer = catalog.writer(&mut tx, scope, author, || now).await?;
        write(&mut writer).await
    };
    let written = written.await;
    let finished = attempts.finish(tx, written).await;
    finished.expect("writers wait for each other")
}

/// The reasons of a refusal with their fields.
pub(crate) fn reasons<T: std::fmt::Debug>(
    outcome: Result<T, CatalogError>,
) -> Vec<(Reason, String)> {
    let error = outcome.expect_err("refused");
    assert!(!error.faults().is_empty(), "{error}");
    let faults = error.faults().iter();
    faults.map(|it| (it.reason, it.pointer.clone())).collect()
}

pub(crate) fn network(name: &str) -> Network {
    Network {
        name: name.to_owned(),
        brand: Brand::default(),
        domains: Vec::new(),
        time_zone: "Europe/Oslo".to_owned(),
        currency: "EUR".to_owned(),
    }
}

/// Settings from their JSON, as a client sends them.
pub(crate) fn from_json<K: Kind>(json: serde_json::Value) -> K {
    serde_json::from_value(json).expect("settings")
}

pub(crate) fn advertiser(name: &str) -> Advertiser {
    from_json(serde_json::json!({ "name": name }))
}

pub(crate) fn offer(advertiser: AdvertiserId, name: &str) -> Offer {
    from_json(serde_json::json!({
        "name": name, "advertiser": advertiser, "access": "open",
        "destinations": [
            { "name": "main", "url": "https://shop.example/?c={click_id}" },
            { "name": "sale", "url": "https://shop.example/sale" },
        ],
    }))
}

pub(crate) fn affiliate(name: &str) -> Affiliate {
    from_json(serde_json::json!({ "name": name }))
}

pub(crate) fn approved(name: &str) -> Draft<Affiliate> {
    Draft::from(affiliate(name)).with_status(AffiliateStatus::Approved)
}

pub(crate) fn campaign(affiliate: AffiliateId, offer: OfferId, name: &str) -> Campaign {
    from_json(serde_json::json!({ "name": name, "affiliate": affiliate, "offer": offer }))
}

pub(crate) fn link(campaign: CampaignId, slug: &str) -> Link {
    Link::new(campaign, slug.to_owned())
}

pub(crate) fn terms(owner: TermsOwner, from: Option<Micros>, until: Option<Micros>) -> Terms {
    Terms {
        name: "standard".to_owned(),
        owner,
        valid_from: from,
        valid_until: until,
        hold_days: 30,
        payout_currency: "EUR".to_owned(),
        revenue_currency: "USD".to_owned(),
        events: Vec::new(),
    }
}
