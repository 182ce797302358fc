//! The schema on the real engine.
#![allow(missing_docs)]

use clickhouse::Client;
use clickhouse_embedded::{Launch, RunningEngine, launcher_exe};
use clickhouse_schema::{COOKBOOK, Layout, MIGRATIONS, MigrateError, migrate};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

fn start(data: &Path, http_port: u16) -> RunningEngine {
    let launcher = launcher_exe().expect("built");
    Launch {
        data_dir: data.into(),
        http_port,
        launcher,
    }
    .start()
    .expect("starts")
}

fn client(engine: &RunningEngine) -> Client {
    let tracker = &engine.credentials().tracker;
    Client::default()
        .with_url(engine.url())
        .with_user(&tracker.user)
        .with_password(&tracker.password)
        .with_database("tracking")
}

async fn count(client: &Client, sql: &str) -> u64 {
    client.query(sql).fetch_one().await.expect(sql)
}

#[tokio::test]
async fn migrations_apply_once_and_refuse_unknown_schemas() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = start(data.path(), 0);
    let client = client(&engine);
    let first = migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates");
    assert_eq!(first.applied.len(), MIGRATIONS.len());
    let second = migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates again");
    assert!(second.applied.is_empty());
    assert_eq!(second.version, first.version);
    let cluster = Layout::Cluster("fleet".to_owned());
    let refused = migrate(&client, "tracking", &cluster).await;
    let refused = refused.expect_err("tables of one server").to_string();
    assert!(refused.contains("created for one server"), "{refused}");
    let log = fs::read_to_string(data.path().join("engine.log")).expect("the engine's log");
    assert!(!log.contains("<Error>"), "{log}");
    assert!(matches!(
        migrate(&client, "x; DROP", &Layout::Server).await,
        Err(MigrateError::BadName(_))
    ));
    for query in COOKBOOK {
        client
            .query(&query.sql.replace('?', "??"))
            .fetch_bytes("TSV")
            .expect(query.name)
            .collect()
            .await
            .expect(query.name);
    }

    let insert = |version: u32| {
        format!(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES ({version}, 'x', 'y')"
        )
    };
    let next = MIGRATIONS.len() as u32 + 1;
    client
        .query(&insert(next + 1))
        .execute()
        .await
        .expect("inserted");
    assert!(
        matches!(migrate(&client, "tracking", &Layout::Server).await, Err(MigrateError::Gap { missing }) if missing == next)
    );
    client
        .query(&insert(next))
        .execute()
        .await
        .expect("inserted");
    assert!(matches!(
        migrate(&client, "tracking", &Layout::Server).await,
        Err(MigrateError::Newer { .. })
    ));
    client
        .query("TRUNCATE TABLE schema_migrations")
        .execute()
        .await
        .expect("truncated");
    client.query(&insert(1)).execute().await.expect("inserted");
    assert!(matches!(
        migrate(&client, "tracking", &Layout::Server).await,
        Err(MigrateError::Changed { .. })
    ));
}

/// A disk of some MiB, if one may be mounted here; unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(mib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}M"), "tmpfs"]);
        let mounted = mount.arg(dir.path()).status();
        mounted.is_ok_and(|it| it.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn nothing_is_made_without_room_and_all_of_it_once_there_is() {
    let Some(disk) = SmallDisk::mount(512) else {
        println!("not tried: mounting a small disk needs root");
        return;
    };
    let (data, filler) = (disk.0.path().join("data"), disk.0.path().join("filler"));
    let engine = start(&data, 0);
    let mut file = fs::File::create(&filler).expect("writable");
    while file.write_all(&[0; 64 << 10]).is_ok() {}
    let refused = migrate(&client(&engine), "tracking", &Layout::Server).await;
    assert!(
        matches!(refused, Err(MigrateError::NoRoom { .. })),
        "{refused:?}"
    );
    drop(file);
    fs::remove_file(&filler).expect("removable");
    migrate(&client(&engine), "tracking", &Layout::Server)
        .await
        .expect("migrates");
    engine.kill().expect("killed");
    let engine = start(&data, 0);
    let tables = "SELECT count() FROM system.tables WHERE database = 'tracking'";
    assert!(count(&client(&engine), tables).await > 2);
}

#[tokio::test]
async fn repeated_block_insert_is_stored_once_despite_crash() {
    let data = tempfile::tempdir().expect("temporary directory");
    let mut engine = start(data.path(), 0);
    let port = engine.port();
    migrate(&client(&engine), "tracking", &Layout::Server)
        .await
        .expect("migrates");
    let block = "INSERT INTO clicks (id, time, campaign, visitor, flags) \
                 SELECT toString(number), now64(6), 'c', number % 100, number % 4 FROM numbers(1000)";
    for round in 0..3 {
        let client = client(&engine);
        let insert = client
            .query(block)
            .with_setting("insert_deduplication_token", "block-1");
        insert.execute().await.expect("inserted");
        assert_eq!(
            count(&client, "SELECT count() FROM clicks").await,
            1000,
            "round {round}"
        );
        let rolled =
            "SELECT sum(uniques + repeated + bots + prefetches + heads) FROM clicks_by_hour";
        assert_eq!(count(&client, rolled).await, 1000, "round {round}");
        assert_eq!(
            count(&client, "SELECT sum(bots) FROM clicks_by_hour").await,
            500
        );
        assert_eq!(count(&client, "SELECT countIf(bot) FROM clicks").await, 500);
        assert_eq!(
            count(&client, "SELECT countIf(counted) FROM clicks").await,
            500
        );
        engine.kill().expect("killed");
        engine = start(data.path(), port);
    }
}

#[tokio::test]
async fn visits_of_unknown_uniqueness_are_counted_apart() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = start(data.path(), 0);
    let client = client(&engine);
    migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates");
    // Unique, repeated, unknown, and a bot that is unknown, which does not count.
    let insert = "INSERT INTO clicks (id, time, campaign, visitor, flags) \
                  SELECT toString(number), now64(6), 'c', number, [0, 0, 0, 1, 1, 256, 258][number + 1] \
                  FROM numbers(7)";
    client.query(insert).execute().await.expect("inserted");
    let sums = "SELECT sum(counted), sum(uniques), sum(repeated), sum(unknown), sum(bots) FROM clicks_by_hour";
    assert_eq!(rows(&client, sums).await, ["6|3|2|1|1"]);
    let marked =
        "SELECT countIf(uniqueness_unknown), countIf(counted AND uniqueness_unknown) FROM clicks";
    assert_eq!(rows(&client, marked).await, ["2|1"]);
}

/// Rows of a question, each as one text; NULL is empty.
async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let sql = sql.replace('?', "??");
    let sql = format!(
        "SELECT concatWithSeparator('|', * APPLY(x -> ifNull(toString(x), ''))) FROM ({sql})"
    );
    client.query(&sql).fetch_all().await.expect(&sql)
}

fn question(name: &str) -> &'static str {
    let query = COOKBOOK.iter().find(|query| query.name == name);
    query.expect("in the cookbook").sql
}

#[tokio::test]
async fn latest_revision_counts_and_currencies_are_not_added() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = start(data.path(), 0);
    let client = client(&engine);
    migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates");
    let run = async |sql: &str| client.query(sql).execute().await.expect(sql);
    run("INSERT INTO conversions (time, advertiser, click_id, kind, kind_name, transaction, revision, \
         status, payout_minor, currency, payout) VALUES \
         (now64(), 'a', 'c1', 'sale', 'order', 't', 1, 'pending', 100, 'EUR', 1), \
         (now64(), 'a', 'c1', 'sale', 'bought', 't', 3, 'approved', 300, 'EUR', 3), \
         (now64(), 'a', 'c1', 'sale', 'order', 't', 2, 'approved', 200, 'EUR', 2), \
         (now64(), 'a', 'c1', 'sale', '', 'u', 1, 'approved', 50, 'EUR', 0.5), \
         (now64(), 'a', 'c2', 'sale', '', 't', 1, 'approved', 70, 'JPY', 70), \
         (now64(), 'b', 'c3', 'custom', 'x', '', 1, 'hold', 10, 'EUR', 0.1), \
         (now64(), 'b', 'c3', 'custom', 'y', '', 1, 'chargeback', 20, 'EUR', 0.2)")
    .await;
    let current = "SELECT advertiser, click_id, custom_kind, transaction, revision, status, payout \
                   FROM current_conversions ORDER BY ALL";
    let expected = [
        "a|c1||t|3|approved|3",
        "a|c1||u|1|approved|0.5",
        "a|c2||t|1|approved|70",
        "b|c3|x||1|hold|0.1",
        "b|c3|y||1|chargeback|0.2",
    ];
    assert_eq!(rows(&client, current).await, expected);
    let by_advertiser = rows(&client, question("conversions_by_advertiser")).await;
    let expected = [
        "a|EUR|2|2|0|0|3.5|0",
        "b|EUR|2|0|1|1|0|0.1",
        "a|JPY|1|1|0|0|70|0",
    ];
    assert_eq!(by_advertiser, expected);

    let by_campaign = async || rows(&client, question("conversions_by_campaign")).await;
    assert_eq!(
        by_campaign().await,
        ["unknown||EUR|4|2|3.5", "unknown||JPY|1|1|70"]
    );
    // A conversion that came before its click is joined once the click is there.
    run("INSERT INTO clicks (id, time, campaign, affiliate) VALUES \
         ('c1', now64(6), 'spring', 'aff'), ('c2', now64(6), 'spring', 'aff'), \
         ('c9', now64(6), 'other', 'aff')")
    .await;
    let joined = [
        "spring|aff|EUR|2|2|3.5",
        "unknown||EUR|2|0|0",
        "spring|aff|JPY|1|1|70",
    ];
    assert_eq!(by_campaign().await, joined);
}

/// The first revision of a store that replaced a lost one counts, regardless of the number that the lost one reached.
#[tokio::test]
async fn later_epoch_supersedes_higher_revision() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = start(data.path(), 0);
    let client = client(&engine);
    migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates");
    let insert = "INSERT INTO conversions (time, advertiser, click_id, kind, transaction, epoch, revision, status) \
                  VALUES (now64(), 'a', 'c1', 'sale', 't', 1000, 3, 'approved'), \
                  (now64(), 'a', 'c1', 'sale', 't', 2000, 1, 'chargeback'), \
                  (now64(), 'a', 'c1', 'sale', 't', 1000, 2, 'pending')";
    client.query(insert).execute().await.expect("inserted");
    for view in ["current_conversions", "conversions_with_clicks"] {
        let sql = format!("SELECT revision, status FROM {view}");
        let standing = rows(&client, &sql).await;
        assert_eq!(standing, ["1|chargeback"], "{view}");
    }
    let epoch = rows(&client, "SELECT epoch FROM current_conversions").await;
    assert_eq!(epoch, ["2000"]);
}

/// A row of a version that did not record refunds has the refund `unknown`.
#[tokio::test]
async fn refunds_of_earlier_builds_are_unknown() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = start(data.path(), 0);
    let client = client(&engine);
    migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates");
    let run = async |sql: &str| client.query(sql).execute().await.expect(sql);
    run(
        "INSERT INTO conversions (time, advertiser, kind, transaction, revision) VALUES \
         (now64(), 'a', 'sale', 't', 1), (now64(), 'a', 'sale', 'u', 1)",
    )
    .await;
    run("INSERT INTO conversions (time, advertiser, kind, transaction, revision, refunded_minor, last_refund) VALUES \
         (now64(), 'a', 'sale', 't', 2, 200, '200 EUR sale 9 '), (now64(), 'a', 'sale', 'v', 1, 0, '')")
    .await;
    let refunds =
        "SELECT transaction, refunded_minor, last_refund FROM current_conversions ORDER BY ALL";
    assert_eq!(
        rows(&client, refunds).await,
        ["t|200|200 EUR sale 9 ", "u|0|unknown", "v|0|"]
    );
}

#[tokio::test]
async fn deleted_click_keeps_its_campaign() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = start(data.path(), 0);
    let client = client(&engine);
    migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates");
    let run = async |sql: &str| client.query(sql).execute().await.expect(sql);
    run(
        "INSERT INTO conversions (time, advertiser, click_id, kind, revision, status, currency, payout) VALUES \
         (now64(), 'a', 'c1', 'sale', 1, 'approved', 'EUR', 1), \
         (now64(), 'a', 'c2', 'sale', 1, 'approved', 'EUR', 2)",
    )
    .await;
    run("INSERT INTO clicks (id, time, campaign, affiliate) VALUES \
         ('c1', now64(6), 'spring', 'aff'), ('c2', now64(6), 'spring', 'aff')")
    .await;
    let by_campaign = async || rows(&client, question("conversions_by_campaign")).await;
    assert_eq!(by_campaign().await, ["spring|aff|EUR|2|2|3"]);
    // Copied twice, as after a crash, and then deleted.
    for _ in 0..2 {
        run(
            "INSERT INTO conversion_attribution (click_id, campaign, affiliate) \
             SELECT id, campaign, affiliate FROM clicks WHERE id = 'c1'",
        )
        .await;
    }
    assert_eq!(by_campaign().await, ["spring|aff|EUR|2|2|3"]);
    run("TRUNCATE TABLE clicks").await;
    let kept = ["spring|aff|EUR|1|1|1", "unknown||EUR|1|1|2"];
    assert_eq!(by_campaign().await, kept);
}

#[tokio::test]
async fn late_reports_are_listed_by_edge() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = start(data.path(), 0);
    let client = client(&engine);
    migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates");
    let insert = "INSERT INTO conversion_repeats (time, ingested_at, advertiser, node, outcome) VALUES \
                  ('2026-01-01 00:00:00', '2026-01-01 01:00:00', 'a', 7, 'late'), \
                  ('2026-01-01 00:00:00', '2026-01-01 00:01:00', 'a', 7, 'late'), \
                  ('2026-01-01 00:00:00', '2026-01-02 00:00:00', 'a', 7, 'repeat')";
    client.query(insert).execute().await.expect("inserted");
    let sql = format!("SELECT * EXCEPT last FROM ({})", question("late_reports"));
    assert_eq!(rows(&client, &sql).await, ["7|a|2|3600"]);
}

#[tokio::test]
async fn withdrawn_conversion_is_not_counted() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = start(data.path(), 0);
    let client = client(&engine);
    migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates");
    let insert = "INSERT INTO conversions (time, advertiser, click_id, kind, revision, status, withdrawn, payout) \
                  VALUES (now64(), 'a', 'c1', 'sale', 1, 'approved', false, 1), \
                  (now64(), 'a', 'c1', 'sale', 2, 'rejected', true, 0), \
                  (now64(), 'a', 'c1', 'lead', 1, 'rejected', true, 0), \
                  (now64(), 'a', 'c1', 'lead', 2, 'approved', false, 3)";
    client.query(insert).execute().await.expect("inserted");
    let current = "SELECT kind, revision, status, payout FROM current_conversions";
    assert_eq!(rows(&client, current).await, ["lead|2|approved|3"]);
}

#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = start(data.path(), 0);
    let client = client(&engine);
    migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates");
    let insert = "INSERT INTO rejections (time, source, party, reason, reason_name, detail) \
                  SELECT now64(6) - number, 'postback', 'adv' || number % 2, 101, 'forged_click_id', \
                  'd' || number FROM numbers(5) \
                  UNION ALL SELECT now64(6), 'store', 'adv1', 150, 'bad_transition', 'why'";
    client.query(insert).execute().await.expect("inserted");
    let sql = format!("SELECT * EXCEPT last FROM ({})", question("refusals"));
    let expected = [
        "postback|101|forged_click_id|5|2|adv0|d0",
        "store|150|bad_transition|1|1|adv1|why",
    ];
    assert_eq!(rows(&client, &sql).await, expected);
}

/// Every table, view and column has a comment. Views that fill roll-ups are exempt.
#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = start(data.path(), 0);
    let client = client(&engine);
    migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates");
    for silent in [
        "SELECT name FROM system.tables \
         WHERE database = 'tracking' AND comment = '' AND NOT endsWith(name, '_view')",
        "SELECT table || '.' || name FROM system.columns \
         WHERE database = 'tracking' AND comment = '' AND NOT endsWith(table, '_view')",
    ] {
        assert_eq!(rows(&client, silent).await, [] as [String; 0]);
    }
}

/// Two edges, two currencies, a refund, a bot, and a conversion without its click.
const VISITS_AND_SALES: [&str; 3] = [
    "INSERT INTO clicks (id, time, campaign, affiliate, link_id, country, visitor, flags, sub1, cost, node) VALUES \
     ('c1', now64(6) - 3000, 'spring', 'ann', 1, 'DE', 1, 0, 'x', 0.5, 1), \
     ('c2', now64(6) - 2000, 'summer', 'ann', 2, 'DE', 1, 0, 'x', 0.5, 2), \
     ('c3', now64(6) - 1000, 'spring', 'bob', 3, 'US', 2, 0, 'y', 1, 1), \
     ('c4', now64(6) - 1000, 'spring', 'bob', 3, 'US', 3, 2, 'y', 1, 1), \
     ('c5', now64(6) - 500, 'spring', 'ann', 1, 'DE', 1, 0, 'x', 0, 2)",
    "INSERT INTO conversions (time, advertiser, click_id, kind, transaction, epoch, revision, status, payout, \
     currency, click_time) VALUES \
     (now64(6) - 1400, 'shop', 'c2', 'sale', 't1', 1, 1, 'approved', 10, 'USD', now64(3) - 2000), \
     (now64(6) - 100, 'shop', 'c2', 'sale', 't1', 1, 2, 'approved', 8, 'USD', now64(3) - 2000), \
     (now64(6) - 880, 'shop', 'c3', 'sale', 't2', 1, 1, 'approved', 4, 'EUR', now64(3) - 1000), \
     (now64(6) - 880, 'shop', 'c3', 'sale', 't3', 1, 1, 'pending', 4, 'EUR', now64(3) - 1000)",
    "INSERT INTO conversions (time, advertiser, click_id, kind, transaction, epoch, revision, status, payout, \
     currency, click_time) VALUES \
     (now64(6) - 60, 'late', 'c9', 'lead', '', 1, 1, 'rejected', 1, 'USD', now64(3) - 120)",
];

/// The queries of docs/analysts.md under their headings.
fn documented_queries() -> Vec<(&'static str, &'static str)> {
    let text = include_str!("../../docs/analysts.md");
    let sections = text.split("\n### ").skip(1);
    let query = |section: &'static str| {
        let (heading, rest) = section.split_once('\n').expect("heading");
        let (_, rest) = rest.split_once("```sql\n").expect("query");
        let (sql, _) = rest.split_once("```").expect("closing fence");
        (heading, sql)
    };
    sections.map(query).collect()
}

#[tokio::test]
async fn documented_queries_answer_their_questions() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = start(data.path(), 0);
    let client = client(&engine);
    migrate(&client, "tracking", &Layout::Server)
        .await
        .expect("migrates");
    for sql in VISITS_AND_SALES {
        client.query(sql).execute().await.expect(sql);
    }
    let expected: [(&str, &str, &[&str]); 10] = [
        (
            "What does a click earn",
            "*",
            &["summer|USD|1|1|100|8|8", "spring|EUR|3|1|33.33|4|1.3333"],
        ),
        (
            "How much is earned each day",
            "currency, sum(sales), sum(revenue)",
            &["EUR|1|4", "USD|1|8"],
        ),
        ("Which sub1", "*", &["x|3|1|8|7", "y|1|1|0|-1"]),
        ("How long from click", "*", &["shop|3|2|10"]),
        ("Which share", "*", &["shop|2|0|1|100", "late|0|1|0|0"]),
        (
            "How many different visitors",
            "*",
            &["ann|3|3|1", "bob|1|1|1"],
        ),
        ("What was taken back", "*", &["shop|USD|1|2"]),
        ("Where do bots", "*", &["US|1|50"]),
        (
            "Which conversions have no click",
            "advertiser, conversions, example",
            &["late|1|c9"],
        ),
        (
            "Which campaigns does",
            "*",
            &["spring|1|1", "spring > summer > spring|1|1"],
        ),
    ];
    let documented = documented_queries();
    assert_eq!(documented.len(), expected.len());
    for ((heading, sql), (question, columns, answer)) in documented.into_iter().zip(expected) {
        assert!(heading.starts_with(question), "{heading}");
        let by = if columns.contains("sum(") {
            "GROUP BY currency ORDER BY currency"
        } else {
            ""
        };
        let sql = format!("SELECT {columns} FROM ({sql}) {by}");
        assert_eq!(rows(&client, &sql).await, answer, "{heading}");
    }
}
