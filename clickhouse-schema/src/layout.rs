//! Where the tables are: on one server, or on a cluster. Migrations are written for one server; this module derives
//! the statements for a cluster.
//!
//! On a cluster each table of rows is a replicated table `NAME_local` on every shard, and a distributed table `NAME`
//! above them. So queries and inserts name the same tables in both layouts.

use regex::{Captures, Regex};
use std::sync::LazyLock;

/// Where the tables are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Layout {
    /// On one server.
    #[default]
    Server,
    /// On all servers of the cluster with this name in their `remote_servers`.
    Cluster(String),
}

/// How the rows of a table are distributed over the shards.
#[derive(Clone, Copy)]
enum Placement {
    /// By the value of this expression. It depends on the row only: when a block is inserted again, each part of it
    /// reaches the shard that recognises it.
    By(&'static str),
    /// As the rows of the table that a materialized view reads.
    AsSource,
    /// Every server has all rows.
    Everywhere,
}

use Placement::{AsSource, By, Everywhere};

const PLACEMENTS: [(&str, Placement); 11] = [
    // All events of a visitor are on one shard.
    ("clicks", By("visitor")),
    ("impressions", By("visitor")),
    ("clicks_hourly", AsSource),
    ("impressions_hourly", AsSource),
    // All revisions of a conversion are on one shard.
    ("conversions", By("cityHash64(click_id)")),
    ("conversion_repeats", By("cityHash64(click_id)")),
    ("conversion_attribution", By("cityHash64(click_id)")),
    ("kyc_events", By("cityHash64(affiliate)")),
    ("rejections", By("cityHash64(node, lane, journal, seq)")),
    ("aggregator_generations", Everywhere),
    ("schema_migrations", Everywhere),
];

/// The arguments of a replicated engine whose rows every server has: one path for all shards.
const PATH_OF_ALL_SHARDS: &str = "('/clickhouse/tables/{uuid}/all', '{shard}-{replica}')";

/// A statement after its comments: what it does, the name of its database, table or view, and the rest.
static STATEMENT: LazyLock<Regex> = LazyLock::new(|| {
    let verbs = [
        "CREATE DATABASE IF NOT EXISTS",
        "CREATE TABLE IF NOT EXISTS",
        "ALTER TABLE",
        "CREATE MATERIALIZED VIEW IF NOT EXISTS",
        "CREATE VIEW IF NOT EXISTS",
        "CREATE OR REPLACE VIEW",
        "DROP VIEW IF EXISTS",
    ];
    regex(&format!(
        r"(?s)^(?:\s*--[^\n]*\n|\s)*({}) ([\w.]+)(.*)$",
        verbs.join("|")
    ))
});
static ENGINE: LazyLock<Regex> = LazyLock::new(|| regex(r"ENGINE = (\w+)"));
static TABLE_OF_VIEW: LazyLock<Regex> = LazyLock::new(|| regex(r"\b(TO|FROM) (\w+\.\w+)"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}

impl Layout {
    /// The settings of every statement on a cluster. A block counts as inserted when each shard's part is on most of
    /// its replicas, and a query sees all such blocks, whichever server it reaches.
    pub const SETTINGS_ON_CLUSTER: [(&str, &str); 5] = [
        ("distributed_foreground_insert", "1"),
        ("parallel_distributed_insert_select", "0"),
        ("insert_quorum", "auto"),
        ("insert_quorum_parallel", "0"),
        ("select_sequential_consistency", "1"),
    ];

    pub(crate) fn cluster(&self) -> Option<&str> {
        match self {
            Self::Server => None,
            Self::Cluster(cluster) => Some(cluster),
        }
    }

    /// The statements that do in this layout what `statement` does on one server.
    pub(crate) fn statements(&self, statement: &str) -> Vec<String> {
        match self {
            Self::Server => vec![statement.to_owned()],
            Self::Cluster(cluster) => {
                let parts = STATEMENT.captures(statement);
                on_cluster(cluster, &parts.expect("a kind that migrations have"))
            }
        }
    }
}

fn on_cluster(cluster: &str, statement: &Captures<'_>) -> Vec<String> {
    let (_, [verb, name, rest]) = statement.extract();
    let execute = |name: &str, rest: &str| format!("{verb} {name} ON CLUSTER {cluster}{rest}");
    let (database, table) = name.split_once('.').unwrap_or((name, ""));
    let placement = PLACEMENTS.iter().find(|(name, _)| *name == table);
    let local = format!("{name}_local");
    match (verb, placement.map(|(_, placement)| *placement)) {
        ("CREATE TABLE IF NOT EXISTS", Some(Everywhere)) => {
            vec![execute(name, &replicated(rest, PATH_OF_ALL_SHARDS))]
        }
        ("CREATE TABLE IF NOT EXISTS", placement) => {
            let key = match placement {
                Some(By(key)) => format!(", {key}"),
                _ => String::new(),
            };
            let distributed = format!(
                " AS {local} ENGINE = Distributed({cluster}, {database}, {table}_local{key})"
            );
            vec![
                execute(&local, &replicated(rest, "")),
                execute(name, &distributed),
            ]
        }
        ("ALTER TABLE", Some(By(_) | AsSource)) => vec![execute(&local, rest), execute(name, rest)],
        // It sees the rows that arrive at its server.
        ("CREATE MATERIALIZED VIEW IF NOT EXISTS", _) => {
            vec![execute(
                name,
                &TABLE_OF_VIEW.replace_all(rest, "$1 ${2}_local"),
            )]
        }
        _ => vec![execute(
            name,
            &rest.replace(" IN (SELECT", " GLOBAL IN (SELECT"),
        )],
    }
}

/// A table's definition with a replicated engine, which recognises a repeated block for a week at least.
fn replicated(definition: &str, arguments: &str) -> String {
    let engine = format!("ENGINE = Replicated${{1}}{arguments}");
    ENGINE.replace(definition, engine).replace(
        "non_replicated_deduplication_window = 10000",
        "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MIGRATIONS;

    fn rendered(statement: &str) -> Vec<String> {
        Layout::Cluster("fleet".into()).statements(statement)
    }

    #[test]
    fn every_migration_has_a_form_for_a_cluster() {
        for migration in MIGRATIONS {
            for statement in migration.statements("tracking", &Layout::Server) {
                for rendered in rendered(&statement) {
                    assert!(rendered.contains(" ON CLUSTER fleet"), "{rendered}");
                    assert!(!rendered.contains("non_replicated"), "{rendered}");
                }
            }
        }
    }

    #[test]
    fn table_becomes_replicated_below_a_distributed_one() {
        let statement = "-- Events.\nCREATE TABLE IF NOT EXISTS t.clicks\n(\n    id String\n)\nENGINE = MergeTree\n\
                         ORDER BY id\nSETTINGS\n    non_replicated_deduplication_window = 10000";
        let local = "CREATE TABLE IF NOT EXISTS t.clicks_local ON CLUSTER fleet\n(\n    id String\n)\n\
                     ENGINE = ReplicatedMergeTree\nORDER BY id\nSETTINGS\n    \
                     replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800";
        let distributed = "CREATE TABLE IF NOT EXISTS t.clicks ON CLUSTER fleet AS t.clicks_local \
                           ENGINE = Distributed(fleet, t, clicks_local, visitor)";
        assert_eq!(rendered(statement), [local, distributed]);
    }

    #[test]
    fn every_created_table_has_a_placement() {
        for statement in MIGRATIONS
            .iter()
            .flat_map(|it| it.statements("tracking", &Layout::Server))
        {
            let (_, [verb, name, _]) = STATEMENT.captures(&statement).expect("known").extract();
            let table = name.trim_start_matches("tracking.");
            if verb == "CREATE TABLE IF NOT EXISTS" {
                assert!(PLACEMENTS.iter().any(|(name, _)| *name == table), "{name}");
            }
        }
    }

    #[test]
    fn materialized_view_works_on_the_tables_of_its_shard() {
        let statement = "CREATE MATERIALIZED VIEW IF NOT EXISTS t.v TO t.clicks_hourly AS\nSELECT 1\n\
                         FROM t.clicks\nGROUP BY hour";
        let expected = "CREATE MATERIALIZED VIEW IF NOT EXISTS t.v ON CLUSTER fleet TO t.clicks_hourly_local AS\n\
                        SELECT 1\nFROM t.clicks_local\nGROUP BY hour";
        assert_eq!(rendered(statement), [expected]);
    }
}
