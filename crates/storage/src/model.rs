//! A disk in memory that fails as disks do: it stops at any operation, loses what was not synced
//! wholly, in part or in another order, tears sectors, and refuses with the errors that disks give.
//!
//! It is as forgetful as POSIX allows: a synced file has no name until its folder is synced, changes
//! of names are lost each for itself, and after a failed sync what was to be written never will be.

mod file;
mod folder;
mod random;

pub use file::{ModelFile, ModelMap};
pub use random::Random;

use crate::Storage;
use file::Content;
use folder::{Change, Folder};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The machine stops: neither this operation nor any after it happens.
    Stop,
    /// There is no room, where an operation needs room ([`io::ErrorKind::StorageFull`]).
    Full,
    /// The disk fails (`EIO`): of a write a part may have happened; of a sync likewise, and what did
    /// not happen never will.
    Broken,
}

/// What becomes of what was not synced when the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it was written in time.
    Nothing,
    /// None of it was.
    Everything,
    /// Nothing but this one page or change of a name, counted from 0, was lost.
    Only(usize),
    /// This one alone was written in time.
    AllBut(usize),
    /// Chance says, from this seed, sector by sector, and some sectors are torn.
    Chance(u64),
}

/// A disk, and the process that uses it.
#[derive(Debug, Clone)]
pub struct Model {
    state: Arc<Mutex<State>>,
}

type Node = u64;

#[derive(Debug)]
struct State {
    stopped: bool,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    random: Random,
    clock: Duration,
    next_node: Node,
    folders: BTreeMap<PathBuf, Folder>,
    files: BTreeMap<Node, Arc<Mutex<Content>>>,
    locks: BTreeMap<PathBuf, Weak<()>>,
}

impl Model {
    /// An empty disk with a folder `/`; what is left to chance follows `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            stopped: false,
            operations: 0,
            faults: BTreeMap::new(),
            random: Random::new(seed),
            clock: Duration::ZERO,
            next_node: 0,
            folders: BTreeMap::from([(PathBuf::from("/"), Folder::default())]),
            files: BTreeMap::new(),
            locks: BTreeMap::new(),
        };
        Self::of(state)
    }

    fn of(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Operations of this process so far: each that changes something is one, and so is each look into a map.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Lets the operation with this number, counted as [`Model::operations`] does, meet `fault`.
    pub fn fault_at(&self, operation: u64, fault: Fault) {
        self.lock().faults.insert(operation, fault);
    }

    /// Stops the machine: no operation happens any more.
    pub fn stop(&self) {
        self.lock().stopped = true;
    }

    /// Whether the machine has stopped.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.lock().clock += by;
    }

    /// What another process finds when this one ends here as `kill -9` ends it: everything that was
    /// written. Faults that were to come are forgotten. This disk stays as it is, so that other ends
    /// can be tried from the same moment.
    #[must_use]
    pub fn crash(&self) -> Self {
        Self::of(self.lock().another_process())
    }

    /// What is found after the power failed here: what was not synced is subject to `loss`. This disk
    /// stays as it is.
    #[must_use]
    pub fn cut_power(&self, loss: Loss) -> Self {
        let mut state = self.lock().another_process();
        let mut choice = Choice::new(loss);
        for folder in state.folders.values_mut() {
            folder.cut_power(&mut choice);
        }
        for content in state.files.values_mut() {
            let after = file::lock(content).after_power_cut(&mut choice);
            *content = Arc::new(Mutex::new(after));
        }
        state.forget_the_unnamed();
        Self::of(state)
    }

    /// How many pages and changes of names a power cut could take now.
    #[must_use]
    pub fn at_risk(&self) -> usize {
        let state = self.lock();
        let names: usize = state.folders.values().map(Folder::at_risk).sum();
        let pages: usize = state
            .files
            .values()
            .map(|content| file::lock(content).at_risk())
            .sum();
        names + pages
    }

    /// Bytes of all files below `dir`.
    #[must_use]
    pub fn bytes_below(&self, dir: &Path) -> u64 {
        let state = self.lock();
        let below = state
            .folders
            .iter()
            .filter(|(path, _)| path.starts_with(dir));
        let nodes = below.flat_map(|(_, folder)| folder.names.values());
        nodes
            .filter_map(|node| state.files.get(node))
            .map(|content| file::lock(content).length() as u64)
            .sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what changes nothing.
    fn looking(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.stopped {
            return Err(off());
        }
        Ok(state)
    }

    /// For what changes something: counts, and says which fault is met.
    fn changing(&self) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.looking()?;
        let number = state.operations;
        state.operations += 1;
        let fault = state.faults.remove(&number);
        if fault == Some(Fault::Stop) {
            state.stopped = true;
            return Err(off());
        }
        Ok((state, fault))
    }

    /// For changes that happen wholly or not at all.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        match self.changing()? {
            (_, Some(fault)) => Err(error(fault)),
            (state, None) => Ok(state),
        }
    }

    /// For what needs no room.
    fn change_in_place(&self) -> io::Result<MutexGuard<'_, State>> {
        match self.changing()? {
            (_, Some(Fault::Broken)) => Err(error(Fault::Broken)),
            (state, _) => Ok(state),
        }
    }
}

fn off() -> io::Error {
    io::Error::other("the machine is off")
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Full => io::Error::from(io::ErrorKind::StorageFull),
        Fault::Broken => io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()),
        Fault::Stop => off(),
    }
}

impl State {
    fn another_process(&self) -> Self {
        let copy = |(node, content): (&Node, &Arc<Mutex<Content>>)| {
            let content = file::lock(content).clone();
            (*node, Arc::new(Mutex::new(content)))
        };
        Self {
            stopped: false,
            operations: 0,
            faults: BTreeMap::new(),
            random: self.random.clone(),
            clock: self.clock,
            next_node: self.next_node,
            folders: self.folders.clone(),
            files: self.files.iter().map(copy).collect(),
            locks: BTreeMap::new(),
        }
    }

    fn folder(&mut self, path: &Path) -> io::Result<(&mut Folder, PathBuf)> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = self
            .folders
            .get_mut(parent)
            .ok_or(io::ErrorKind::NotFound)?;
        Ok((folder, path.to_owned()))
    }

    fn node(&mut self, path: &Path) -> io::Result<Option<Node>> {
        let (folder, name) = self.folder(path)?;
        Ok(folder.names.get(&name).copied())
    }

    fn set(&mut self, path: &Path, node: Option<Node>) -> io::Result<()> {
        let (folder, name) = self.folder(path)?;
        folder.change(Change::Set { name, node });
        Ok(())
    }

    fn new_node(&mut self) -> Node {
        self.next_node += 1;
        self.next_node
    }

    fn new_file(&mut self, path: &Path) -> io::Result<Node> {
        let node = self.new_node();
        self.set(path, Some(node))?;
        self.files.insert(node, Arc::default());
        Ok(node)
    }

    /// Folders and files whose names are gone are gone.
    fn forget_the_unnamed(&mut self) {
        let mut known: Vec<(PathBuf, Node)> = Vec::new();
        let mut reached = vec![PathBuf::from("/")];
        while let Some(path) = reached.pop() {
            let Some(folder) = self.folders.get(&path) else {
                continue;
            };
            for (name, node) in &folder.names {
                known.push((name.clone(), *node));
                reached.push(name.clone());
            }
        }
        self.folders.retain(|path, folder| {
            let named = |(name, node): &(PathBuf, Node)| name == path && *node == folder.node;
            path == Path::new("/") || known.iter().any(named)
        });
        self.files
            .retain(|node, _| known.iter().any(|(_, it)| it == node));
    }
}

impl Storage for Model {
    type File = ModelFile;
    type Map = ModelMap;
    type Lock = Arc<()>;
    const WAITS: bool = false;

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        if state.folders.contains_key(dir) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = state.new_node();
        state.set(dir, Some(node))?;
        state.folders.insert(dir.to_owned(), Folder::new(node));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.looking()?;
        let folder = state.folders.get(dir).ok_or(io::ErrorKind::NotFound)?;
        Ok(folder.names.keys().cloned().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.looking()?;
        Ok(state.folders.contains_key(path) || state.node(path).is_ok_and(|it| it.is_some()))
    }

    fn open(&self, path: &Path) -> io::Result<ModelFile> {
        let node = self.looking()?.node(path)?;
        Ok(ModelFile::new(self, node.ok_or(io::ErrorKind::NotFound)?))
    }

    fn create(&self, path: &Path) -> io::Result<ModelFile> {
        let mut state = self.change()?;
        let node = match state.node(path)? {
            Some(node) => {
                let content = state.files.get(&node).ok_or(io::ErrorKind::IsADirectory)?;
                file::lock(content).set_length(0);
                node
            }
            None => state.new_file(path)?,
        };
        Ok(ModelFile::new(self, node))
    }

    fn create_new(&self, path: &Path) -> io::Result<ModelFile> {
        let mut state = self.change()?;
        if state.node(path)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = state.new_file(path)?;
        Ok(ModelFile::new(self, node))
    }

    fn map(&self, file: &ModelFile, len: usize) -> io::Result<ModelMap> {
        file.map(self, len)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let node = state.node(from)?.ok_or(io::ErrorKind::NotFound)?;
        let (folder, from) = state.folder(from)?;
        let to = to.to_owned();
        folder.change(Change::Rename { from, to, node });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change_in_place()?;
        state.node(path)?.ok_or(io::ErrorKind::NotFound)?;
        state.set(path, None)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.change_in_place()?;
        let folder = state.folders.get_mut(dir).ok_or(io::ErrorKind::NotFound)?;
        folder.sync();
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Arc<()>>> {
        let mut state = self.change()?;
        if state.node(path)?.is_none() {
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
        self.lock().clock
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.looking()?.random.next())
    }
}

/// Decides for each page, sector and name whether it was written in time.
#[derive(Debug)]
struct Choice {
    loss: Loss,
    random: Random,
    met: usize,
}

impl Choice {
    fn new(loss: Loss) -> Self {
        let random = Random::new(if let Loss::Chance(seed) = loss {
            seed
        } else {
            0
        });
        Self {
            loss,
            random,
            met: 0,
        }
    }

    /// Whether the next change of a name was written.
    fn keeps(&mut self) -> bool {
        self.page().unwrap_or_else(|| self.random.one_in(2))
    }

    /// Whether the next page was written; `None` leaves it to the sectors.
    fn page(&mut self) -> Option<bool> {
        let number = self.met;
        self.met += 1;
        match self.loss {
            Loss::Nothing => Some(true),
            Loss::Everything => Some(false),
            Loss::Only(lost) => Some(number != lost),
            Loss::AllBut(kept) => Some(number == kept),
            Loss::Chance(_) => match self.random.below(4) {
                0 => Some(true),
                1 => Some(false),
                _ => None,
            },
        }
    }
}
