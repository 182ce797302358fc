//! The last good version on disk, in one file. An update is one transaction.

use edge_config::{Change, Checksum, HeldVersion, ResourceKey};
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};
use std::io;
use std::path::Path;

/// The resources by kind and id.
const RESOURCES: TableDefinition<'_, (u8, u32), &[u8]> = TableDefinition::new("resources");
/// One row: the version and its checksum.
const HELD: TableDefinition<'_, (), (u64, [u8; 16])> = TableDefinition::new("held");

/// What the file's pages may take in memory.
const CACHE_BYTES: usize = 8 << 20;

/// An error of the file.
pub(super) type DiskError = redb::Error;

/// The file with the last good version.
#[derive(Debug)]
pub(super) struct ConfigDisk {
    database: Database,
    /// Whether the next update replaces what the file holds.
    is_stale: bool,
}

/// An update that is being written.
pub(super) struct PendingUpdate(WriteTransaction);

impl ConfigDisk {
    /// Opens the file, and creates it when absent. A damaged one is renamed, with the extension `corrupt`.
    pub(super) fn open(file: &Path) -> Result<Self, DiskError> {
        Self::open_existing(file).or_else(|error| {
            if !is_damage(&error) {
                return Err(error);
            }
            let renamed = file.with_extension("redb.corrupt");
            tracing::error!(file = %file.display(), renamed = %renamed.display(), %error, "set aside a damaged configuration; requesting it again");
            std::fs::rename(file, &renamed)?;
            Self::open_existing(file)
        })
    }

    fn open_existing(file: &Path) -> Result<Self, DiskError> {
        let mut options = Database::builder();
        options.set_cache_size(CACHE_BYTES);
        let disk = Self {
            database: options.create(file)?,
            is_stale: false,
        };
        let transaction = disk.database.begin_write()?;
        create_tables(&transaction)?;
        transaction.commit()?;
        Ok(disk)
    }

    /// Lets the next update replace everything. Until it is committed, the file keeps what it holds: a build that can
    /// use that may start again.
    pub(super) const fn replace_with_next_update(&mut self) {
        self.is_stale = true;
    }

    pub(super) fn held(&self) -> Result<HeldVersion, DiskError> {
        let table = self.database.begin_read()?.open_table(HELD)?;
        let Some(row) = table.get(())? else {
            return Ok(HeldVersion::default());
        };
        let (version, checksum) = row.value();
        Ok(HeldVersion {
            version,
            checksum: Checksum::from_bytes(checksum),
        })
    }

    /// Calls `visit` with each resource.
    pub(super) fn for_each(
        &self,
        mut visit: impl FnMut(ResourceKey, &[u8]),
    ) -> Result<(), DiskError> {
        let table = self.database.begin_read()?.open_table(RESOURCES)?;
        for row in table.iter()? {
            let (key, content) = row?;
            let (kind, id) = key.value();
            visit(ResourceKey { kind, id }, content.value());
        }
        Ok(())
    }

    /// Whether the next update replaces what the file holds.
    pub(super) const fn is_stale(&self) -> bool {
        self.is_stale
    }

    pub(super) fn begin(&self) -> Result<PendingUpdate, DiskError> {
        let transaction = self.database.begin_write()?;
        if self.is_stale {
            transaction.delete_table(RESOURCES)?;
        }
        Ok(PendingUpdate(transaction))
    }

    pub(super) fn commit(
        &mut self,
        update: PendingUpdate,
        held: HeldVersion,
    ) -> Result<(), DiskError> {
        update.commit(held)?;
        self.is_stale = false;
        Ok(())
    }
}

/// Whether the file's content is the cause, and not its place or the disk.
fn is_damage(error: &DiskError) -> bool {
    match error {
        DiskError::Corrupted(_) | DiskError::UpgradeRequired(_) | DiskError::RepairAborted => true,
        DiskError::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
}

/// A table that is read must exist.
fn create_tables(transaction: &WriteTransaction) -> Result<(), DiskError> {
    transaction.open_table(RESOURCES)?;
    transaction.open_table(HELD)?;
    Ok(())
}

impl PendingUpdate {
    pub(super) fn write(&self, changes: &[Change]) -> Result<(), DiskError> {
        let mut table = self.0.open_table(RESOURCES)?;
        for Change { key, content } in changes {
            let key = (key.kind, key.id);
            match content {
                Some(content) => table.insert(key, content.as_slice())?,
                None => table.remove(key)?,
            };
        }
        Ok(())
    }

    /// Makes the update durable as the version `held`.
    fn commit(self, held: HeldVersion) -> Result<(), DiskError> {
        let mut table = self.0.open_table(HELD)?;
        table.insert((), (held.version, held.checksum.to_bytes()))?;
        drop(table);
        self.0.commit()?;
        Ok(())
    }
}
