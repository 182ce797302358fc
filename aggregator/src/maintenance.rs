//! The operator's commands for an aggregator's data: back it up, restore it, copy the store, and rebuild a lost store
//! from ClickHouse.

mod copies;

use crate::lock::{self, DirectoryInUse};
use crate::settings::Settings;
use crate::sink::Database;
use crate::sink_error::SinkError;
use crate::store::{
    self, ConversionStore, ConversionStoreError, EstablishError, Rebuild, RebuildSummary,
};
use copies::Copies;
use sql_store::SqlError;
use std::io;
use std::path::{Path, PathBuf};
use storage::Disk;
use thiserror::Error;

const STORE_FILE: &str = "store.sqlite";
/// The files of SQLite's store.
const STORE_FILES: [&str; 3] = [STORE_FILE, "store.sqlite-wal", "store.sqlite-shm"];
const REPORTS: &str = "reports";

/// Why a command failed.
#[derive(Debug, Error)]
pub enum MaintenanceError {
    /// A file or directory can't be used.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The error.
        cause: io::Error,
    },
    /// The aggregator is running.
    #[error(transparent)]
    InUse(#[from] DirectoryInUse),
    /// A file or directory that must not exist.
    #[error("{} exists; {remedy}", path.display())]
    Exists {
        /// The file or directory.
        path: PathBuf,
        /// The remedy.
        remedy: &'static str,
    },
    /// A file that must exist.
    #[error("{} does not exist: {remedy}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The remedy.
        remedy: &'static str,
    },
    /// The list of a backup's files can't be read.
    #[error("{}: not a list of a backup's files", .0.display())]
    Manifest(PathBuf),
    /// The store failed.
    #[error("store: {0}")]
    Store(String),
    /// ClickHouse failed.
    #[error("ClickHouse: {0}")]
    ClickHouse(#[from] SinkError),
}

impl From<ConversionStoreError> for MaintenanceError {
    fn from(error: ConversionStoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<SqlError> for MaintenanceError {
    fn from(error: SqlError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<EstablishError> for MaintenanceError {
    fn from(error: EstablishError) -> Self {
        Self::Store(error.to_string())
    }
}

/// Starts a new epoch of the store, and loads from ClickHouse what the store lacks.
///
/// # Errors
/// When the store or ClickHouse can't be used.
pub async fn rebuild_store(settings: &Settings) -> Result<RebuildSummary, MaintenanceError> {
    let _lock = lock::lock(&Disk, &settings.data_dir)?;
    make_dir(&settings.store_dir())?;
    let tables = settings.clickhouse.connect().await?;
    let conversion_store = conversion_store(settings);
    conversion_store.mark_for_rebuild().await?;
    let established = conversion_store
        .establish(&tables, Rebuild::Requested)
        .await?;
    Ok(established.rebuilt.unwrap_or_default())
}

/// Copies the store from SQLite's file to the PostgreSQL database in the settings, and renames the file. Returns lines
/// about what was done.
///
/// # Errors
/// When there is no store to copy, PostgreSQL already holds one, or the aggregator is running.
pub async fn copy_store(settings: &Settings) -> Result<Vec<String>, MaintenanceError> {
    let _lock = lock::lock(&Disk, &settings.data_dir)?;
    let file = settings.store_file();
    if settings.store.url.is_none() {
        let why = "copying needs a PostgreSQL database; name it in [store] url";
        return Err(MaintenanceError::Store(why.to_owned()));
    }
    if !file.exists() {
        return Err(MaintenanceError::Missing {
            path: file,
            remedy: "SQLite holds no store to copy",
        });
    }
    let copied = store::copy_store(&file, &store::location(settings)).await?;
    let aside = file.with_extension("sqlite.copied");
    std::fs::rename(&file, &aside).map_err(|cause| MaintenanceError::File {
        path: file.clone(),
        cause,
    })?;
    let rows = copied.into_iter();
    let mut done: Vec<String> = rows
        .map(|table| format!("{}: {} rows", table.name, table.rows))
        .collect();
    done.push(format!("renamed {} to {}", file.display(), aside.display()));
    Ok(done)
}

/// Copies everything that exists nowhere else to the new directory `to`: the store, reports that are not evaluated yet,
/// the settings file, certificates, passwords and `postbacks.toml`. Files of `[reports]` are on edges as well; the
/// visitor salt must not be kept. Returns lines about what was copied and what remains to do.
///
/// # Errors
/// When a file can't be copied; then `to` is not a backup.
pub async fn backup(
    settings: &Settings,
    config: &Path,
    to: &Path,
) -> Result<Vec<String>, MaintenanceError> {
    if to.exists() {
        return Err(MaintenanceError::Exists {
            path: to.to_owned(),
            remedy: "name a new directory for the backup",
        });
    }
    make_dir(to)?;
    let mut copies = Copies::new(to);
    // Before the store: reports that are evaluated in between are in the copy of the store.
    for file in copies::files_in(&settings.store_dir().join(REPORTS))? {
        copies.add_to(REPORTS, &file)?;
    }
    let mut done = vec![match &settings.store.url {
        Some(_) => format!(
            "PostgreSQL is not copied: run pg_dump --format=custom --file={} with the connection of [store] url",
            to.join("store.pgdump").display()
        ),
        None => back_up_store(settings, &to.join(STORE_FILE)).await?,
    }];
    copies.add_named(config)?;
    for file in named_files(settings)? {
        copies.add_named(&file)?;
    }
    done.extend(copies.finish()?);
    done.push(
        "the spool is not copied: edges have its events, and a copy would be older than their state"
            .to_owned(),
    );
    Ok(done)
}

/// Restores the store and the unevaluated reports of a backup to the paths in the settings, and other files where none
/// exist. Returns lines about what was done.
///
/// # Errors
/// When a store with state exists already, or a file can't be copied.
pub async fn restore(settings: &Settings, from: &Path) -> Result<Vec<String>, MaintenanceError> {
    let _lock = lock::lock(&Disk, &settings.data_dir)?;
    let mut done = Vec::new();
    let store_dir = settings.store_dir();
    make_dir(&store_dir.join(REPORTS))?;
    if settings.store.url.is_none() {
        let (copy, file) = (from.join(STORE_FILE), store_dir.join(STORE_FILE));
        if !copy.exists() {
            return Err(MaintenanceError::Missing {
                path: copy,
                remedy: "name a directory that `aggregator backup` created",
            });
        }
        make_way(&store_dir).await?;
        copies::copy(&copy, &file)?;
        conversion_store(settings).mark_for_rebuild().await?;
        done.push(format!("{} restored", file.display()));
    } else {
        done.push(
            "PostgreSQL is not restored: run pg_restore, then `aggregator rebuild-store`"
                .to_owned(),
        );
    }
    for file in copies::files_in(&from.join(REPORTS))? {
        let name = file.file_name().unwrap_or_default();
        copies::copy(&file, &store_dir.join(REPORTS).join(name))?;
    }
    done.extend(copies::put_back(from)?);
    Ok(done)
}

/// Removes a store without state, as a refused start leaves it.
///
/// # Errors
/// When a store with state is there.
async fn make_way(store_dir: &Path) -> Result<(), MaintenanceError> {
    let file = store_dir.join(STORE_FILE);
    let is_empty = file.exists() && !store::holds_state(&file).await?;
    for name in STORE_FILES {
        let path = store_dir.join(name);
        if !path.exists() {
            continue;
        }
        if !is_empty {
            return Err(MaintenanceError::Exists {
                path,
                remedy: "move the store's files away first",
            });
        }
        std::fs::remove_file(&path).map_err(|cause| MaintenanceError::File { path, cause })?;
    }
    Ok(())
}

async fn back_up_store(settings: &Settings, to: &Path) -> Result<String, MaintenanceError> {
    let file = settings.store_dir().join(STORE_FILE);
    if !file.exists() {
        return Err(MaintenanceError::Missing {
            path: file,
            remedy: "the store does not exist yet, or [store] names another directory",
        });
    }
    conversion_store(settings).copy_to(to).await?;
    copies::sync(to)?;
    Ok(format!("{} copied", file.display()))
}

fn conversion_store(settings: &Settings) -> ConversionStore {
    ConversionStore::new(store::location(settings), settings.outgoing.is_some())
}

/// The files of secrets and certificates that the settings name.
fn named_files(settings: &Settings) -> Result<Vec<PathBuf>, MaintenanceError> {
    let mut files = copies::files_in(&settings.tls.dir)?;
    files.extend(settings.clickhouse.password_file.clone());
    files.extend(settings.clickhouse.credentials.clone());
    files.extend(settings.store.password_file.clone());
    files.extend(settings.outgoing.as_ref().map(|it| it.postbacks.clone()));
    Ok(files)
}

fn make_dir(dir: &Path) -> Result<(), MaintenanceError> {
    storage::create_dir_all(&storage::Disk, dir).map_err(|cause| MaintenanceError::File {
        path: dir.to_owned(),
        cause,
    })
}
