//! Applies updates: decodes links, writes the update to disk, then replaces the table.

use super::disk::{ConfigDisk, DiskError, PendingUpdate};
use crate::links::{ActiveLinks, Link, Table};
use domain::LinkId;
use edge_config::{
    Change, Digest, Held, KIND_LINK, LinkRecord, ResourceKey, Subscriber, Target, TargetError,
};
use std::path::Path;
use std::sync::Arc;

/// The links in use, and their file.
pub struct LinkTarget {
    disk: ConfigDisk,
    links: Arc<ActiveLinks>,
    pending: Option<PendingUpdate>,
    staged: Vec<(LinkId, Option<Arc<Link>>)>,
}

/// Puts the version in `file` in use. A version that this build can't use is not used: the edge has no links until it
/// received them again.
///
/// # Errors
/// When the file can't be opened or read.
pub(crate) fn open(
    file: &Path,
    links: Arc<ActiveLinks>,
) -> Result<Subscriber<LinkTarget>, DiskError> {
    let disk = ConfigDisk::open(file)?;
    let held = disk.held()?;
    let target = LinkTarget {
        disk,
        links,
        pending: None,
        staged: Vec::new(),
    };
    let (mut digests, mut table) = (Vec::new(), Table::default());
    let mut unusable = None;
    target.disk.for_each(|key, content| {
        digests.push((key, Digest::of(key, content)));
        let added = decode(key, content).and_then(|link| {
            let Some(link) = link else { return Ok(()) };
            table.insert(link).map_err(|error| unusable_resource(key, error))
        });
        unusable = unusable.take().or_else(|| added.err());
    })?;
    if let Some(error) = unusable {
        tracing::error!(version = held.version, %error, "the stored configuration can't be used; requesting it again");
        return target.start_empty();
    }
    match Subscriber::new(target, held, digests) {
        Ok(subscriber) => {
            subscriber.target().links.store(table);
            Ok(subscriber)
        }
        Err(target) => {
            tracing::error!(version = held.version, "the stored configuration does not have its checksum; requesting it again");
            target.start_empty()
        }
    }
}

impl LinkTarget {
    fn start_empty(self) -> Result<Subscriber<Self>, DiskError> {
        self.disk.clear()?;
        Ok(Subscriber::empty(self))
    }

    fn pending(&mut self) -> Result<&PendingUpdate, DiskError> {
        if self.pending.is_none() {
            self.pending = Some(self.disk.begin()?);
        }
        Ok(self.pending.as_ref().expect("it was just begun"))
    }

    /// The table after the staged changes. All changed links are removed first: slugs may have moved between them.
    fn next_table(&self) -> Result<Table, TargetError> {
        let mut table = Table::clone(&self.links.load());
        for (id, _) in &self.staged {
            table.remove(*id);
        }
        for link in self.staged.iter().filter_map(|(_, link)| link.as_ref()) {
            let key = ResourceKey::link(link.id.0);
            let inserted = table.insert(link.clone());
            inserted.map_err(|error| unusable_resource(key, error))?;
        }
        Ok(table)
    }
}

impl Target for LinkTarget {
    fn stage(&mut self, changes: Vec<Change>) -> Result<(), TargetError> {
        for change in &changes {
            let link = match &change.content {
                Some(content) => decode(change.key, content)?,
                None => None,
            };
            if change.key.kind == KIND_LINK {
                self.staged.push((LinkId(change.key.id), link));
            }
        }
        let written = self.pending().and_then(|pending| pending.write(&changes));
        written.map_err(storage)
    }

    fn commit(&mut self, held: Held) -> Result<(), TargetError> {
        let table = self.next_table()?;
        self.pending().map_err(storage)?;
        if let Some(pending) = self.pending.take() {
            pending.commit(held).map_err(storage)?;
        }
        self.staged.clear();
        self.links.store(table);
        Ok(())
    }

    /// An update that is dropped is rolled back.
    fn abort(&mut self) {
        self.pending = None;
        self.staged.clear();
    }
}

/// The link of a resource; `None` for a resource of another kind.
fn decode(key: ResourceKey, content: &[u8]) -> Result<Option<Arc<Link>>, TargetError> {
    if key.kind != KIND_LINK {
        return Ok(None);
    }
    let record = LinkRecord::decode(content).map_err(|error| unusable_resource(key, error))?;
    if record.id != key.id {
        return Err(unusable_resource(key, format_args!("it contains link {}", record.id)));
    }
    let link = Link::try_from(record).map_err(|error| unusable_resource(key, error))?;
    Ok(Some(Arc::new(link)))
}

fn unusable_resource(key: ResourceKey, detail: impl ToString) -> TargetError {
    TargetError::Resource {
        key,
        detail: detail.to_string(),
    }
}

fn storage(error: DiskError) -> TargetError {
    TargetError::Storage(error.to_string())
}
