//! The spool: the directory of block files and the checkpoint, and their recovery at the start.

use super::block::{self, Block};
use super::checkpoint::Checkpoint;
use super::damaged::set_aside;
use super::identity::Identity;
use super::sealed::{self, SealedError};
use crate::fence::SpoolState;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use storage::Storage;
use thiserror::Error;

/// Why the data directory can't be used.
#[derive(Debug, Error)]
#[error("failed to use {}: {cause}", path.display())]
pub(crate) struct DataDirError {
    pub(super) path: PathBuf,
    pub(super) cause: io::Error,
}

/// The state that an earlier run left.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) checkpoint: Checkpoint,
    /// Blocks that may not be inserted yet, in order.
    pub(crate) blocks: Vec<(String, Block)>,
    /// Damaged files, which were renamed.
    pub(crate) set_aside: Vec<PathBuf>,
}

/// The directory of blocks and the checkpoint.
#[derive(Debug)]
pub(crate) struct Spool<S> {
    storage: S,
    dir: PathBuf,
    identity: Identity,
    /// Whether an earlier run left blocks.
    has_blocks: bool,
    last_number: u64,
    /// The block inserted last. Its file stays until the next one is inserted, so that the previous checkpoint and the
    /// files together are complete.
    retained: Option<String>,
}

impl<S: Storage> Spool<S> {
    /// Opens or creates the directory, and reads its files.
    pub(crate) fn open(storage: S, spool_dir: &Path) -> Result<(Self, Recovered), DataDirError> {
        let dir = spool_dir.join("blocks");
        let failed = |cause| DataDirError {
            path: dir.clone(),
            cause,
        };
        storage::create_dir_all(&storage, &dir).map_err(failed)?;
        // A process that was killed between rename and sync left names that a power loss can still remove. Files that
        // are found are relied upon, so they must stay.
        storage.sync_dir(&dir).map_err(failed)?;
        let found = Checkpoint::read(&storage, &dir).map_err(failed)?;
        let mut recovered = Recovered {
            checkpoint: found.checkpoint,
            set_aside: found.set_aside,
            blocks: Vec::new(),
        };
        let identity = Identity::open(&storage, &dir, &mut recovered.set_aside).map_err(failed)?;
        read_blocks(&storage, &dir, &mut recovered).map_err(failed)?;
        let last = recovered.blocks.last().map_or(0, |(_, block)| block.number);
        let last_number = last.max(recovered.checkpoint.block);
        let mut spool = Self {
            storage,
            dir: dir.clone(),
            identity,
            has_blocks: false,
            last_number,
            retained: None,
        };
        spool.keep_uninserted(&mut recovered)?;
        spool.has_blocks = !recovered.blocks.is_empty();
        Ok((spool, recovered))
    }

    /// Keeps only the blocks that may not be inserted yet.
    fn keep_uninserted(&mut self, recovered: &mut Recovered) -> Result<(), DataDirError> {
        let taken = recovered.checkpoint.block;
        let lost = first_lost(&recovered.set_aside, taken);
        for (token, block) in std::mem::take(&mut recovered.blocks) {
            if block.number == taken {
                self.retained = Some(token);
            } else if block.number < taken {
                self.remove(&token)?;
            } else if block.number > lost {
                let path = self.path(&token);
                let aside = set_aside(&self.storage, &path)
                    .map_err(|cause| DataDirError { path, cause })?;
                recovered.set_aside.push(aside);
            } else {
                recovered.blocks.push((token, block));
            }
        }
        Ok(())
    }

    /// The state that decides whether the spool's blocks may be inserted.
    pub(crate) const fn spool_state(&self) -> SpoolState {
        SpoolState {
            spool: self.identity.spool,
            generation: self.identity.generation,
            has_blocks: self.has_blocks,
        }
    }

    /// Saves the generation that the spool claims, before ClickHouse has the claim.
    pub(crate) fn set_generation(&mut self, generation: u64) -> Result<(), DataDirError> {
        let identity = Identity {
            generation,
            ..self.identity
        };
        let written = identity.write(&self.storage, &self.dir);
        written.map_err(|cause| DataDirError {
            path: self.dir.clone(),
            cause,
        })?;
        self.identity = identity;
        Ok(())
    }

    /// The spool's directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// A number above those of all earlier blocks, also of earlier runs.
    pub(crate) fn next_number(&mut self) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        self.last_number = u64::try_from(now).unwrap_or(0).max(self.last_number + 1);
        self.last_number
    }

    /// Writes a block durably, and returns its token.
    pub(crate) fn write(&self, block: &Block) -> Result<String, DataDirError> {
        let failed = |cause| DataDirError {
            path: self.dir.clone(),
            cause,
        };
        let body = block.to_body().map_err(io::Error::other).map_err(failed)?;
        let token = block.token(&body);
        sealed::write(&self.storage, &self.path(&token), block::MAGIC, &body).map_err(failed)?;
        Ok(token)
    }

    /// Records that ClickHouse has the block, then deletes the file of the block before.
    pub(crate) fn taken(
        &mut self,
        token: &str,
        checkpoint: &Checkpoint,
    ) -> Result<(), DataDirError> {
        let failed = |cause| DataDirError {
            path: self.dir.clone(),
            cause,
        };
        checkpoint.write(&self.storage, &self.dir).map_err(failed)?;
        match self.retained.replace(token.to_owned()) {
            Some(before) if before != token => self.remove(&before),
            _ => Ok(()),
        }
    }

    fn remove(&self, token: &str) -> Result<(), DataDirError> {
        let path = self.path(token);
        match self.storage.remove(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(DataDirError { path, cause })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, token: &str) -> PathBuf {
        self.dir.join(format!("{token}.block"))
    }
}

fn read_blocks(storage: &impl Storage, dir: &Path, recovered: &mut Recovered) -> io::Result<()> {
    for path in storage.list(dir)? {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("block") => match read_block(storage, &path) {
                Ok(block) => recovered.blocks.push(block),
                Err(SealedError::Io(cause)) => return Err(cause),
                Err(SealedError::Damaged(_)) => {
                    recovered.set_aside.push(set_aside(storage, &path)?);
                }
            },
            // An incomplete file: its batches were never counted as received.
            Some("tmp") => storage.remove(&path)?,
            _ => {}
        }
    }
    recovered.blocks.sort_by_key(|(_, block)| block.number);
    Ok(())
}

fn read_block(storage: &impl Storage, path: &Path) -> Result<(String, Block), SealedError> {
    let (body, hash) = sealed::read(storage, path, block::MAGIC)?;
    let block = Block::from_body(body).ok_or(SealedError::Damaged("its content is not a block"))?;
    let token = block::token_of(block.number, hash);
    if path.file_stem().is_none_or(|stem| stem != token.as_str()) {
        return Err(SealedError::Damaged("its name is another block's"));
    }
    Ok((token, block))
}

/// The first damaged block above `taken`. Blocks after it are set aside too: none of them was inserted (blocks are
/// inserted in order), and edges must send the events before them again.
fn first_lost(set_aside: &[PathBuf], taken: u64) -> u64 {
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let (number, _) = name.strip_suffix(".block.corrupt")?.split_once('-')?;
        u64::from_str_radix(number, 16).ok()
    };
    set_aside
        .iter()
        .filter_map(number)
        .filter(|lost| *lost > taken)
        .min()
        .unwrap_or(u64::MAX)
}
