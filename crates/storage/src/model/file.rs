//! A file's bytes: as processes see them, and as they are on disk.

use super::{Fault, Inode, LossDecider, ModelDisk, fault_error};
use crate::{File, Map};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

/// The unit of kernel writeback.
const PAGE_BYTES: usize = 4_096;
/// The unit that a disk usually writes atomically.
const SECTOR_BYTES: usize = 512;

/// The bytes of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    visible: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that a failed sync did not write, with their content at that time. No later sync writes
    /// them until a process writes to them again.
    failed_sectors: BTreeMap<usize, Vec<u8>>,
}

impl Content {
    pub(super) const fn length(&self) -> usize {
        self.visible.len()
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.visible.resize(length, 0);
    }

    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if self.visible.len() < end {
            self.visible.resize(end, 0);
        }
        self.visible[at..end].copy_from_slice(bytes);
        // A write counts even when the bytes do not change.
        for sector in at / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            self.failed_sectors.remove(&sector);
        }
    }

    fn sync(&mut self) {
        let failed_sectors: Vec<usize> = self.unsynced_failed_sectors().collect();
        let before = std::mem::take(&mut self.durable);
        self.durable.clone_from(&self.visible);
        for sector in failed_sectors {
            copy(
                &mut self.durable,
                &before,
                sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES,
            );
        }
    }

    /// Failed sectors whose content has not changed since the failed sync.
    fn unsynced_failed_sectors(&self) -> impl Iterator<Item = usize> {
        let unchanged =
            |(sector, held): &(&usize, &Vec<u8>)| *sector_of(&self.visible, **sector) == held[..];
        self.failed_sectors
            .iter()
            .filter(unchanged)
            .map(|(sector, _)| *sector)
    }

    /// A failing sync: writes some of the dirty sectors and marks the others as failed.
    fn sync_partially(&mut self, mut writes: impl FnMut() -> bool) {
        if self.durable.len() != self.visible.len() && writes() {
            self.durable.resize(self.visible.len(), 0);
        }
        let dirty: Vec<usize> = self.dirty(SECTOR_BYTES).collect();
        for sector in dirty {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            if writes() {
                copy(&mut self.durable, &self.visible, range);
            } else {
                let held = sector_of(&self.visible, sector).to_vec();
                self.failed_sectors.insert(sector, held);
            }
        }
    }

    /// Indices of the parts of `size` bytes that differ from the durable content.
    fn dirty(&self, size: usize) -> impl Iterator<Item = usize> {
        let parts = self.visible.len().max(self.durable.len()).div_ceil(size);
        (0..parts).filter(move |part| {
            let (start, end) = (part * size, (part + 1) * size);
            let byte = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
            match (self.visible.get(start..end), self.durable.get(start..end)) {
                (Some(visible), Some(durable)) => visible != durable,
                _ => (start..end).any(|at| byte(&self.visible, at) != byte(&self.durable, at)),
            }
        })
    }

    pub(super) fn unsynced_changes(&self) -> usize {
        self.dirty(PAGE_BYTES).count() + usize::from(self.visible.len() != self.durable.len())
    }

    pub(super) fn after_power_loss(&self, decider: &mut LossDecider) -> Self {
        let mut remaining = self.durable.clone();
        let length_survives = self.visible.len() != self.durable.len() && decider.change_survives();
        if length_survives {
            remaining.resize(self.visible.len(), 0);
        }
        let failed_sectors: Vec<usize> = self.unsynced_failed_sectors().collect();
        for page in self.dirty(PAGE_BYTES) {
            let page_survives = decider.page_survives();
            for sector in page * PAGE_BYTES / SECTOR_BYTES..(page + 1) * PAGE_BYTES / SECTOR_BYTES {
                let start = sector * SECTOR_BYTES;
                let range = start..start + SECTOR_BYTES;
                if failed_sectors.contains(&sector) {
                    continue;
                }
                match page_survives {
                    Some(true) => copy(&mut remaining, &self.visible, range),
                    Some(false) => {}
                    None => match decider.random.below(8) {
                        0..4 => copy(&mut remaining, &self.visible, range),
                        4..7 => {}
                        _ => {
                            let torn = start + decider.random.below(SECTOR_BYTES as u64) as usize;
                            copy(&mut remaining, &self.visible, start..torn);
                        }
                    },
                }
            }
        }
        Self {
            visible: remaining.clone(),
            durable: remaining,
            failed_sectors: BTreeMap::new(),
        }
    }
}

/// Copies `range`, as far as `to` reaches; bytes beyond the end of `from` become zeros.
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
    let end = ((sector + 1) * SECTOR_BYTES).min(bytes.len());
    bytes.get(sector * SECTOR_BYTES..end).unwrap_or_default()
}

/// An open file on a [`ModelDisk`].
#[derive(Debug, Clone)]
pub struct ModelFile {
    model: ModelDisk,
    inode: Inode,
}

impl ModelFile {
    pub(super) fn new(model: &ModelDisk, inode: Inode) -> Self {
        Self {
            model: model.clone(),
            inode,
        }
    }

    fn content(&self) -> io::Result<Arc<Mutex<Content>>> {
        let state = self.model.read_state()?;
        let content = state
            .files
            .get(&self.inode)
            .ok_or(io::ErrorKind::IsADirectory)?;
        Ok(content.clone())
    }

    pub(super) fn map(&self, model: &ModelDisk, len: usize) -> io::Result<ModelMap> {
        let content = self.content()?;
        if content.lock().length() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(ModelMap {
            model: model.clone(),
            content,
            discarded: Vec::new(),
            len,
        })
    }

    /// Applies a change; with an injected fault `change` gets random numbers to decide how much happens.
    fn apply_change(
        &self,
        needs_space: bool,
        change: impl FnOnce(&mut Content, Option<&mut super::Random>),
    ) -> io::Result<()> {
        let content = self.content()?;
        let (mut state, fault) = self.model.begin_operation()?;
        let fault = fault.filter(|fault| needs_space || *fault != Fault::NoSpace);
        let random = fault.is_some().then_some(&mut state.random);
        change(&mut content.lock(), random);
        fault.map_or(Ok(()), |fault| Err(fault_error(fault)))
    }
}

impl File for ModelFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content()?.lock().length() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.apply_change(true, |content, fault_random| {
            if fault_random.is_none() {
                content.set_length(len as usize);
            }
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.apply_change(true, |content, fault_random| {
            if fault_random.is_none() && content.length() < len as usize {
                content.set_length(len as usize);
            }
        })
    }

    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let content = self.content()?;
        let content = content.lock();
        let at = at as usize;
        let found = content.visible.get(at..at + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        // A write within the allocated length needs no more space.
        let grows = (self.content()?.lock().length() as u64) < at + bytes.len() as u64;
        self.apply_change(grows, |content, fault_random| {
            let written = fault_random.map_or(bytes.len(), |random| {
                random.below(bytes.len() as u64 + 1) as usize
            });
            content.write(&bytes[..written], at as usize);
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.model.read_state()?;
        let is_skipped = state.record_sync(|state| state.path_of(self.inode));
        drop(state);
        // A sync for which the disk has no space is a failed sync.
        self.apply_change(true, |content, fault_random| match fault_random {
            None if is_skipped => {}
            None => content.sync(),
            Some(random) => content.sync_partially(|| random.one_in(2)),
        })
    }
}

/// A mapped file on a [`ModelDisk`].
#[derive(Debug)]
pub struct ModelMap {
    model: ModelDisk,
    content: Arc<Mutex<Content>>,
    /// Receives stores after the machine has stopped.
    discarded: Vec<u8>,
    len: usize,
}

impl Map for ModelMap {
    fn bytes(&mut self) -> impl DerefMut<Target = [u8]> {
        let alive = self.model.begin_operation().is_ok();
        if alive {
            Bytes::Shared(self.content.lock(), self.len)
        } else {
            self.discarded.resize(self.len, 0);
            Bytes::Discarded(&mut self.discarded)
        }
    }
}

enum Bytes<'a> {
    Shared(MutexGuard<'a, Content>, usize),
    Discarded(&'a mut [u8]),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(content, len) => &content.visible[..*len],
            Self::Discarded(bytes) => bytes,
        }
    }
}

impl DerefMut for Bytes<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Shared(content, len) => &mut content.visible[..*len],
            Self::Discarded(bytes) => bytes,
        }
    }
}
