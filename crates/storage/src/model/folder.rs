//! Names in a folder: as everybody sees them, and as they are on disk.

use super::{Choice, Node};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A folder's names, by whole path.
#[derive(Debug, Clone, Default)]
pub(super) struct Folder {
    pub(super) node: Node,
    pub(super) names: BTreeMap<PathBuf, Node>,
    on_disk: BTreeMap<PathBuf, Node>,
    /// In order, since the last sync.
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Set {
        name: PathBuf,
        node: Option<Node>,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        node: Node,
    },
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Set {
                name,
                node: Some(node),
            } => {
                names.insert(name.clone(), *node);
            }
            Self::Set { name, node: None } => {
                names.remove(name);
            }
            Self::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

impl Folder {
    pub(super) fn new(node: Node) -> Self {
        Self {
            node,
            ..Self::default()
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.changes.clear();
        self.on_disk.clone_from(&self.names);
    }

    pub(super) const fn at_risk(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn cut_power(&mut self, choice: &mut Choice) {
        for change in self.changes.drain(..) {
            if choice.keeps() {
                change.apply(&mut self.on_disk);
            }
        }
        self.names.clone_from(&self.on_disk);
    }
}
