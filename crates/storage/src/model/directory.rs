//! Names in a directory: as processes see them, and as they are on disk.

use super::{Inode, LossDecider};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A directory's names, as absolute paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory {
    pub(super) inode: Inode,
    pub(super) names: BTreeMap<PathBuf, Inode>,
    durable: BTreeMap<PathBuf, Inode>,
    /// Changes since the last sync, in order.
    unsynced: Vec<NameChange>,
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Set {
        name: PathBuf,
        inode: Option<Inode>,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        inode: Inode,
    },
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Inode>) {
        match self {
            Self::Set {
                name,
                inode: Some(inode),
            } => {
                names.insert(name.clone(), *inode);
            }
            Self::Set { name, inode: None } => {
                names.remove(name);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl Directory {
    pub(super) fn new(inode: Inode) -> Self {
        Self {
            inode,
            ..Self::default()
        }
    }

    pub(super) fn record(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.durable.clone_from(&self.names);
    }

    pub(super) const fn unsynced_changes(&self) -> usize {
        self.unsynced.len()
    }

    pub(super) fn after_power_loss(&mut self, decider: &mut LossDecider) {
        for change in self.unsynced.drain(..) {
            if decider.change_survives() {
                change.apply(&mut self.durable);
            }
        }
        self.names.clone_from(&self.durable);
    }
}
