//! The filters on disk: one file a generation and a manifest that vouches for them.
//!
//! A generation's file is written beside and renamed, generations before the manifest. So after a
//! crash between any two steps the files hold at least what the manifest says they do. What the
//! journal holds beyond it is the caller's to replay.

mod format;

use super::shard::Generation;
use super::sizing::{InvalidSettings, Plan, UniqueSettings};
use super::{Filters, lock};
use format::{Manifest, Unreadable};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use tracking_events::Micros;

const MANIFEST: &str = "manifest";
/// Files of other settings are looked for up to the most slots there can be.
const MAX_SLOTS: u64 = 65;

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Generations that had changed.
    pub generations: usize,
    /// The bytes of their files.
    pub bytes: u64,
}

/// What was found at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// For each lane its number and the sequence of the last event the filters have seen; later
    /// ones are to be replayed. Empty when anything that still counts was lost: then all there is.
    pub covers: Vec<(u8, u64)>,
    /// Generations loaded.
    pub generations: usize,
    /// Visits in them.
    pub entries: u64,
    /// Files that were no good and are now called `*.corrupt`.
    pub set_aside: usize,
}

/// What is known to be on disk, so that only what changed is written: entries by generation.
#[derive(Debug, Default)]
pub(super) struct SavedState {
    dir: PathBuf,
    generations: BTreeMap<u64, u64>,
}

impl Filters {
    /// Writes to `dir` the generations that changed since they were last written or loaded there.
    /// `covers` says for each lane (its number) up to which sequence the filters have seen the
    /// journal, and so must have been read before the call.
    ///
    /// Blocks on the disk, without any lock that visits need: a shard is locked while its part is
    /// copied. Files of generations that are over are overwritten in time, so that their number is
    /// bounded.
    ///
    /// # Errors
    /// When the disk refuses; what was there before is then still good.
    pub fn save(&self, dir: &Path, covers: &[(u8, u64)]) -> io::Result<Saved> {
        let mut state = lock(&self.saved);
        fs::create_dir_all(dir)?;
        if state.dir != dir {
            *state = SavedState {
                dir: dir.into(),
                generations: BTreeMap::new(),
            };
        }
        let present = self.entries_by_generation();
        let mut saved = Saved::default();
        for (index, entries) in &present {
            if state.generations.get(index) == Some(entries) {
                continue;
            }
            let (written, bytes) = self.write_generation(dir, *index)?;
            state.generations.insert(*index, written);
            saved.generations += 1;
            saved.bytes += bytes;
        }
        state
            .generations
            .retain(|index, _| present.contains_key(index));
        sync_dir(dir)?;
        let manifest = Manifest {
            generations: present.keys().copied().collect(),
            covers: covers.to_vec(),
        };
        let bytes = format::manifest_bytes(self.plan.fingerprint(), &manifest);
        replace(&dir.join(MANIFEST), |file| file.write_all(&bytes))?;
        sync_dir(dir)?;
        Ok(saved)
    }

    /// Filters with what was saved in `dir`, as of `now`; empty ones where nothing was.
    ///
    /// A file that is damaged, foreign or of other settings is reported and set aside, and the
    /// start goes on without it.
    ///
    /// # Errors
    /// When `settings` are out of range or ask for more memory than they allow.
    pub fn load(
        settings: &UniqueSettings,
        dir: &Path,
        now: Micros,
    ) -> Result<(Self, Snapshot), InvalidSettings> {
        let filters = Self::new(settings)?;
        let mut snapshot = Snapshot::default();
        let mut found = BTreeMap::new();
        for slot in 0..MAX_SLOTS {
            let path = slot_path(dir, slot);
            let read = read_generation(&path, &filters.plan, slot);
            if let Some((index, parts)) = accept(&path, read, &mut snapshot) {
                found.insert(index, parts);
            }
        }
        let path = dir.join(MANIFEST);
        let manifest = read_manifest(&path, &filters.plan);
        let manifest = accept(&path, manifest, &mut snapshot).unwrap_or_default();

        let newest = found.keys().next_back().copied();
        filters.clock.resume(newest.unwrap_or_default());
        let oldest = filters.clock.observe(now).oldest;
        let live = found.split_off(&oldest);
        let mut promised = manifest
            .generations
            .iter()
            .filter(|index| **index >= oldest);
        let lost = promised.any(|index| !live.contains_key(index));
        if lost {
            tracing::warn!(dir = %dir.display(), "saved unique visits are missing");
        }
        if !lost {
            snapshot.covers = manifest.covers;
        }
        filters.restore(dir, live, &mut snapshot);
        Ok((filters, snapshot))
    }

    fn restore(&self, dir: &Path, live: BTreeMap<u64, Parts>, snapshot: &mut Snapshot) {
        let mut state = lock(&self.saved);
        state.dir = dir.into();
        for (index, parts) in live {
            let entries = parts.iter().map(|(_, part)| part.entries).sum();
            for (shard, part) in parts {
                lock(&self.shards[shard]).restore(part);
            }
            state.generations.insert(index, entries);
            snapshot.generations += 1;
            snapshot.entries += entries;
        }
    }

    fn entries_by_generation(&self) -> BTreeMap<u64, u64> {
        let oldest = self.clock.newest().oldest;
        let mut entries = BTreeMap::new();
        for shard in &self.shards {
            for generation in lock(shard).live(oldest) {
                *entries.entry(generation.index).or_default() += generation.entries;
            }
        }
        entries
    }

    /// Writes one generation, and says how many entries and bytes that were.
    fn write_generation(&self, dir: &Path, index: u64) -> io::Result<(u64, u64)> {
        let path = slot_path(dir, index % self.plan.slots());
        let mut total = 0;
        let bytes = replace(&path, |file| {
            let mut out = format::Writer::new(BufWriter::new(file));
            out.header(self.plan.fingerprint(), index)?;
            let mut copy = Vec::with_capacity(self.plan.bytes + 64);
            for shard in &self.shards {
                copy.clear();
                let entries = {
                    let shard = lock(shard);
                    let part = shard
                        .live(index)
                        .find(|generation| generation.index == index);
                    copy.extend_from_slice(part.map_or(&[], |part| part.bloom.as_slice()));
                    part.map_or(0, |part| part.entries)
                };
                total += entries;
                out.part(entries, &copy)?;
            }
            out.finish()
        })?;
        Ok((total, bytes))
    }
}

/// The parts of a generation by shard.
type Parts = Vec<(usize, Generation)>;

fn slot_path(dir: &Path, slot: u64) -> PathBuf {
    dir.join(format!("generation-{slot:02}"))
}

fn read_generation(path: &Path, plan: &Plan, slot: u64) -> Result<(u64, Parts), Unreadable> {
    let bytes = read_bounded(path, plan.max_file_bytes())?;
    let (index, parts) = format::generation(&bytes, plan)?;
    if index % plan.slots() == slot {
        Ok((index, parts))
    } else {
        Err(Unreadable::Malformed)
    }
}

fn read_manifest(path: &Path, plan: &Plan) -> Result<Manifest, Unreadable> {
    format::manifest(
        &read_bounded(path, format::MAX_MANIFEST_BYTES)?,
        plan.fingerprint(),
    )
}

fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, Unreadable> {
    let len = fs::metadata(path).map_err(Unreadable::Io)?.len();
    if len > max {
        return Err(Unreadable::OtherSettings);
    }
    fs::read(path).map_err(Unreadable::Io)
}

/// What was read; a file that is no good is reported and set aside, one that is absent is nothing.
fn accept<T>(path: &Path, read: Result<T, Unreadable>, snapshot: &mut Snapshot) -> Option<T> {
    let cause = match read {
        Ok(read) => return Some(read),
        Err(Unreadable::Io(error)) if error.kind() == ErrorKind::NotFound => return None,
        Err(cause) => cause,
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".corrupt");
    let renamed = fs::rename(path, &aside);
    snapshot.set_aside += 1;
    tracing::warn!(
        path = %path.display(),
        %cause,
        set_aside = renamed.is_ok(),
        "saved unique visits can't be used; visits of that time count as unique again"
    );
    None
}

/// Replaces a file so that after a power cut either the old or the new one is there, whole. Says
/// how long the new one is.
fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<u64> {
    let beside = path.with_extension("tmp");
    let written = File::create(&beside).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()?;
        let len = file.metadata()?.len();
        fs::rename(&beside, path)?;
        Ok(len)
    });
    // On a full disk the half of it would take room that others need more.
    written.inspect_err(|_| drop(fs::remove_file(&beside)))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
