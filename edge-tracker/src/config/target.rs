//! Applies updates: decodes links, writes the update to disk, then replaces the table.

use super::disk::{ConfigDisk, DiskError, PendingUpdate};
use crate::links::{ActiveLinks, Link, Table};
use domain::LinkId;
use edge_config::{
    Change, Digest, HeldVersion, KIND_LINK, LinkRecord, ResourceKey, Subscriber, Target,
    TargetError,
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

/// Puts the version in `file` in use. Of a version that this build can't use as a whole it serves the links that it
/// can, until it has received one that it can use; of one without its checksum it serves none.
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
            table
                .insert(link)
                .map_err(|error| unusable_resource(key, error))
        });
        unusable = unusable.take().or_else(|| added.err());
    })?;
    let subscriber = match Subscriber::new(target, held, digests) {
        Ok(subscriber) => subscriber,
        Err(target) => {
            tracing::error!(
                version = held.version,
                "the stored configuration does not have its checksum; requesting it again"
            );
            return Ok(target.start_empty());
        }
    };
    subscriber.target().links.store(table);
    Ok(match unusable {
        None => subscriber,
        Some(error) => {
            tracing::error!(version = held.version, %error, "a part of the stored configuration can't be used; serving the rest of it, and requesting it again");
            subscriber.into_target().start_empty()
        }
    })
}

impl LinkTarget {
    fn start_empty(mut self) -> Subscriber<Self> {
        self.disk.replace_with_next_update();
        Subscriber::empty(self)
    }

    fn pending(&mut self) -> Result<&PendingUpdate, DiskError> {
        if self.pending.is_none() {
            self.pending = Some(self.disk.begin()?);
        }
        Ok(self.pending.as_ref().expect("it was just begun"))
    }

    /// The table after the staged changes. All changed links are removed first: slugs may have moved between them.
    fn next_table(&self) -> Result<Table, TargetError> {
        let mut table = match self.disk.is_stale() {
            true => Table::default(),
            false => Table::clone(&self.links.load()),
        };
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

    fn commit(&mut self, held: HeldVersion) -> Result<(), TargetError> {
        let table = self.next_table()?;
        self.pending().map_err(storage)?;
        if let Some(pending) = self.pending.take() {
            self.disk.commit(pending, held).map_err(storage)?;
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
        return Err(unusable_resource(
            key,
            format_args!("it contains link {}", record.id),
        ));
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

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Micros, NodeId};
    use edge_config::{ConfigVersion, NamedId, Outcome, Publisher, UpdateRefusal};
    use std::path::PathBuf;

    const NODE: NodeId = NodeId(1);

    fn record(id: u32, slug: &str, destination: &str) -> LinkRecord {
        let named = |name: &str| NamedId {
            id: 1,
            name: name.into(),
        };
        LinkRecord {
            id,
            domain: String::new(),
            slug: slug.into(),
            destination: destination.into(),
            fallback: None,
            code: 302,
            is_paused: false,
            pass_query: false,
            append_click_id: true,
            network: 1,
            advertiser: 1,
            offer: named("offer"),
            campaign: named("campaign"),
            affiliate: named("ann"),
            creative: 0,
            terms: 0,
        }
    }

    fn put(link: &LinkRecord) -> Change {
        Change {
            key: ResourceKey::link(link.id),
            content: Some(link.encode()),
        }
    }

    /// An edge without its connection.
    struct Edge {
        dir: tempfile::TempDir,
        links: Arc<ActiveLinks>,
        subscriber: Option<Subscriber<LinkTarget>>,
    }

    impl Edge {
        fn start() -> Self {
            let dir = tempfile::tempdir().expect("temporary directory");
            let mut edge = Self {
                dir,
                links: Arc::default(),
                subscriber: None,
            };
            edge.restart();
            edge
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("config.redb")
        }

        /// Starts again with what is on the disk.
        fn restart(&mut self) {
            self.subscriber = None;
            self.links = Arc::default();
            self.subscriber = Some(open(&self.file(), self.links.clone()).expect("opens"));
        }

        fn subscriber(&mut self) -> &mut Subscriber<LinkTarget> {
            self.subscriber.as_mut().expect("started")
        }

        /// Receives the update that it needs.
        fn update(&mut self, publisher: &mut Publisher) -> Outcome {
            publisher.subscribed(NODE, self.subscriber().held());
            let update = publisher.update_for(NODE).expect("an update");
            let mut outcome = None;
            for part in update.parts(1) {
                let part = part.expect("encoded");
                outcome = outcome.or(self.subscriber().receive(&part));
            }
            let outcome = outcome.expect("a response").outcome;
            publisher.responded(NODE, &update, &outcome, Micros(1));
            outcome
        }

        /// The ids of the links that it serves, by slug.
        fn served(&self) -> Vec<(String, u32)> {
            let links = self.links.load();
            let served = links.iter().map(|link| (link.slug.to_string(), link.id.0));
            let mut served: Vec<_> = served.collect();
            served.sort();
            served
        }
    }

    fn served(links: &[(&str, u32)]) -> Vec<(String, u32)> {
        let links = links.iter();
        links.map(|(slug, id)| ((*slug).to_owned(), *id)).collect()
    }

    #[test]
    fn last_applied_version_is_in_use_after_a_restart() {
        const SHOP: &str = "https://shop.example/";
        let mut publisher = Publisher::new(ConfigVersion::new(0, []));
        publisher.publish(
            1,
            vec![put(&record(1, "a", SHOP)), put(&record(2, "b", SHOP))],
        );
        let mut edge = Edge::start();
        assert_eq!(edge.update(&mut publisher), Outcome::Applied);
        assert_eq!(edge.served(), served(&[("a", 1), ("b", 2)]));
        // Two links exchange their slugs, and a third one is new.
        let exchanged = [(1, "b"), (2, "a"), (3, "c")];
        let changes = exchanged.map(|(id, slug)| put(&record(id, slug, SHOP)));
        publisher.publish(2, changes.to_vec());
        assert_eq!(edge.update(&mut publisher), Outcome::Applied);
        let expected = served(&[("a", 2), ("b", 1), ("c", 3)]);
        assert_eq!(edge.served(), expected);

        for (wrong, reason) in [
            (record(4, "d", "javascript:alert(1)"), "destination"),
            (record(4, "a b", SHOP), "a slug is 1 to 64"),
            (record(4, "a", SHOP), "link 4 has the slug \"a\" of link 2"),
            (
                LinkRecord {
                    code: 200,
                    ..record(4, "d", SHOP)
                },
                "code 200",
            ),
        ] {
            let version = publisher.newest().held().version + 1;
            publisher.publish(version, vec![put(&record(5, "e", SHOP)), put(&wrong)]);
            let Outcome::Refused { code, detail } = edge.update(&mut publisher) else {
                panic!("applied {wrong:?}");
            };
            assert_eq!(code, UpdateRefusal::Resource.number());
            assert!(
                detail.starts_with("link 4: ") && detail.contains(reason),
                "{detail}"
            );
            assert_eq!(edge.served(), expected, "nothing changed");
        }
        edge.restart();
        assert_eq!(
            (edge.subscriber().held().version, edge.served()),
            (2, expected)
        );

        let version = publisher.newest().held().version + 1;
        let removed = [1, 4].map(|id| Change {
            key: ResourceKey::link(id),
            content: None,
        });
        publisher.publish(version, removed.to_vec());
        assert_eq!(edge.update(&mut publisher), Outcome::Applied);
        edge.restart();
        let expected = served(&[("a", 2), ("c", 3), ("e", 5)]);
        assert_eq!(
            (edge.subscriber().held().version, edge.served()),
            (version, expected)
        );
    }

    /// Adds a link of a later encoding to the stored version, as an edge has it after a rollback.
    fn store_unknown_encoding(file: &Path, held: HeldVersion) {
        let (key, content) = (ResourceKey::link(9), vec![u8::MAX, 1]);
        let mut disk = ConfigDisk::open(file).expect("opens");
        let checksum = held.checksum.with(Digest::of(key, &content));
        let pending = disk.begin().expect("begins");
        let content = Some(content);
        pending.write(&[Change { key, content }]).expect("written");
        let held = HeldVersion { checksum, ..held };
        disk.commit(pending, held).expect("committed");
    }

    #[test]
    fn rest_of_a_version_is_served_until_the_next_one() {
        let [a, b] =
            [(1, "a"), (2, "b")].map(|(id, slug)| record(id, slug, "https://shop.example/"));
        let mut publisher = Publisher::new(ConfigVersion::new(0, []));
        publisher.publish(1, vec![put(&a), put(&b)]);
        let mut edge = Edge::start();
        assert_eq!(edge.update(&mut publisher), Outcome::Applied);
        edge.subscriber = None;
        store_unknown_encoding(&edge.file(), publisher.newest().held());
        // Nothing is lost by a start that can't use all of it.
        for _ in 0..2 {
            edge.restart();
            assert_eq!(edge.subscriber().held().version, 0);
            assert_eq!(edge.served(), served(&[("a", 1), ("b", 2)]));
        }
        let removed = Change {
            key: ResourceKey::link(2),
            content: None,
        };
        publisher.publish(2, vec![removed]);
        assert_eq!(edge.update(&mut publisher), Outcome::Applied);
        assert_eq!(edge.served(), served(&[("a", 1)]));
        edge.restart();
        assert_eq!(
            (edge.subscriber().held().version, edge.served()),
            (2, served(&[("a", 1)]))
        );
    }

    #[test]
    fn damaged_file_is_set_aside() {
        let mut publisher = Publisher::new(ConfigVersion::new(0, []));
        publisher.publish(1, vec![put(&record(1, "a", "https://shop.example/"))]);
        for damage in [&b"no database of this kind"[..], &[0; 10_000]] {
            let mut edge = Edge::start();
            edge.subscriber = None;
            std::fs::write(edge.file(), damage).expect("written");
            edge.restart();
            let renamed = edge.dir.path().join("config.redb.corrupt");
            assert_eq!(std::fs::read(renamed).expect("kept"), damage);
            assert_eq!(edge.update(&mut publisher), Outcome::Applied);
            assert_eq!(edge.served(), served(&[("a", 1)]));
        }
    }

    #[test]
    fn stored_version_with_a_wrong_checksum_is_not_used() {
        let link = record(1, "a", "https://shop.example/");
        let mut publisher = Publisher::new(ConfigVersion::new(0, []));
        publisher.publish(1, vec![put(&link)]);
        let mut edge = Edge::start();
        assert_eq!(edge.update(&mut publisher), Outcome::Applied);
        edge.subscriber = None;
        let mut disk = ConfigDisk::open(&edge.file()).expect("opens");
        let held = disk.held().expect("readable");
        let pending = disk.begin().expect("begins");
        pending
            .write(&[put(&record(2, "b", "https://shop.example/"))])
            .expect("written");
        disk.commit(pending, held).expect("committed");
        drop(disk);
        edge.restart();
        assert_eq!(
            (edge.subscriber().held().version, edge.served()),
            (0, vec![])
        );
        // The snapshot replaces whatever the file holds.
        assert_eq!(edge.update(&mut publisher), Outcome::Applied);
        edge.restart();
        assert_eq!(
            (edge.subscriber().held().version, edge.served()),
            (1, served(&[("a", 1)]))
        );
    }
}
