//! Creation, changes, status and names of objects.

use crate::support::*;
use catalog::*;
use domain::*;

#[tokio::test]
async fn updates_need_the_present_revision() {
    for test in both().await {
        let created = test.create(affiliate("ann")).await;
        assert_eq!((created.revision, created.created), (Revision(1), START));
        let update = async |revision: u32, name: &'static str| {
            test.write(seconds(5), async |writer| {
                let settings = affiliate(name);
                writer
                    .update(created.id, Revision(revision), settings)
                    .await
            })
            .await
        };
        let updated = update(1, "ben").await.expect("updated");
        assert_eq!(
            (updated.revision, updated.updated),
            (Revision(2), seconds(5))
        );
        assert_eq!((updated.created, updated.id), (START, created.id));
        let stale = reasons(update(1, "eve").await);
        assert_eq!(stale, [(Reason::RevisionConflict, String::new())]);
        // Equal settings are no change.
        let before = test.links().await.0;
        let equal = update(2, "ben").await.expect("equal");
        assert_eq!((equal, test.links().await.0), (updated.clone(), before));
        let read = test.read(async |reader| reader.get::<Affiliate>(created.id).await);
        assert_eq!(read.await.expect("read"), updated);
    }
}

#[tokio::test]
async fn statuses_change_as_their_tables_permit() {
    use AffiliateStatus::{Applied, Approved, Archived, Banned, Suspended};
    for test in both().await {
        for (index, (from, to, reason, expected)) in [
            (Applied, Approved, "", Ok(())),
            (Applied, Suspended, "x", Err(Reason::StatusNotPossible)),
            (Approved, Applied, "", Err(Reason::StatusNotPossible)),
            (Approved, Approved, "", Err(Reason::StatusNotPossible)),
            (Approved, Banned, "fraud", Ok(())),
            (Approved, Banned, " ", Err(Reason::ReasonMissing)),
            (Approved, Suspended, "a\u{1}", Err(Reason::InvalidText)),
            (Approved, Archived, "", Ok(())),
        ]
        .into_iter()
        .enumerate()
        {
            let created = test
                .create(Draft::from(affiliate(&format!("affiliate {index}"))).with_status(from))
                .await;
            let changed = test.write(seconds(1), async |writer| {
                writer
                    .set_status::<Affiliate>(created.id, created.revision, to, reason)
                    .await
            });
            match (changed.await, expected) {
                (Ok(changed), Ok(())) => {
                    assert_eq!((changed.status, &*changed.status_reason), (to, reason));
                    let archived = (to == Archived).then(|| seconds(1));
                    assert_eq!((changed.archived, changed.revision.0), (archived, 2));
                }
                (refused, Err(reason)) => assert_eq!(reasons(refused)[0].0, reason, "{from} {to}"),
                (refused, Ok(())) => panic!("{from} {to}: {refused:?}"),
            }
        }
        let refused = test.write(START, async |writer| {
            writer
                .create(Draft::from(affiliate("banned")).with_status(Banned))
                .await
        });
        let refused = refused.await;
        let text = refused.as_ref().expect_err("refused").to_string();
        assert!(text.contains("it can be applied or approved"), "{text}");
    }
}

#[tokio::test]
async fn archived_objects_stay_and_give_their_names_up() {
    for test in both().await {
        let created = test.create(affiliate("Ann")).await;
        let taken = test.write(START, async |writer| writer.create(affiliate("ANN")).await);
        assert_eq!(
            reasons(taken.await),
            [(Reason::NameTaken, "/name".to_owned())]
        );
        let archived = test
            .write(START, async |writer| {
                let (id, revision) = (created.id, created.revision);
                writer.archive::<Affiliate>(id, revision).await
            })
            .await
            .expect("archived");
        let other = test.create(affiliate("ANN")).await;
        assert_ne!(other.id, created.id);
        let read = test.read(async |reader| reader.get::<Affiliate>(created.id).await);
        assert_eq!(read.await.expect("it stays"), archived);
        let change = test.write(START, async |writer| {
            let (id, revision) = (archived.id, archived.revision);
            writer.update(id, revision, affiliate("x")).await
        });
        assert_eq!(reasons(change.await)[0].0, Reason::Archived);
        // An archived object can't be referred to.
        let advertiser = test.create(advertiser("shop")).await;
        let offer = test.create(offer(advertiser.id, "shoes")).await;
        let refused = test.write(START, async |writer| {
            writer
                .create(campaign(archived.id, offer.id, "spring"))
                .await
        });
        let expected = (Reason::UnknownReference, "/affiliate".to_owned());
        assert_eq!(reasons(refused.await), [expected]);
    }
}

#[tokio::test]
async fn names_are_unique_within_their_parents() {
    for test in both().await {
        let parents = test.campaign().await;
        let (affiliate, offer) = (parents.affiliate.id, parents.offer.id);
        let other = test.create(approved("ben")).await;
        test.create(campaign(other.id, offer, "spring")).await;
        test.create(link(parents.campaign.id, "spring")).await;
        test.create(link(parents.campaign.id, "SPRING")).await;
        let application = Application {
            affiliate,
            offer,
            message: String::new(),
        };
        test.create(application.clone()).await;
        let refused = [
            test.write(START, async |writer| {
                writer
                    .create(campaign(affiliate, offer, "Spring"))
                    .await
                    .map(drop)
            })
            .await,
            test.write(START, async |writer| {
                writer
                    .create(link(parents.campaign.id, "spring"))
                    .await
                    .map(drop)
            })
            .await,
            test.write(START, async |writer| {
                writer.create(application).await.map(drop)
            })
            .await,
        ];
        let fields: Vec<_> = refused.into_iter().flat_map(reasons).collect();
        let expected = ["/name", "/slug", "/offer"];
        let expected = expected.map(|field| (Reason::NameTaken, field.to_owned()));
        assert_eq!(fields, expected);
        // A name that is given up by a change is free.
        let renamed = test.write(START, async |writer| {
            let (id, revision) = (parents.campaign.id, parents.campaign.revision);
            writer
                .update(id, revision, campaign(affiliate, offer, "summer"))
                .await
        });
        renamed.await.expect("renamed");
        test.create(campaign(affiliate, offer, "spring")).await;
    }
}

#[tokio::test]
async fn parents_are_fixed_and_siblings_agree() {
    for test in both().await {
        let parents = test.campaign().await;
        let other = test.create(offer(parents.advertiser.id, "hats")).await;
        let moved = test.write(START, async |writer| {
            let settings = campaign(parents.affiliate.id, other.id, "spring");
            let (id, revision) = (parents.campaign.id, parents.campaign.revision);
            writer.update(id, revision, settings).await
        });
        let expected = (Reason::FixedReference, "/offer".to_owned());
        assert_eq!(reasons(moved.await), [expected]);
        let creative = |offer: OfferId| -> Creative {
            from_json(serde_json::json!({
                "name": "text", "offer": offer, "content": { "text": { "text": "Shoes!" } },
            }))
        };
        let (own, foreign) = (
            test.create(creative(parents.offer.id)).await,
            test.create(creative(other.id)).await,
        );
        let with = |creative: CreativeId| Link {
            creative: Some(creative),
            ..link(parents.campaign.id, "a")
        };
        let refused = test.write(START, async |writer| writer.create(with(foreign.id)).await);
        let expected = (Reason::ForeignReference, "/creative".to_owned());
        assert_eq!(reasons(refused.await), [expected]);
        test.create(with(own.id)).await;
    }
}

#[tokio::test]
async fn secrets_are_stored_apart_and_shown_nowhere() {
    const SECRET: &str = "hush-hush-hush-hush";
    for test in both().await {
        let settings: Advertiser = from_json(serde_json::json!({
            "name": "shop", "auth": [{ "secret_path": { "secret": "path" } }], "path_keys": ["first"],
        }));
        let created = test.create(settings).await;
        let secret = Secret::new(SECRET.to_owned()).expect("long enough");
        assert!(!format!("{secret:?}").contains("hush"));
        let set = async |label: &'static str, secret: Option<&Secret>| {
            test.write(seconds(1), async |writer| {
                writer
                    .set_secret::<Advertiser>(created.id, created.revision, label, secret)
                    .await
            })
            .await
        };
        set("path", Some(&secret)).await.expect("set");
        let unknown = set("token", Some(&secret)).await;
        assert_eq!(reasons(unknown)[0].0, Reason::UnknownSecret);
        let (object, states, value, changes) = test
            .read(async |reader| {
                Ok((
                    reader.get::<Advertiser>(created.id).await?,
                    reader.secret_states::<Advertiser>(created.id).await?,
                    reader.secret::<Advertiser>(created.id, "path").await?,
                    reader
                        .changes(&ChangeQuery {
                            limit: 100,
                            ..ChangeQuery::default()
                        })
                        .await?,
                ))
            })
            .await
            .expect("read");
        assert_eq!(value.expect("set").expose(), SECRET);
        let states: Vec<_> = states.iter().map(|it| (&*it.label, it.updated)).collect();
        assert_eq!(states, [("path", Some(seconds(1))), ("first", None)]);
        assert_eq!(object.revision, created.revision);
        let last = changes.last().expect("a change");
        assert_eq!(last.action, Action::SecretChanged);
        let shown = serde_json::to_string(&(&object, &changes)).expect("JSON");
        assert!(!shown.contains("hush") && !format!("{changes:?}").contains("hush"));
        set("path", None).await.expect("removed");
        let read = async || {
            let read =
                test.read(async |reader| reader.secret_states::<Advertiser>(created.id).await);
            read.await.expect("read")
        };
        assert!(read().await.iter().all(|state| state.updated.is_none()));
        // A secret that the settings do not name any more does not return with its label.
        set("first", Some(&secret)).await.expect("set");
        assert!(read().await[1].updated.is_some());
        let update = async |revision: u32, settings: Advertiser| {
            let updated = test.write(START, async |writer| {
                let revision = Revision(revision);
                writer.update(created.id, revision, settings).await
            });
            updated.await.expect("updated");
        };
        update(1, advertiser("shop")).await;
        // The log says that it was removed.
        let log = test.read(async |reader| reader.changes(&ChangeQuery::default()).await);
        let log = log.await.expect("read");
        let last = log.last().expect("a change");
        assert_eq!(last.action, Action::SecretChanged);
        let removed = serde_json::json!({ "secret": "first", "set": false });
        assert_eq!(last.after, Some(removed));
        let stale = reasons(set("first", Some(&secret)).await);
        assert_eq!(stale[0].0, Reason::RevisionConflict);
        update(2, created.settings.clone()).await;
        assert!(read().await[1].updated.is_none());
    }
    for wrong in ["short", "", "control\u{1}control", &"x".repeat(1_025)] {
        let refused = reasons(Secret::new(wrong.to_owned()));
        assert_eq!(refused[0].0, Reason::InvalidSecret);
    }
}

#[tokio::test]
async fn dry_run_leaves_nothing() {
    for test in both().await {
        let parents = test.campaign().await;
        let before = test.links().await;
        let attempts = test
            .catalog
            .database()
            .attempts(sql_store::Isolation::ReadCommitted);
        let mut tx = attempts.begin().await.expect("transaction");
        let author = Author::program("test");
        let mut writer = test
            .catalog
            .writer(&mut tx, NETWORK, author, || seconds(1))
            .await
            .expect("locked");
        let dry = writer
            .create(link(parents.campaign.id, "a"))
            .await
            .expect("created");
        let found = writer.reader().find_link("", "a").await.expect("read");
        assert_eq!(found, Some(dry));
        drop(tx);
        assert_eq!(test.links().await, before);
        let found = test.read(async |reader| reader.find_link("", "a").await);
        assert_eq!(found.await.expect("read"), None);
    }
}

#[tokio::test]
async fn path_keys_are_plain_and_unique_in_the_installation() {
    let with_key = |name: &str, auth: bool| -> Advertiser {
        let auth: &[serde_json::Value] = if auth {
            &[serde_json::json!({ "secret_path": { "secret": "key" } })]
        } else {
            &[]
        };
        let path_keys: &[&str] = if auth.is_empty() { &["key"] } else { &[] };
        from_json(serde_json::json!({ "name": name, "auth": auth, "path_keys": path_keys }))
    };
    for test in both().await {
        let other = Scope::Network(test.network("other").await.id);
        let first = test.create(with_key("first", false)).await;
        let second = test.write_in(other, START, async |writer| {
            writer.create(with_key("second", true)).await
        });
        let second = second.await.expect("created");
        let set = async |scope: Scope, of: &Object<Advertiser>, secret: &str| {
            let secret = Secret::new(secret.to_owned()).expect("long enough");
            test.write_in(scope, START, async |writer| {
                let id = of.id;
                let set = writer.set_secret::<Advertiser>(id, of.revision, "key", Some(&secret));
                set.await
            })
            .await
        };
        let update = async |of: &Object<Advertiser>, settings: Advertiser| {
            test.write_in(other, START, async |writer| {
                writer.update(of.id, of.revision, settings).await
            })
            .await
        };
        let not_plain = set(NETWORK, &first, "0123456789/abcdef").await;
        let field = "/path_keys/0".to_owned();
        assert_eq!(reasons(not_plain), [(Reason::InvalidSecret, field.clone())]);
        const SHARED: &str = "0123456789abcdef";
        set(NETWORK, &first, SHARED).await.expect("set");
        set(NETWORK, &first, SHARED).await.expect("its own");
        // A secret that is no path key may be the same, until it becomes one.
        set(other, &second, SHARED).await.expect("set");
        let taken = [(Reason::NameTaken, field)];
        let becomes = update(&second, with_key("second", false)).await;
        assert_eq!(reasons(becomes), taken);
        // It stays reserved when the name changes, and is free once the advertiser is archived.
        let renamed = test.write(START, async |writer| {
            let settings = with_key("renamed", false);
            writer.update(first.id, first.revision, settings).await
        });
        let renamed = renamed.await.expect("renamed");
        let becomes = update(&second, with_key("second", false)).await;
        assert_eq!(reasons(becomes), taken);
        let archived = test.write(START, async |writer| {
            writer
                .archive::<Advertiser>(renamed.id, renamed.revision)
                .await
        });
        archived.await.expect("archived");
        let becomes = update(&second, with_key("second", false)).await;
        becomes.expect("free");
    }
}

#[tokio::test]
async fn names_that_look_the_same_are_one() {
    for test in both().await {
        test.create(affiliate("Caf\u{e9}")).await;
        for (name, reason) in [
            ("CAFE\u{301}", Reason::NameTaken),
            ("Cafe\u{200b}", Reason::InvalidName),
            ("\u{202e}efaC", Reason::InvalidName),
        ] {
            let refused = test.write(START, async |writer| writer.create(affiliate(name)).await);
            assert_eq!(reasons(refused.await)[0].0, reason, "{name:?}");
        }
    }
}

#[tokio::test]
async fn words_have_one_meaning_and_responses_fit() {
    for test in both().await {
        for (settings, reason, field) in [
            (
                serde_json::json!({ "status_words": { "approved": ["Paid"], "rejected": ["x", "pAID"] } }),
                Some(Reason::Repeated),
                "/status_words/rejected/1",
            ),
            (
                serde_json::json!({ "event_words": { "sale": ["buy"], "lead": ["BUY"] } }),
                Some(Reason::Repeated),
                "/event_words/sale/0",
            ),
            (
                serde_json::json!({ "status_words": { "approved": ["Paid", "paid"] } }),
                None,
                "",
            ),
            // 129 characters of two bytes.
            (
                serde_json::json!({ "response": "é".repeat(129) }),
                Some(Reason::InvalidText),
                "/response",
            ),
            (serde_json::json!({ "response": "é".repeat(128) }), None, ""),
        ] {
            let mut settings = settings;
            let name: String = settings.to_string().chars().take(100).collect();
            settings["name"] = name.into();
            let created = test.write(START, async |writer| {
                writer.create(from_json::<Advertiser>(settings)).await
            });
            match (created.await, reason) {
                (Ok(_), None) => {}
                (created, Some(reason)) => {
                    assert_eq!(reasons(created), [(reason, field.to_owned())]);
                }
                (Err(error), None) => panic!("{error}"),
            }
        }
    }
}
