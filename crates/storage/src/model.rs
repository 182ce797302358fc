//! An in-memory disk with the failures of real disks. It stops at any operation, loses unsynced data
//! completely, partially or out of order, tears sectors, and returns the errors of real disks.
//!
//! It keeps only what POSIX guarantees. A synced file has no durable name until its directory is
//! synced, name changes are lost independently of each other, and bytes that a failed sync did not
//! write are not written by a later one.

mod directory;
mod file;
mod random;

pub use file::{ModelFile, ModelMap};
pub use random::Random;

use crate::Storage;
use directory::{Directory, NameChange};
use file::Content;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A fault injected into one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The machine stops: neither this operation nor any after it happens.
    Stop,
    /// The disk is full ([`io::ErrorKind::StorageFull`]); only operations that need space fail.
    NoSpace,
    /// The disk fails (`EIO`). A write or sync may have happened in part; the remaining part of a sync
    /// is lost for good.
    IoError,
}

/// Which unsynced changes a power loss destroys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// No change is lost.
    Nothing,
    /// Every change is lost.
    Everything,
    /// Only this page or name change, counted from 0, is lost.
    Only(usize),
    /// Every change except this page or name change is lost.
    AllBut(usize),
    /// A random choice from this seed for each sector and name; some sectors are torn.
    Random(u64),
}

/// A disk and the process that uses it.
#[derive(Debug, Clone)]
pub struct ModelDisk {
    state: Arc<Mutex<State>>,
}

type Inode = u64;

#[derive(Debug)]
struct State {
    stopped: bool,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    /// The kinds of files and directories synced so far, if they are recorded.
    synced_kinds: Option<BTreeSet<String>>,
    skipped_kind: Option<String>,
    random: Random,
    clock: Duration,
    next_inode: Inode,
    directories: BTreeMap<PathBuf, Directory>,
    files: BTreeMap<Inode, Arc<Mutex<Content>>>,
    locks: BTreeMap<PathBuf, Weak<()>>,
}

impl ModelDisk {
    /// An empty disk with a directory `/`; random choices follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            stopped: false,
            operations: 0,
            faults: BTreeMap::new(),
            synced_kinds: None,
            skipped_kind: None,
            random: Random::new(seed),
            clock: Duration::ZERO,
            next_inode: 0,
            directories: BTreeMap::from([(PathBuf::from("/"), Directory::default())]),
            files: BTreeMap::new(),
            locks: BTreeMap::new(),
        };
        Self::from_state(state)
    }

    fn from_state(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The number of operations of this process so far: changes and accesses to mapped bytes count.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Injects `fault` into the operation of this number, counted as in [`ModelDisk::operations`].
    pub fn inject_fault_at(&self, operation: u64, fault: Fault) {
        self.state.lock().faults.insert(operation, fault);
    }

    /// Records from now on which kinds of files and directories are synced. A kind is a name without its digits,
    /// which number segments and lanes.
    pub fn record_syncs(&self) {
        self.state.lock().synced_kinds.get_or_insert_default();
    }

    /// The kinds synced since [`ModelDisk::record_syncs`].
    #[must_use]
    pub fn synced_kinds(&self) -> BTreeSet<String> {
        self.state.lock().synced_kinds.clone().unwrap_or_default()
    }

    /// Lets every sync of a kind succeed without any effect, in later processes as well, as if the program had left
    /// it out.
    pub fn skip_syncs_of(&self, kind: &str) {
        self.state.lock().skipped_kind = Some(kind.to_owned());
    }

    /// Stops the machine: every later operation fails.
    pub fn stop(&self) {
        self.state.lock().stopped = true;
    }

    /// Whether the machine was stopped, by [`ModelDisk::stop`] or by a fault.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Advances the clock.
    pub fn advance(&self, by: Duration) {
        self.state.lock().clock += by;
    }

    /// The disk as another process finds it after this one was killed: every write is there.
    ///
    /// Pending faults are discarded. `self` does not change, so that a test can try several outcomes
    /// from the same moment.
    #[must_use]
    pub fn after_crash(&self) -> Self {
        Self::from_state(self.state.lock().for_new_process())
    }

    /// The disk after a power loss, which destroys unsynced changes according to `loss`; `self` does
    /// not change.
    #[must_use]
    pub fn after_power_loss(&self, loss: Loss) -> Self {
        let mut state = self.state.lock().for_new_process();
        let mut decider = LossDecider::new(loss);
        for directory in state.directories.values_mut() {
            directory.after_power_loss(&mut decider);
        }
        for content in state.files.values_mut() {
            let after = content.lock().after_power_loss(&mut decider);
            *content = Arc::new(Mutex::new(after));
        }
        state.remove_unlinked();
        Self::from_state(state)
    }

    /// The number of pages and name changes that a power loss could destroy now.
    #[must_use]
    pub fn unsynced_changes(&self) -> usize {
        let state = self.state.lock();
        let names: usize = state
            .directories
            .values()
            .map(Directory::unsynced_changes)
            .sum();
        let pages: usize = state
            .files
            .values()
            .map(|content| content.lock().unsynced_changes())
            .sum();
        names + pages
    }

    /// The total length of all files below `dir`.
    #[must_use]
    pub fn bytes_below(&self, dir: &Path) -> u64 {
        let state = self.state.lock();
        let below = state
            .directories
            .iter()
            .filter(|(path, _)| path.starts_with(dir));
        let inodes = below.flat_map(|(_, directory)| directory.names.values());
        inodes
            .filter_map(|inode| state.files.get(inode))
            .map(|content| content.lock().length() as u64)
            .sum()
    }

    /// Begins an operation that changes nothing.
    fn read_state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.stopped {
            return Err(stopped_error());
        }
        Ok(state)
    }

    /// Begins an operation that changes something: counts it and returns its fault.
    fn begin_operation(&self) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.read_state()?;
        let number = state.operations;
        state.operations += 1;
        let fault = state.faults.remove(&number);
        if fault == Some(Fault::Stop) {
            state.stopped = true;
            return Err(stopped_error());
        }
        Ok((state, fault))
    }

    /// Begins a change that happens completely or not at all.
    fn begin_atomic(&self) -> io::Result<MutexGuard<'_, State>> {
        match self.begin_operation()? {
            (_, Some(fault)) => Err(fault_error(fault)),
            (state, None) => Ok(state),
        }
    }

    /// Begins a change that needs no space.
    fn begin_without_space(&self) -> io::Result<MutexGuard<'_, State>> {
        match self.begin_operation()? {
            (_, Some(Fault::IoError)) => Err(fault_error(Fault::IoError)),
            (state, _) => Ok(state),
        }
    }
}

fn stopped_error() -> io::Error {
    io::Error::other("the machine is off")
}

fn fault_error(fault: Fault) -> io::Error {
    match fault {
        Fault::NoSpace => io::Error::from(io::ErrorKind::StorageFull),
        Fault::IoError => io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()),
        Fault::Stop => stopped_error(),
    }
}

impl State {
    fn for_new_process(&self) -> Self {
        let copy = |(inode, content): (&Inode, &Arc<Mutex<Content>>)| {
            let content = content.lock().clone();
            (*inode, Arc::new(Mutex::new(content)))
        };
        Self {
            stopped: false,
            operations: 0,
            faults: BTreeMap::new(),
            synced_kinds: None,
            skipped_kind: self.skipped_kind.clone(),
            random: self.random.clone(),
            clock: self.clock,
            next_inode: self.next_inode,
            directories: self.directories.clone(),
            files: self.files.iter().map(copy).collect(),
            locks: BTreeMap::new(),
        }
    }

    /// Records a sync, if syncs are recorded, and returns whether it is to have no effect.
    fn record_sync(&mut self, path: impl FnOnce(&Self) -> PathBuf) -> bool {
        if self.synced_kinds.is_none() && self.skipped_kind.is_none() {
            return false;
        }
        let path = path(self);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = name.replace(|c: char| c.is_ascii_digit(), "");
        let is_skipped = self.skipped_kind.as_ref() == Some(&kind);
        if let Some(kinds) = &mut self.synced_kinds {
            kinds.insert(kind);
        }
        is_skipped
    }

    /// The name of a file; empty if it has none.
    fn path_of(&self, inode: Inode) -> PathBuf {
        let mut names = self.directories.values().flat_map(|it| &it.names);
        let found = names.find(|(_, it)| **it == inode);
        found.map(|(path, _)| path.clone()).unwrap_or_default()
    }

    fn directory(&mut self, path: &Path) -> io::Result<(&mut Directory, PathBuf)> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = self
            .directories
            .get_mut(parent)
            .ok_or(io::ErrorKind::NotFound)?;
        Ok((directory, path.to_owned()))
    }

    fn inode(&mut self, path: &Path) -> io::Result<Option<Inode>> {
        let (directory, name) = self.directory(path)?;
        Ok(directory.names.get(&name).copied())
    }

    fn set(&mut self, path: &Path, inode: Option<Inode>) -> io::Result<()> {
        let (directory, name) = self.directory(path)?;
        directory.record(NameChange::Set { name, inode });
        Ok(())
    }

    fn new_inode(&mut self) -> Inode {
        self.next_inode += 1;
        self.next_inode
    }

    fn new_file(&mut self, path: &Path) -> io::Result<Inode> {
        let inode = self.new_inode();
        self.set(path, Some(inode))?;
        self.files.insert(inode, Arc::default());
        Ok(inode)
    }

    /// Removes directories and files that have lost their names.
    fn remove_unlinked(&mut self) {
        let mut known: Vec<(PathBuf, Inode)> = Vec::new();
        let mut reached = vec![PathBuf::from("/")];
        while let Some(path) = reached.pop() {
            let Some(directory) = self.directories.get(&path) else {
                continue;
            };
            for (name, inode) in &directory.names {
                known.push((name.clone(), *inode));
                reached.push(name.clone());
            }
        }
        self.directories.retain(|path, directory| {
            let named =
                |(name, inode): &(PathBuf, Inode)| name == path && *inode == directory.inode;
            path == Path::new("/") || known.iter().any(named)
        });
        self.files
            .retain(|inode, _| known.iter().any(|(_, it)| it == inode));
    }
}

impl Storage for ModelDisk {
    type File = ModelFile;
    type Map = ModelMap;
    type Lock = Arc<()>;
    const IS_BLOCKING: bool = false;

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.begin_atomic()?;
        if state.directories.contains_key(dir) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.new_inode();
        state.set(dir, Some(inode))?;
        state
            .directories
            .insert(dir.to_owned(), Directory::new(inode));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.read_state()?;
        let directory = state.directories.get(dir).ok_or(io::ErrorKind::NotFound)?;
        Ok(directory.names.keys().cloned().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.read_state()?;
        Ok(state.directories.contains_key(path) || state.inode(path).is_ok_and(|it| it.is_some()))
    }

    fn open(&self, path: &Path) -> io::Result<ModelFile> {
        let inode = self.read_state()?.inode(path)?;
        Ok(ModelFile::new(self, inode.ok_or(io::ErrorKind::NotFound)?))
    }

    fn create(&self, path: &Path) -> io::Result<ModelFile> {
        let mut state = self.begin_atomic()?;
        let inode = match state.inode(path)? {
            Some(inode) => {
                let content = state.files.get(&inode).ok_or(io::ErrorKind::IsADirectory)?;
                content.lock().set_length(0);
                inode
            }
            None => state.new_file(path)?,
        };
        Ok(ModelFile::new(self, inode))
    }

    fn create_new(&self, path: &Path) -> io::Result<ModelFile> {
        let mut state = self.begin_atomic()?;
        if state.inode(path)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.new_file(path)?;
        Ok(ModelFile::new(self, inode))
    }

    fn map(&self, file: &ModelFile, len: usize) -> io::Result<ModelMap> {
        file.map(self, len)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin_atomic()?;
        let inode = state.inode(from)?.ok_or(io::ErrorKind::NotFound)?;
        let (directory, from) = state.directory(from)?;
        let to = to.to_owned();
        directory.record(NameChange::Rename { from, to, inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin_without_space()?;
        state.inode(path)?.ok_or(io::ErrorKind::NotFound)?;
        state.set(path, None)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.begin_without_space()?;
        let is_skipped = state.record_sync(|_| dir.to_owned());
        let directory = state
            .directories
            .get_mut(dir)
            .ok_or(io::ErrorKind::NotFound)?;
        if !is_skipped {
            directory.sync();
        }
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Arc<()>>> {
        let mut state = self.begin_atomic()?;
        if state.inode(path)?.is_none() {
            state.new_file(path)?;
        }
        if state.locks.get(path).and_then(Weak::upgrade).is_some() {
            return Ok(None);
        }
        let lock = Arc::new(());
        state.locks.insert(path.to_owned(), Arc::downgrade(&lock));
        Ok(Some(lock))
    }

    fn now(&self) -> Duration {
        self.state.lock().clock
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.read_state()?.random.next())
    }
}

/// Decides for each page, sector and name change whether it survives a power loss.
#[derive(Debug)]
struct LossDecider {
    loss: Loss,
    random: Random,
    decided: usize,
}

impl LossDecider {
    fn new(loss: Loss) -> Self {
        let random = Random::new(if let Loss::Random(seed) = loss {
            seed
        } else {
            0
        });
        Self {
            loss,
            random,
            decided: 0,
        }
    }

    /// Whether the next change of a name or a file length survives.
    fn change_survives(&mut self) -> bool {
        self.page_survives()
            .unwrap_or_else(|| self.random.one_in(2))
    }

    /// Whether the next page survives; `None` when each sector is decided on its own.
    fn page_survives(&mut self) -> Option<bool> {
        let number = self.decided;
        self.decided += 1;
        match self.loss {
            Loss::Nothing => Some(true),
            Loss::Everything => Some(false),
            Loss::Only(lost) => Some(number != lost),
            Loss::AllBut(kept) => Some(number == kept),
            Loss::Random(_) => match self.random.below(4) {
                0 => Some(true),
                1 => Some(false),
                _ => None,
            },
        }
    }
}
