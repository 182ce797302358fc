//! Applies migrations, and refuses to touch a schema it does not know.

use crate::{Layout, MIGRATIONS, Migration, first_row};
use clickhouse::error::Error;
use clickhouse::{Client, Row};
use serde::Deserialize;

/// The space that a statement needs on ClickHouse's disk, in MiB, beyond the disk's setting `keep_free_space_bytes`. On
/// a full disk ClickHouse 26.7 reports that a table was created although its definition is empty, and can't start with
/// it any more.
const MIN_FREE_MIB: u64 = 64;

/// The result of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The migrations applied now.
    pub applied: Vec<&'static str>,
    /// The schema's version afterwards.
    pub version: u32,
}

/// The schema can't be migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// ClickHouse refused or did not respond.
    #[error("ClickHouse: {0}")]
    ClickHouse(#[from] Error),
    /// A table is to be created, and there is not enough free space to do it safely.
    #[error(
        "ClickHouse's disk `default` has {free_mib} MiB left beyond what it keeps free \
         (keep_free_space_bytes), and making tables takes {MIN_FREE_MIB}; make room"
    )]
    NoRoom {
        /// The free space beyond `keep_free_space_bytes`.
        free_mib: u64,
    },
    /// Not a name that can stand in a statement.
    #[error(
        "{0:?} is no name of a database or cluster: use up to 64 letters, digits and _, beginning with a letter"
    )]
    BadName(String),
    /// The database was created for one server and a cluster is set, or the other way round.
    #[error(
        "the tables of database {database} were created for {found}, but the settings name {wanted}; name a new \
         database, and copy the rows if you need them (docs/operations.md, \"ClickHouse cluster\")"
    )]
    OtherLayout {
        /// The database.
        database: String,
        /// The layout found.
        found: &'static str,
        /// The layout of the settings.
        wanted: &'static str,
    },
    /// A migration was edited after it had been applied.
    #[error(
        "migration {name} was changed after it had been applied; undo the change and add a new migration"
    )]
    Changed {
        /// Which.
        name: String,
    },
    /// The database is ahead of this build.
    #[error("the schema has version {found}, this build knows {known}; upgrade the aggregator")]
    Newer {
        /// The version found.
        found: u32,
        /// The version known.
        known: u32,
    },
    /// A migration in between is missing.
    #[error(
        "migration {missing} was never applied, but later ones were; restore schema_migrations"
    )]
    Gap {
        /// The first one missing.
        missing: u32,
    },
}

#[derive(Debug, Row, Deserialize)]
struct AppliedMigration {
    version: u32,
    name: String,
    checksum: String,
}

/// Brings `database` up to this build's version. If it is interrupted, the next call continues.
///
/// # Errors
/// When ClickHouse does not respond or refuses, or the schema found is unknown or of another layout.
pub async fn migrate(
    client: &Client,
    database: &str,
    layout: &Layout,
) -> Result<Report, MigrateError> {
    let names = [Some(database), layout.cluster()];
    if let Some(name) = names.into_iter().flatten().find(|name| !is_name(name)) {
        return Err(MigrateError::BadName(name.into()));
    }
    // The database may not exist yet, so it can't be the one selected.
    let client = client.clone().with_database("default");
    match engine(&client, database).await? {
        None => begin(&client, database, layout).await?,
        Some(engine) => check_layout(&engine, database, layout)?,
    }
    let known = applied(&client, database).await?;
    check(&known)?;
    let mut report = Report {
        applied: Vec::new(),
        version: known.len() as u32,
    };
    for migration in &MIGRATIONS[known.len()..] {
        apply(&client, database, layout, migration).await?;
        tracing::info!(migration = migration.name, "applied");
        report.applied.push(migration.name);
        report.version = migration.version;
    }
    Ok(report)
}

/// Whether a database or cluster can have this name here: it stands in statements without quotes.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The engine of the table of applied migrations, if there is one.
async fn engine(client: &Client, database: &str) -> Result<Option<String>, MigrateError> {
    let sql = "SELECT engine FROM system.tables WHERE database = ? AND name = 'schema_migrations'";
    Ok(first_row(client.query(sql).bind(database)).await?)
}

fn check_layout(engine: &str, database: &str, layout: &Layout) -> Result<(), MigrateError> {
    const NAMES: [&str; 2] = ["one server", "a cluster"];
    let (found, wanted) = (
        usize::from(engine.starts_with("Replicated")),
        usize::from(layout.cluster().is_some()),
    );
    if found == wanted {
        return Ok(());
    }
    Err(MigrateError::OtherLayout {
        database: database.into(),
        found: NAMES[found],
        wanted: NAMES[wanted],
    })
}

async fn begin(client: &Client, database: &str, layout: &Layout) -> Result<(), MigrateError> {
    let statements = [
        format!("CREATE DATABASE IF NOT EXISTS {database}"),
        format!(
            "CREATE TABLE IF NOT EXISTS {database}.schema_migrations \
             (version UInt32, name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) \
             ENGINE = MergeTree ORDER BY version \
             SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
        ),
    ];
    for statement in statements.iter().flat_map(|it| layout.statements(it)) {
        execute(client, &statement).await?;
    }
    Ok(())
}

async fn applied(client: &Client, database: &str) -> Result<Vec<AppliedMigration>, MigrateError> {
    let sql = format!(
        "SELECT version, any(name) AS name, any(checksum) AS checksum \
         FROM {database}.schema_migrations GROUP BY version ORDER BY version"
    );
    Ok(client.query(&sql).fetch_all().await?)
}

fn check(applied: &[AppliedMigration]) -> Result<(), MigrateError> {
    for (number, found) in (1..).zip(applied) {
        if found.version != number {
            return Err(MigrateError::Gap { missing: number });
        }
        match MIGRATIONS
            .iter()
            .find(|migration| migration.version == number)
        {
            None => {
                let (found, known) = (applied.len() as u32, MIGRATIONS.len() as u32);
                return Err(MigrateError::Newer { found, known });
            }
            Some(migration) if migration.checksum() != found.checksum => {
                return Err(MigrateError::Changed {
                    name: found.name.clone(),
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

async fn apply(
    client: &Client,
    database: &str,
    layout: &Layout,
    migration: &Migration,
) -> Result<(), MigrateError> {
    for statement in migration.statements(database, layout) {
        execute(client, &statement).await?;
    }
    let sql = format!(
        "INSERT INTO {database}.schema_migrations (version, name, checksum) VALUES (?, ?, ?)"
    );
    let insert = client
        .query(&sql)
        .bind(migration.version)
        .bind(migration.name);
    Ok(insert.bind(migration.checksum()).execute().await?)
}

/// Statements may hold a literal `?`, which the client takes for a parameter unless doubled.
async fn execute(client: &Client, sql: &str) -> Result<(), MigrateError> {
    if let Some(free_mib) = room(client).await?
        && free_mib < MIN_FREE_MIB
    {
        return Err(MigrateError::NoRoom { free_mib });
    }
    Ok(client.query(&sql.replace('?', "??")).execute().await?)
}

/// The free MiB of the disk with the definitions; none if that disk is remote or read-only, or may not be asked about.
async fn room(client: &Client) -> Result<Option<u64>, MigrateError> {
    let free = "SELECT intDiv(unreserved_space, 1048576) FROM system.disks \
                WHERE name = 'default' AND NOT is_read_only AND NOT is_remote";
    match first_row(client.query(free)).await {
        Err(Error::BadResponse(text)) if text.contains("ACCESS_DENIED") => Ok(None),
        free => Ok(free?),
    }
}
