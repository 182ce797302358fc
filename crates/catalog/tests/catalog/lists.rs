//! Lists: filters, orders and pages.

use crate::support::*;
use catalog::*;
use sql_store::{Statement, typed_row};

const NAMES: [&str; 7] = [
    "delta", "Alpha", "charlie", "50%_off", "bravo", "alpha 2", "echo",
];

async fn names(test: &TestCatalog, query: ListQuery<Affiliate>) -> Vec<String> {
    let page = test.read(async |reader| reader.list(&query).await);
    let items = page.await.expect("read").items.into_iter();
    items.map(|it| it.settings.name).collect()
}

#[tokio::test]
async fn pages_continue_in_every_order() {
    for test in both().await {
        for (second, name) in (0..).zip(NAMES) {
            // Two of each time.
            let now = seconds(second / 2);
            let created = test.write(now, async |writer| writer.create(affiliate(name)).await);
            created.await.expect("created");
        }
        for sort in [Sort::Id, Sort::Name, Sort::Created, Sort::Updated] {
            for descending in [false, true] {
                let query = |limit, after| ListQuery {
                    sort,
                    descending,
                    limit,
                    after,
                    ..ListQuery::default()
                };
                let all = names(&test, query(100, None)).await;
                let mut expected: Vec<String> = NAMES.map(str::to_owned).into();
                if sort == Sort::Name {
                    expected.sort_by_key(|name| name.to_lowercase());
                }
                if descending {
                    expected.reverse();
                }
                assert_eq!(all, expected, "{sort:?}");
                let (mut paged, mut after) = (Vec::new(), None);
                loop {
                    let query = query(2, after);
                    let page = test.read(async |reader| reader.list::<Affiliate>(&query).await);
                    let page = page.await.expect("read");
                    paged.extend(page.items.into_iter().map(|it| it.settings.name));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(paged, expected, "{sort:?}");
            }
        }
    }
}

#[tokio::test]
async fn filters_select_objects() {
    for test in both().await {
        let parents = test.campaign().await;
        for name in NAMES {
            test.create(affiliate(name)).await;
        }
        let search = |text: &str| ListQuery {
            filter: Filter {
                search: Some(text.to_owned()),
                ..Filter::default()
            },
            ..ListQuery::default()
        };
        for (text, expected) in [
            ("ALPHA", &["Alpha", "alpha 2"][..]),
            ("50%", &["50%_off"]),
            ("0%_O", &["50%_off"]),
            ("a_pha", &[]),
            ("!", &[]),
            ("' OR 1 = 1 --", &[]),
        ] {
            assert_eq!(names(&test, search(text)).await, expected, "{text}");
        }
        let with = |filter| ListQuery {
            filter,
            ..ListQuery::default()
        };
        let decided = with(Filter {
            statuses: vec![AffiliateStatus::Approved, AffiliateStatus::Banned],
            ..Filter::default()
        });
        assert_eq!(names(&test, decided).await, ["ann"]);
        let archived = test.write(seconds(9), async |writer| {
            let (id, revision) = (parents.affiliate.id, parents.affiliate.revision);
            writer.archive::<Affiliate>(id, revision).await
        });
        archived.await.expect("archived");
        assert!(
            !names(&test, with(Filter::default()))
                .await
                .contains(&"ann".to_owned())
        );
        let changed = with(Filter {
            statuses: AffiliateStatus::ALL.to_vec(),
            updated_since: Some(seconds(9)),
            ..Filter::default()
        });
        assert_eq!(names(&test, changed).await, ["ann"]);
        // By parents, also those of parents.
        let other = test.create(campaign(
            test.create(approved("zoe")).await.id,
            parents.offer.id,
            "spring",
        ));
        let other = other.await;
        let first = test.create(link(parents.campaign.id, "a")).await;
        test.create(link(other.id, "b")).await;
        for (filter, expected) in [
            (
                Filter {
                    campaign: Some(parents.campaign.id),
                    ..Filter::default()
                },
                1,
            ),
            (
                Filter {
                    affiliate: Some(parents.affiliate.id),
                    ..Filter::default()
                },
                1,
            ),
            (
                Filter {
                    advertiser: Some(parents.advertiser.id),
                    offer: Some(parents.offer.id),
                    ..Filter::default()
                },
                2,
            ),
        ] {
            let page = test.read(async |reader| reader.list::<Link>(&with_links(filter)).await);
            let items = page.await.expect("read").items;
            assert_eq!((items.len(), items[0].id), (expected, first.id));
        }
    }
}

fn with_links(filter: Filter<Link>) -> ListQuery<Link> {
    ListQuery {
        filter,
        ..ListQuery::default()
    }
}

#[tokio::test]
async fn foreign_and_altered_cursors_are_refused() {
    for test in both().await {
        for name in NAMES {
            test.create(affiliate(name)).await;
        }
        let query = ListQuery::<Affiliate> {
            sort: Sort::Name,
            limit: 2,
            ..ListQuery::default()
        };
        let page = test.read(async |reader| reader.list(&query).await);
        let Cursor(cursor) = page.await.expect("read").next.expect("more");
        let continued = |cursor: String| ListQuery {
            after: Some(Cursor(cursor)),
            ..query.clone()
        };
        let mut wrong = vec![
            ListQuery {
                sort: Sort::Created,
                ..continued(cursor.clone())
            },
            ListQuery {
                descending: true,
                ..continued(cursor.clone())
            },
            ListQuery {
                filter: Filter {
                    search: Some("a".to_owned()),
                    ..Filter::default()
                },
                ..continued(cursor.clone())
            },
            continued(String::new()),
            continued("=".to_owned()),
        ];
        for at in 0..cursor.len() {
            let mut altered = cursor.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).expect("ASCII");
            wrong.push(continued(altered));
        }
        for query in wrong {
            let refused = test.read(async |reader| reader.list(&query).await);
            assert_eq!(
                reasons(refused.await)[0].0,
                Reason::InvalidCursor,
                "{query:?}"
            );
        }
        let page = test.read(async |reader| reader.list(&continued(cursor)).await);
        assert_eq!(page.await.expect("read").items.len(), 2);
        for limit in [0, MAX_PAGE + 1] {
            let query = ListQuery::<Affiliate> {
                limit,
                ..ListQuery::default()
            };
            let refused = test.read(async |reader| reader.list(&query).await);
            assert_eq!(reasons(refused.await)[0].0, Reason::OutOfRange);
        }
    }
}

const TABLES: [&str; 10] = [
    "networks",
    "platforms",
    "advertisers",
    "offers",
    "affiliates",
    "applications",
    "campaigns",
    "creatives",
    "links",
    "terms",
];

/// Each order of a list with its index.
const ORDERS: [(&str, &str); 3] = [
    ("id", "network"),
    ("label, id", "label"),
    ("updated, id", "updated"),
];

async fn plan(test: &TestCatalog, explain: &str, table: &str, order: &str) -> String {
    let mut tx = test.catalog.database().begin().await.expect("transaction");
    let text = format!(
        "{explain} SELECT id, document FROM catalog_{table} WHERE 1 = 1 AND network = 1 AND archived IS NULL \
         ORDER BY {order} LIMIT 101"
    );
    // Statements have no text from outside; this one lives as long as the test.
    let statement = Statement::new(text.leak());
    if explain == "EXPLAIN" {
        let no_sort = Statement::new("SET LOCAL enable_sort = off");
        tx.execute(no_sort).await.expect("set");
        let rows: Vec<PostgresPlan> = tx.fetch_all(statement).await.expect("a plan");
        return rows.into_iter().map(|row| row.0).collect();
    }
    let rows: Vec<SqlitePlan> = tx.fetch_all(statement).await.expect("a plan");
    rows.into_iter().map(|row| row.detail).collect()
}

typed_row! {
    struct SqlitePlan {
        detail: String,
    }
}

struct PostgresPlan(String);

impl sql_store::TypedRow for PostgresPlan {
    fn from_row(row: &sql_store::Row) -> Result<Self, sql_store::SqlError> {
        sql_store::Field::read(row, "QUERY PLAN").map(Self)
    }
}

#[tokio::test]
async fn lists_follow_an_index_in_every_order() {
    let [sqlite, postgres] = both().await.try_into().ok().expect("two databases");
    for table in TABLES {
        for (order, index) in ORDERS {
            let plan = plan(&sqlite, "EXPLAIN QUERY PLAN", table, order).await;
            let index = format!("USING INDEX catalog_{table}_{index} (network=?)");
            assert!(plan.contains(&index), "{table} {order}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{table} {order}: {plan}");
        }
    }
    // PostgreSQL chooses by the number of rows; it may sort the few of a small network.
    let other = Scope::Network(postgres.network("other").await.id);
    for (scope, count) in [(other, 6_000), (NETWORK, 50)] {
        let names = (0..count).map(|number| affiliate(&format!("affiliate {number}")).into());
        let created = postgres.write_in(scope, START, async |writer| {
            writer.create_many::<Affiliate>(names.collect()).await
        });
        created.await.expect("created");
    }
    postgres.execute("ANALYZE catalog_affiliates").await;
    for (order, index) in ORDERS {
        let plan = plan(&postgres, "EXPLAIN", "affiliates", order).await;
        let index = format!("using catalog_affiliates_{index} ");
        assert!(plan.contains(&index), "{order}: {plan}");
    }
}
