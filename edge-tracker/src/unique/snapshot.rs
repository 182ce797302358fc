//! The filters on disk: one file per generation, and a manifest of the covered sequences.
//!
//! Each file is written under a temporary name and renamed, generations before the manifest. So after a crash between
//! any two steps the files contain at least the visits that the manifest covers. The caller replays later events from
//! the journal.

mod format;

use super::Filters;
use super::shard::Generation;
use super::sizing::{InvalidSettings, Plan, UniqueSettings};
use domain::Micros;
use format::{FileError, Manifest};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "manifest";
/// The maximum number of slots of any settings, so that files of earlier settings are found, too.
const MAX_SLOTS: u64 = 65;

/// The extent of a save.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SaveStats {
    /// Generations that had changed.
    pub generations: usize,
    /// The bytes of their files.
    pub bytes: u64,
}

/// The snapshot that was found at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// For each lane its number and the sequence of the last event in the filters; later ones are to be replayed.
    /// Empty when a generation within the window was lost: then all events are to be replayed.
    pub covers: Vec<(u8, u64)>,
    /// Generations loaded.
    pub generations: usize,
    /// Visits in them.
    pub entries: u64,
    /// Invalid files, renamed to `*.corrupt`.
    pub set_aside: usize,
}

/// The entries of each generation on disk, so that only changed generations are written.
#[derive(Debug, Default)]
pub(super) struct SavedState {
    dir: PathBuf,
    generations: BTreeMap<u64, u64>,
}

impl Filters {
    /// Writes to `dir` the generations that changed since they were last written or loaded there. `covers` holds for
    /// each lane the last sequence whose event is in the filters, and so must have been read before the call.
    ///
    /// Blocks on the disk, but not visits: a shard is locked only while its part is copied. Files of expired
    /// generations are overwritten, so that the number of files is bounded.
    ///
    /// # Errors
    /// When a write fails; the previous snapshot is then still valid.
    pub fn save(&self, dir: &Path, covers: &[(u8, u64)]) -> io::Result<SaveStats> {
        let mut state = self.saved.lock();
        fs::create_dir_all(dir)?;
        if state.dir != dir {
            *state = SavedState {
                dir: dir.into(),
                generations: BTreeMap::new(),
            };
        }
        let present = self.entries_by_generation();
        let mut saved = SaveStats::default();
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

    /// Loads the snapshot in `dir`, as of `now`; without one the filters are empty.
    ///
    /// A file that is damaged, foreign or of other settings is logged and set aside, and the start continues without
    /// it.
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
        let mut expected = manifest
            .generations
            .iter()
            .filter(|index| **index >= oldest);
        let lost = expected.any(|index| !live.contains_key(index));
        if lost {
            tracing::warn!(dir = %dir.display(), "saved unique visits are missing");
        }
        if !lost {
            snapshot.covers = manifest.covers;
        }
        filters.restore(dir, live, &mut snapshot);
        Ok((filters, snapshot))
    }

    fn restore(&self, dir: &Path, live: BTreeMap<u64, ShardGenerations>, snapshot: &mut Snapshot) {
        let mut state = self.saved.lock();
        state.dir = dir.into();
        for (index, parts) in live {
            let entries = parts.iter().map(|(_, part)| part.entries).sum();
            for (shard, part) in parts {
                self.shards[shard].lock().restore(part);
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
            for generation in shard.lock().live(oldest) {
                *entries.entry(generation.index).or_default() += generation.entries;
            }
        }
        entries
    }

    /// Writes one generation; returns its entries and bytes.
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
                    let shard = shard.lock();
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
type ShardGenerations = Vec<(usize, Generation)>;

fn slot_path(dir: &Path, slot: u64) -> PathBuf {
    dir.join(format!("generation-{slot:02}"))
}

fn read_generation(
    path: &Path,
    plan: &Plan,
    slot: u64,
) -> Result<(u64, ShardGenerations), FileError> {
    let bytes = read_bounded(path, plan.max_file_bytes())?;
    let (index, parts) = format::generation(&bytes, plan)?;
    if index % plan.slots() == slot {
        Ok((index, parts))
    } else {
        Err(FileError::Malformed)
    }
}

fn read_manifest(path: &Path, plan: &Plan) -> Result<Manifest, FileError> {
    format::manifest(
        &read_bounded(path, format::MAX_MANIFEST_BYTES)?,
        plan.fingerprint(),
    )
}

fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, FileError> {
    let len = fs::metadata(path).map_err(FileError::Io)?.len();
    if len > max {
        return Err(FileError::OtherSettings);
    }
    fs::read(path).map_err(FileError::Io)
}

/// The content of a file; an invalid file is logged and set aside, an absent one is ignored.
fn accept<T>(path: &Path, read: Result<T, FileError>, snapshot: &mut Snapshot) -> Option<T> {
    let cause = match read {
        Ok(read) => return Some(read),
        Err(FileError::Io(error)) if error.kind() == ErrorKind::NotFound => return None,
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
        "failed to load saved unique visits; visits of that time count as unique again"
    );
    None
}

/// Replaces a file so that after a power loss either the old or the new one is there, complete. Returns the size of
/// the new one.
fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<u64> {
    let temporary = path.with_extension("tmp");
    let written = File::create(&temporary).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()?;
        let len = file.metadata()?.len();
        fs::rename(&temporary, path)?;
        Ok(len)
    });
    // On a full disk a partial file would take room that the journal needs.
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
