//! The last good version on disk, in one file. An update is one transaction.

use edge_config::{Change, Checksum, HeldVersion, ResourceKey};
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};
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
}

/// An update that is being written.
pub(super) struct PendingUpdate(WriteTransaction);

impl ConfigDisk {
    pub(super) fn open(file: &Path) -> Result<Self, DiskError> {
        let mut options = Database::builder();
        options.set_cache_size(CACHE_BYTES);
        let disk = Self {
            database: options.create(file)?,
        };
        let transaction = disk.database.begin_write()?;
        create_tables(&transaction)?;
        transaction.commit()?;
        Ok(disk)
    }

    pub(super) fn clear(&self) -> Result<(), DiskError> {
        let transaction = self.database.begin_write()?;
        transaction.delete_table(RESOURCES)?;
        transaction.delete_table(HELD)?;
        create_tables(&transaction)?;
        transaction.commit()?;
        Ok(())
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

    pub(super) fn begin(&self) -> Result<PendingUpdate, DiskError> {
        Ok(PendingUpdate(self.database.begin_write()?))
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
    pub(super) fn commit(self, held: HeldVersion) -> Result<(), DiskError> {
        let mut table = self.0.open_table(HELD)?;
        table.insert((), (held.version, held.checksum.to_bytes()))?;
        drop(table);
        self.0.commit()?;
        Ok(())
    }
}
