//! Random writes on both databases, compared with a model in memory after each one.

use crate::model::{
    CampaignValues, LinkValues, Model, OfferValues, Operation, Reasons, Stored, Target, find,
    terms_owner, terms_settings,
};
use crate::support::*;
use catalog::*;
use domain::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sql_store::Location;
use sql_store::test_server::{TestDatabase, TestServer};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};

/// The operations of a sequence, each with the seconds that pass before it.
type Sequence = Vec<(u8, Operation)>;

fn date() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![3 => Just(None), 2 => (0_u8..120).prop_map(Some)]
}

fn number() -> impl Strategy<Value = u32> {
    1_u32..4
}

fn target() -> impl Strategy<Value = Target> {
    (number(), prop::bool::weighted(0.1)).prop_map(|(number, is_stale)| Target { number, is_stale })
}

fn offer_values() -> impl Strategy<Value = OfferValues> {
    (0_u8..3, any::<bool>(), date(), date()).prop_map(|(name, is_open, starts, ends)| OfferValues {
        name,
        is_open,
        starts,
        ends,
    })
}

fn campaign_values() -> impl Strategy<Value = CampaignValues> {
    (0_u8..3, date(), date()).prop_map(|(name, starts, ends)| CampaignValues { name, starts, ends })
}

fn link_values() -> impl Strategy<Value = LinkValues> {
    (0_u8..5, any::<bool>(), date(), date()).prop_map(|(slug, has_destination, starts, ends)| {
        LinkValues {
            slug,
            has_destination,
            starts,
            ends,
        }
    })
}

fn kind() -> impl Strategy<Value = KindName> {
    use KindName::{Advertiser, Affiliate, Application, Campaign, Link, Offer};
    // Links are what the edges see.
    prop_oneof![
        1 => prop::sample::select(vec![Advertiser, Offer, Affiliate, Application, Campaign]),
        1 => Just(Link),
    ]
}

fn creation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        1 => offer_values().prop_map(Operation::CreateOffer),
        1 => (0_u8..3, prop::bool::weighted(0.8))
            .prop_map(|(name, approved)| Operation::CreateAffiliate { name, approved }),
        1 => (number(), number(), any::<bool>()).prop_map(|(affiliate, offer, approved)| {
            Operation::CreateApplication { affiliate, offer, approved }
        }),
        1 => (number(), number(), campaign_values()).prop_map(|(affiliate, offer, values)| {
            Operation::CreateCampaign { affiliate, offer, values }
        }),
        3 => (number(), link_values())
            .prop_map(|(campaign, values)| Operation::CreateLink { campaign, values }),
        2 => (any::<bool>(), number(), date(), date()).prop_map(|(of_campaign, owner, from, until)| {
            Operation::CreateTerms { of_campaign, owner, from, until }
        }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => creation(),
        1 => (target(), offer_values()).prop_map(|(of, values)| Operation::UpdateOffer(of, values)),
        1 => (target(), campaign_values())
            .prop_map(|(of, values)| Operation::UpdateCampaign(of, values)),
        1 => (target(), link_values()).prop_map(|(of, values)| Operation::UpdateLink(of, values)),
        3 => (kind(), target(), 0_usize..15)
            .prop_map(|(kind, target, status)| Operation::SetStatus { kind, target, status }),
        1 => (target(), 0_u8..120).prop_map(|(of, second)| Operation::EndTerms(of, second)),
        1 => target().prop_map(Operation::WithdrawTerms),
        1 => Just(Operation::RecordDates),
    ]
}

/// Most sequences begin with the objects that links need, so that later operations have something to change.
fn sequence() -> impl Strategy<Value = Sequence> {
    let first = [
        Operation::CreateOffer(OfferValues {
            name: 9,
            is_open: true,
            starts: None,
            ends: Some(90),
        }),
        Operation::CreateAffiliate {
            name: 9,
            approved: true,
        },
        Operation::CreateCampaign {
            affiliate: 1,
            offer: 1,
            values: CampaignValues {
                name: 9,
                starts: None,
                ends: None,
            },
        },
        Operation::CreateTerms {
            of_campaign: false,
            owner: 1,
            from: None,
            until: None,
        },
        Operation::CreateLink {
            campaign: 1,
            values: LinkValues {
                slug: 9,
                has_destination: false,
                starts: None,
                ends: None,
            },
        },
    ];
    let later = prop::collection::vec((0_u8..6, operation()), 20..40);
    later.prop_map(move |later| {
        let first = first.iter().cloned().map(|operation| (0, operation));
        first.chain(later).collect()
    })
}

/// A catalog with a table of links that only deltas change.
struct Replica {
    catalog: Catalog,
    version: Version,
    table: BTreeMap<LinkId, ResolvedLink>,
}

async fn write<K: Editable>(
    writer: &mut Writer<'_>,
    of: Target,
    settings: impl FnOnce(&K) -> K,
) -> Result<(), CatalogError> {
    let id = K::Id::from_number(of.number);
    let read = writer.reader().get::<K>(id).await?;
    let settings = settings(&read.settings);
    writer
        .update(id, revision(&read, of), settings)
        .await
        .map(drop)
}

const fn revision<K: Kind>(read: &Object<K>, of: Target) -> Revision {
    Revision(if of.is_stale { 0 } else { read.revision.0 })
}

async fn set_status<K: Editable>(
    writer: &mut Writer<'_>,
    of: Target,
    status: usize,
) -> Result<(), CatalogError> {
    let id = K::Id::from_number(of.number);
    let read = writer.reader().get::<K>(id).await?;
    let status = K::Status::ALL[status % K::Status::ALL.len()];
    let changed = writer.set_status::<K>(id, revision(&read, of), status, "why");
    changed.await.map(drop)
}

async fn create<K: Editable>(
    writer: &mut Writer<'_>,
    settings: K,
    status: Option<K::Status>,
) -> Result<(), CatalogError> {
    let draft = Draft {
        status,
        ..Draft::from(settings)
    };
    writer.create(draft).await.map(drop)
}

async fn perform(writer: &mut Writer<'_>, operation: &Operation) -> Result<(), CatalogError> {
    match operation {
        Operation::CreateOffer(values) => create(writer, values.settings(), None).await,
        Operation::CreateAffiliate { name, approved } => {
            let settings = affiliate(&format!("affiliate {name}"));
            let status = approved.then_some(AffiliateStatus::Approved);
            create(writer, settings, status).await
        }
        Operation::CreateApplication {
            affiliate,
            offer,
            approved,
        } => {
            let settings = Application {
                affiliate: AffiliateId(*affiliate),
                offer: OfferId(*offer),
                message: String::new(),
            };
            let status = approved.then_some(ApplicationStatus::Approved);
            create(writer, settings, status).await
        }
        Operation::CreateCampaign {
            affiliate,
            offer,
            values,
        } => {
            let settings = values.settings(AffiliateId(*affiliate), OfferId(*offer));
            create(writer, settings, None).await
        }
        Operation::CreateLink { campaign, values } => {
            create(writer, values.settings(CampaignId(*campaign)), None).await
        }
        Operation::UpdateOffer(of, values) => {
            write::<Offer>(writer, *of, |_| values.settings()).await
        }
        Operation::UpdateCampaign(of, values) => {
            let settings = |old: &Campaign| values.settings(old.affiliate, old.offer);
            write::<Campaign>(writer, *of, settings).await
        }
        Operation::UpdateLink(of, values) => {
            let settings = |old: &Link| values.settings(old.campaign);
            write::<Link>(writer, *of, settings).await
        }
        Operation::SetStatus {
            kind,
            target,
            status,
        } => match kind {
            KindName::Advertiser => set_status::<Advertiser>(writer, *target, *status).await,
            KindName::Offer => set_status::<Offer>(writer, *target, *status).await,
            KindName::Affiliate => set_status::<Affiliate>(writer, *target, *status).await,
            KindName::Application => set_status::<Application>(writer, *target, *status).await,
            KindName::Campaign => set_status::<Campaign>(writer, *target, *status).await,
            KindName::Link => set_status::<Link>(writer, *target, *status).await,
            other => panic!("no {other} is chosen"),
        },
        Operation::CreateTerms {
            of_campaign,
            owner,
            from,
            until,
        } => {
            let owner = terms_owner(*of_campaign, *owner);
            let terms = terms_settings(owner, *from, *until);
            writer.create_terms(terms).await.map(drop)
        }
        Operation::EndTerms(of, second) => {
            let read = writer.reader().get::<Terms>(TermsId(of.number)).await?;
            let end = seconds((*second).into());
            writer
                .end_terms(read.id, revision(&read, *of), end)
                .await
                .map(drop)
        }
        Operation::WithdrawTerms(of) => {
            let read = writer.reader().get::<Terms>(TermsId(of.number)).await?;
            writer
                .withdraw_terms(read.id, revision(&read, *of))
                .await
                .map(drop)
        }
        Operation::RecordDates => Ok(()),
    }
}

fn reasons_of(outcome: Result<(), CatalogError>) -> Reasons {
    match outcome {
        Ok(()) => Reasons::new(),
        Err(error) => {
            assert!(!error.faults().is_empty(), "{error}");
            error.faults().iter().map(|it| it.reason.number()).collect()
        }
    }
}

impl Replica {
    async fn open(location: &Location) -> Self {
        let catalog = open(location).await;
        write_to(&catalog, NETWORK, START, async |writer| {
            writer.create(advertiser("shop")).await
        })
        .await
        .expect("created");
        Self {
            catalog,
            version: Version(0),
            table: BTreeMap::new(),
        }
    }

    /// Applies the delta since the last version, and compares the table with a full load.
    async fn synchronize(&mut self) -> Vec<ResolvedLink> {
        let mut tx = self.catalog.database().begin().await.expect("transaction");
        let delta = resolved_links_changed(&mut tx, self.version)
            .await
            .expect("read");
        let LinkChanges::Delta {
            version,
            changed,
            removed,
        } = delta
        else {
            panic!("few links");
        };
        self.version = version;
        self.table
            .extend(changed.into_iter().map(|link| (link.id, link)));
        self.table.retain(|id, _| !removed.contains(id));
        let full = resolved_links(&mut tx, None, MAX_LINKS)
            .await
            .expect("read");
        assert_eq!(self.table.values().cloned().collect::<Vec<_>>(), full);
        full
    }

    /// Compares the objects of a kind with the model's, and with what the change log says of each.
    async fn compare<K: Kind>(&self, expected: &[Stored<K>]) {
        let mut tx = self.catalog.database().begin().await.expect("transaction");
        let query = ListQuery::<K> {
            filter: Filter {
                statuses: K::Status::ALL.to_vec(),
                ..Filter::default()
            },
            limit: MAX_PAGE,
            ..ListQuery::default()
        };
        let mut reader = self.catalog.reader(&mut tx, NETWORK);
        let objects = reader.list(&query).await.expect("read").items;
        assert_eq!(objects.len(), expected.len());
        let logged = logged(&mut reader, K::NAME).await;
        for object in objects {
            let id = object.id.number();
            assert_eq!(logged[&id], serde_json::to_value(&object).expect("JSON"));
            let expected = find(expected, id).expect("in the model");
            assert_eq!(object.settings, expected.settings);
            let state = (object.status, object.revision.0);
            assert_eq!(state, (expected.status, expected.revision));
        }
    }
}

/// The last state of each object in the change log.
async fn logged(reader: &mut Reader<'_>, kind: KindName) -> HashMap<u32, serde_json::Value> {
    let query = ChangeQuery {
        kind: Some(kind),
        limit: MAX_CHANGES,
        ..ChangeQuery::default()
    };
    let changes = reader.changes(&query).await.expect("read").into_iter();
    let states = changes.filter_map(|change| Some((change.object, change.after?)));
    states.collect()
}

async fn check(locations: [Location; 2], sequence: Sequence) {
    let mut replicas = Vec::new();
    for location in &locations {
        replicas.push(Replica::open(location).await);
    }
    let mut model = Model {
        clock: START,
        ..Model::default()
    };
    model.advertisers.push(Stored {
        settings: advertiser("shop"),
        status: Activity::Active,
        revision: 1,
    });
    let mut now = START;
    for (step, (passed, operation)) in sequence.iter().enumerate() {
        now = now.saturating_add(std::time::Duration::from_secs((*passed).into()));
        let expected = model.apply(operation, now);
        let links = model.links();
        let mut versions = Vec::new();
        for replica in &mut replicas {
            let outcome = write_to(&replica.catalog, NETWORK, now, async |writer| {
                perform(writer, operation).await
            });
            let found = reasons_of(outcome.await);
            assert_eq!(found, expected, "step {step}: {operation:?}");
            assert_eq!(
                replica.synchronize().await,
                links,
                "step {step}: {operation:?}"
            );
            versions.push(replica.version);
        }
        assert_eq!(versions[0], versions[1], "step {step}");
    }
    for replica in &replicas {
        replica.compare(&model.advertisers).await;
        replica.compare(&model.offers).await;
        replica.compare(&model.affiliates).await;
        replica.compare(&model.applications).await;
        replica.compare(&model.campaigns).await;
        replica.compare(&model.links).await;
        replica.compare(&model.terms).await;
        replica.catalog.database().close().await;
    }
}

/// More cases with `PROPTEST_CASES`, of which each takes two databases.
#[test]
fn random_writes_agree_with_the_model() {
    let default = ProptestConfig::default();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: default.cases.div_ceil(64),
        max_shrink_iters: 40,
        failure_persistence: None,
        ..default
    });
    let server = TestServer::start();
    let number = AtomicU32::new(0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let ran = runner.run(&sequence(), |sequence| {
        let name = format!("case_{}", number.fetch_add(1, Ordering::Relaxed));
        server.execute(&format!("CREATE DATABASE {name}"));
        let url = server.url().replace("/postgres?", &format!("/{name}?"));
        let file = TestDatabase::sqlite();
        let locations = [file.location(), Location::Url(url)];
        runtime.block_on(check(locations, sequence));
        Ok(())
    });
    ran.expect("all agree");
}
