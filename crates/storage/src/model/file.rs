//! A file's bytes: as everybody sees them, and as they are on disk.

use super::{Choice, Fault, Model, Node, error};
use crate::{File, Map};
use std::collections::BTreeMap;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the kernel writes at once.
const PAGE: usize = 4_096;
/// What a disk writes at once, more or less.
const SECTOR: usize = 512;

/// The bytes of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    seen: Vec<u8>,
    on_disk: Vec<u8>,
    /// Sectors that a failed sync gave up, with what they held then: until they are written again,
    /// no sync writes them.
    given_up: BTreeMap<usize, Vec<u8>>,
}

impl Content {
    pub(super) const fn length(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.seen.resize(length, 0);
    }

    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        self.seen[at..end].copy_from_slice(bytes);
        // Written again, even if alike.
        for sector in at / SECTOR..end.div_ceil(SECTOR) {
            self.given_up.remove(&sector);
        }
    }

    fn sync(&mut self) {
        let given_up: Vec<usize> = self.given_up_now().collect();
        let before = std::mem::take(&mut self.on_disk);
        self.on_disk.clone_from(&self.seen);
        for sector in given_up {
            copy(
                &mut self.on_disk,
                &before,
                sector * SECTOR..(sector + 1) * SECTOR,
            );
        }
    }

    /// Sectors given up that nobody has changed since.
    fn given_up_now(&self) -> impl Iterator<Item = usize> {
        let unchanged =
            |(sector, held): &(&usize, &Vec<u8>)| *sector_of(&self.seen, **sector) == held[..];
        self.given_up
            .iter()
            .filter(unchanged)
            .map(|(sector, _)| *sector)
    }

    /// A sync that writes a part and gives up the rest.
    fn fail_to_sync(&mut self, mut writes: impl FnMut() -> bool) {
        if self.on_disk.len() != self.seen.len() && writes() {
            self.on_disk.resize(self.seen.len(), 0);
        }
        let dirty: Vec<usize> = self.dirty(SECTOR).collect();
        for sector in dirty {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            if writes() {
                copy(&mut self.on_disk, &self.seen, range);
            } else {
                let held = sector_of(&self.seen, sector).to_vec();
                self.given_up.insert(sector, held);
            }
        }
    }

    /// Which parts of `size` bytes differ from what is on disk.
    fn dirty(&self, size: usize) -> impl Iterator<Item = usize> {
        let parts = self.seen.len().max(self.on_disk.len()).div_ceil(size);
        (0..parts).filter(move |part| {
            let (start, end) = (part * size, (part + 1) * size);
            let one = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
            match (self.seen.get(start..end), self.on_disk.get(start..end)) {
                (Some(seen), Some(on_disk)) => seen != on_disk,
                _ => (start..end).any(|at| one(&self.seen, at) != one(&self.on_disk, at)),
            }
        })
    }

    pub(super) fn at_risk(&self) -> usize {
        self.dirty(PAGE).count() + usize::from(self.seen.len() != self.on_disk.len())
    }

    pub(super) fn after_power_cut(&self, choice: &mut Choice) -> Self {
        let mut left = self.on_disk.clone();
        let grown = self.seen.len() != self.on_disk.len() && choice.keeps();
        if grown {
            left.resize(self.seen.len(), 0);
        }
        let given_up: Vec<usize> = self.given_up_now().collect();
        for page in self.dirty(PAGE) {
            let whole = choice.page();
            for sector in page * PAGE / SECTOR..(page + 1) * PAGE / SECTOR {
                let start = sector * SECTOR;
                let range = start..start + SECTOR;
                if given_up.contains(&sector) {
                    continue;
                }
                match whole {
                    Some(true) => copy(&mut left, &self.seen, range),
                    Some(false) => {}
                    None => match choice.random.below(8) {
                        0..4 => copy(&mut left, &self.seen, range),
                        4..7 => {}
                        _ => {
                            let torn = start + choice.random.below(SECTOR as u64) as usize;
                            copy(&mut left, &self.seen, start..torn);
                        }
                    },
                }
            }
        }
        Self {
            seen: left.clone(),
            on_disk: left,
            given_up: BTreeMap::new(),
        }
    }
}

/// Copies what of `range` lies in both; what `to` has beyond `from` is zeros.
fn copy(to: &mut [u8], from: &[u8], range: Range<usize>) {
    let end = range.end.min(to.len());
    if range.start >= end {
        return;
    }
    for (at, byte) in to[range.start..end].iter_mut().enumerate() {
        *byte = from.get(range.start + at).copied().unwrap_or(0);
    }
}

fn sector_of(bytes: &[u8], sector: usize) -> &[u8] {
    let end = ((sector + 1) * SECTOR).min(bytes.len());
    bytes.get(sector * SECTOR..end).unwrap_or_default()
}

pub(super) fn lock(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open file of a [`Model`].
#[derive(Debug, Clone)]
pub struct ModelFile {
    model: Model,
    node: Node,
}

impl ModelFile {
    pub(super) fn new(model: &Model, node: Node) -> Self {
        Self {
            model: model.clone(),
            node,
        }
    }

    fn content(&self) -> io::Result<Arc<Mutex<Content>>> {
        let state = self.model.looking()?;
        let content = state
            .files
            .get(&self.node)
            .ok_or(io::ErrorKind::IsADirectory)?;
        Ok(content.clone())
    }

    pub(super) fn map(&self, model: &Model, len: usize) -> io::Result<ModelMap> {
        let content = self.content()?;
        if lock(&content).length() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(ModelMap {
            model: model.clone(),
            content,
            nowhere: Vec::new(),
            len,
        })
    }

    /// Does something that a fault may let happen in part.
    fn changing(
        &self,
        needs_room: bool,
        change: impl FnOnce(&mut Content, Option<&mut super::Random>),
    ) -> io::Result<()> {
        let content = self.content()?;
        let (mut state, fault) = self.model.changing()?;
        let fault = fault.filter(|fault| needs_room || *fault != Fault::Full);
        let random = fault.is_some().then_some(&mut state.random);
        change(&mut lock(&content), random);
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }
}

impl File for ModelFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&*self.content()?).length() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changing(true, |content, failing| {
            if failing.is_none() {
                content.set_length(len as usize);
            }
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.changing(true, |content, failing| {
            if failing.is_none() && content.length() < len as usize {
                content.set_length(len as usize);
            }
        })
    }

    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let content = self.content()?;
        let content = lock(&content);
        let at = at as usize;
        let found = content.seen.get(at..at + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        // What is allocated needs no more room.
        let grows = (lock(&*self.content()?).length() as u64) < at + bytes.len() as u64;
        self.changing(grows, |content, failing| {
            let written = failing.map_or(bytes.len(), |random| {
                random.below(bytes.len() as u64 + 1) as usize
            });
            content.write(&bytes[..written], at as usize);
        })
    }

    fn sync(&self) -> io::Result<()> {
        // A sync that found no room is a sync that failed.
        self.changing(true, |content, failing| match failing {
            None => content.sync(),
            Some(random) => content.fail_to_sync(|| random.one_in(2)),
        })
    }
}

/// A mapped file of a [`Model`].
#[derive(Debug)]
pub struct ModelMap {
    model: Model,
    content: Arc<Mutex<Content>>,
    /// Where is written when the machine is off.
    nowhere: Vec<u8>,
    len: usize,
}

impl Map for ModelMap {
    fn bytes(&mut self) -> impl DerefMut<Target = [u8]> {
        let alive = self.model.changing().is_ok();
        if alive {
            Bytes::Shared(lock(&self.content), self.len)
        } else {
            self.nowhere.resize(self.len, 0);
            Bytes::Nowhere(&mut self.nowhere)
        }
    }
}

enum Bytes<'a> {
    Shared(MutexGuard<'a, Content>, usize),
    Nowhere(&'a mut [u8]),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(content, len) => &content.seen[..*len],
            Self::Nowhere(bytes) => bytes,
        }
    }
}

impl DerefMut for Bytes<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Shared(content, len) => &mut content.seen[..*len],
            Self::Nowhere(bytes) => bytes,
        }
    }
}
