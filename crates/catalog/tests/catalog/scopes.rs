//! Objects of another network do not exist.

use crate::support::*;
use catalog::*;

#[tokio::test]
async fn foreign_objects_are_not_found() {
    for test in both().await {
        let own = test.campaign().await;
        let foreign = test.write_in(Scope::Installation, START, async |writer| {
            writer.create(network("other")).await
        });
        let foreign = Scope::Network(foreign.await.expect("created").id);
        let (id, revision) = (own.offer.id, own.offer.revision);
        let outcomes = [
            test.read_in(foreign, async |reader| {
                reader.get::<Offer>(id).await.map(drop)
            })
            .await,
            test.write_in(foreign, START, async |writer| {
                let settings = own.offer.settings.clone();
                writer.update(id, revision, settings).await.map(drop)
            })
            .await,
            test.write_in(foreign, START, async |writer| {
                writer.archive::<Offer>(id, revision).await.map(drop)
            })
            .await,
            test.write_in(foreign, START, async |writer| {
                writer
                    .set_secret::<Campaign>(own.campaign.id, revision, "postback", None)
                    .await
            })
            .await,
            test.read_in(foreign, async |reader| {
                reader
                    .terms_in_force(own.campaign.id, START)
                    .await
                    .map(drop)
            })
            .await,
            test.read_in(foreign, async |reader| {
                reader.get::<Network>(DEFAULT_NETWORK).await.map(drop)
            })
            .await,
        ];
        for outcome in outcomes {
            assert_eq!(reasons(outcome)[0].0, Reason::NotFound);
        }
        let named = test.write_in(foreign, START, async |writer| {
            writer.create(offer(own.advertiser.id, "shoes")).await
        });
        let expected = (Reason::UnknownReference, "/advertiser".to_owned());
        assert_eq!(reasons(named.await), [expected]);
        // Terms of a foreign owner: nothing of its terms is shown.
        let owner = TermsOwner::Offer(id);
        let created = test.write(START, async |writer| {
            writer
                .create_terms(terms(owner, None, Some(seconds(100))))
                .await
        });
        created.await.expect("created");
        let refused = test.write_in(foreign, START, async |writer| {
            writer
                .create_terms(terms(owner, None, Some(seconds(50))))
                .await
        });
        let expected = (Reason::UnknownReference, "/owner/offer".to_owned());
        assert_eq!(reasons(refused.await), [expected]);
        // Lists and changes are empty, except for the network itself.
        let (offers, networks, changes) = test
            .read_in(foreign, async |reader| {
                Ok((
                    reader.list::<Offer>(&ListQuery::default()).await?,
                    reader.list::<Network>(&ListQuery::default()).await?,
                    reader
                        .changes(&ChangeQuery {
                            limit: 10,
                            ..ChangeQuery::default()
                        })
                        .await?,
                ))
            })
            .await
            .expect("read");
        assert!(offers.items.is_empty());
        assert_eq!((networks.items.len(), changes.len()), (1, 1));
        // Equal names in two networks do not collide.
        let shop = test.write_in(foreign, START, async |writer| {
            writer.create(advertiser("shop")).await
        });
        shop.await.expect("created");
    }
}

#[tokio::test]
async fn networks_are_created_outside_and_others_inside() {
    for test in both().await {
        let inside = test.write(START, async |writer| {
            writer.create(network("a")).await.map(drop)
        });
        let outside = test.write_in(Scope::Installation, START, async |writer| {
            writer.create(advertiser("a")).await.map(drop)
        });
        for outcome in [inside.await, outside.await] {
            assert_eq!(reasons(outcome)[0].0, Reason::OutsideNetwork);
        }
    }
}

#[tokio::test]
async fn domains_belong_to_one_network_and_its_links() {
    for test in both().await {
        let parents = test.campaign().await;
        let with = |domains: &[&str]| Network {
            domains: domains.iter().map(ToString::to_string).collect(),
            ..network("default")
        };
        let own = test.write(START, async |writer| {
            let settings = with(&["go.example", "spare.example"]);
            writer.update(DEFAULT_NETWORK, Revision(1), settings).await
        });
        let own = own.await.expect("updated");
        let taken = test.write_in(Scope::Installation, START, async |writer| {
            let other = Network {
                name: "other".to_owned(),
                ..with(&["free.example", "GO.example"])
            };
            writer.create(other).await
        });
        let expected = (Reason::NameTaken, "/domains/1".to_owned());
        assert_eq!(reasons(taken.await), [expected]);
        let at = |domain: &str| Link {
            domain: domain.to_owned(),
            ..link(parents.campaign.id, "a")
        };
        let created = test.create(at("GO.example")).await;
        // The same slug is another link at another domain, and at every domain.
        test.create(at("spare.example")).await;
        test.create(at("")).await;
        let found = test.read(async |reader| reader.find_link("go.example", "a").await);
        assert_eq!(found.await.expect("read"), Some(created.clone()));
        let without = async |domains: &'static [&'static str]| {
            test.write(START, async |writer| {
                writer.update(own.id, own.revision, with(domains)).await
            })
            .await
        };
        let used = reasons(without(&["spare.example"]).await);
        assert_eq!(used, [(Reason::DomainInUse, "/domains".to_owned())]);
        let archived = test.write(START, async |writer| {
            writer.archive::<Link>(created.id, created.revision).await
        });
        archived.await.expect("archived");
        without(&["spare.example"])
            .await
            .expect("not used any more");
    }
}

#[tokio::test]
async fn only_default_network_has_links_of_every_domain() {
    for test in both().await {
        let other = test.network("other").await;
        let scope = Scope::Network(other.id);
        let parents = test.campaign_in(scope, "go.example").await;
        let at = |domain: &str| Link {
            domain: domain.to_owned(),
            ..link(parents.campaign.id, "a")
        };
        let missing = [(Reason::DomainMissing, "/domain".to_owned())];
        let created = test.write_in(scope, START, async |writer| writer.create(at("")).await);
        assert_eq!(reasons(created.await), missing);
        let created = test.write_in(scope, START, async |writer| {
            writer.create(at("go.example")).await
        });
        let created = created.await.expect("created");
        for scope in [scope, Scope::Installation] {
            let moved = test.write_in(scope, START, async |writer| {
                writer.update(created.id, created.revision, at("")).await
            });
            assert_eq!(reasons(moved.await), missing);
        }
    }
}

#[tokio::test]
async fn writers_need_a_network_in_use() {
    for test in both().await {
        let other = test.network("other").await;
        let create = async |id: u32| {
            let scope = Scope::Network(domain::NetworkId(id));
            test.write_in(scope, START, async |writer| {
                writer.create(affiliate("ann")).await
            })
            .await
        };
        create(other.id.0).await.expect("created");
        assert_eq!(reasons(create(99).await)[0].0, Reason::NotFound);
        let archived = test.write_in(Scope::Installation, START, async |writer| {
            let revision = other.revision;
            writer.archive::<Network>(other.id, revision).await
        });
        archived.await.expect("archived");
        assert_eq!(reasons(create(other.id.0).await)[0].0, Reason::Archived);
    }
}

#[tokio::test]
async fn archived_networks_leave_names_and_domains() {
    for test in both().await {
        let other = test.network("other").await;
        let scope = Scope::Network(other.id);
        let parents = test.campaign_in(scope, "go.example").await;
        let archive = async |id: domain::NetworkId| {
            test.write_in(Scope::Installation, START, async |writer| {
                let revision = writer.reader().get::<Network>(id).await?.revision;
                writer.archive::<Network>(id, revision).await
            })
            .await
        };
        let needed = reasons(archive(DEFAULT_NETWORK).await);
        assert_eq!(needed[0].0, Reason::NeedsDefaultNetwork);
        let settings = Link {
            domain: "go.example".to_owned(),
            ..link(parents.campaign.id, "a")
        };
        let created = test.write_in(scope, START, async |writer| writer.create(settings).await);
        let created = created.await.expect("created");
        assert_eq!(reasons(archive(other.id).await)[0].0, Reason::DomainInUse);
        let links = test.write_in(scope, START, async |writer| {
            writer.archive_many(&[(created.id, created.revision)]).await
        });
        links.await.expect("archived");
        archive(other.id).await.expect("archived");
        let again = test.write_in(Scope::Installation, START, async |writer| {
            let settings = Network {
                domains: vec!["go.example".to_owned()],
                ..network("other")
            };
            writer.create(settings).await
        });
        again.await.expect("name and domain are free");
    }
}

#[tokio::test]
async fn links_are_found_by_any_form_of_their_domain() {
    for test in both().await {
        let parents = test.campaign_in(NETWORK, "b\u{fc}cher.example").await;
        let settings = Link {
            domain: "xn--bcher-kva.example".to_owned(),
            ..link(parents.campaign.id, "a")
        };
        let created = test.create(settings).await;
        for (domain, is_found) in [
            ("xn--bcher-kva.example", true),
            ("B\u{fc}cher.EXAMPLE", true),
            ("other.example", false),
            ("not a host", false),
            ("", false),
        ] {
            let found = test.read(async |reader| reader.find_link(domain, "a").await);
            let expected = is_found.then(|| created.clone());
            assert_eq!(found.await.expect("read"), expected, "{domain}");
        }
    }
}
