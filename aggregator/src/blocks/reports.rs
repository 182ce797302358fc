//! Reports that edges no longer keep and that are not evaluated yet: one file for each block that held
//! some, until their rows are in ClickHouse. What a report says is not known here.

use super::damaged::set_aside;
use super::sealed::{self, Magic, SealedError};
use super::store::StoreError;
use crate::report::Report;
use std::io;
use std::path::{Path, PathBuf};
use storage::Storage;

const MAGIC: Magic = *b"FZREPRT1";

const EXTENSION: &str = "reports";

/// What a file is charged with at least: the file system's block.
const MIN_FILE_BYTES: usize = 4096;

/// A file of reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingReports {
    /// The block's; tokens sort as their blocks do.
    pub(crate) token: String,
    pub(crate) reports: usize,
    /// On disk.
    pub(crate) bytes: usize,
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub(crate) struct RecoveredReports {
    /// In the order of their blocks.
    pub(crate) pending: Vec<PendingReports>,
    /// Damaged files that were renamed.
    pub(crate) set_aside: Vec<PathBuf>,
}

/// The directory of these files. Unlike block files they can't be had from edges again.
#[derive(Debug, Clone)]
pub(crate) struct ReportFiles<S> {
    storage: S,
    dir: PathBuf,
}

impl PendingReports {
    /// When the block was made, in microseconds since 1970; none if the name is not a block's.
    pub(crate) fn since(&self) -> Option<u64> {
        u64::from_str_radix(self.token.get(..16)?, 16).ok()
    }
}

impl<S: Storage> ReportFiles<S> {
    /// Opens or makes the directory and reads what is in it.
    pub(crate) fn open(
        storage: S,
        store_dir: &Path,
    ) -> Result<(Self, RecoveredReports), StoreError> {
        let files = Self {
            storage,
            dir: store_dir.join("reports"),
        };
        let recovered = files.recover().map_err(|cause| files.failed(cause))?;
        Ok((files, recovered))
    }

    fn recover(&self) -> io::Result<RecoveredReports> {
        storage::create_dir_all(&self.storage, &self.dir)?;
        // As for blocks: what is found is relied on, so a power cut must not take it any more.
        self.storage.sync_dir(&self.dir)?;
        let mut recovered = RecoveredReports::default();
        for path in self.storage.list(&self.dir)? {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(EXTENSION) => match self.read_file(&path) {
                    Ok((found, _)) => recovered.pending.push(found),
                    Err(SealedError::Io(cause)) => return Err(cause),
                    Err(SealedError::Damaged(_)) => {
                        recovered.set_aside.push(set_aside(&self.storage, &path)?);
                    }
                },
                // Begun and never renamed: its block was not acknowledged.
                Some("tmp") => self.storage.remove(&path)?,
                _ => {}
            }
        }
        recovered
            .pending
            .sort_by(|one, other| one.token.cmp(&other.token));
        Ok(recovered)
    }

    /// Keeps the reports of a block, durably; doing so again changes nothing.
    pub(crate) fn write(
        &self,
        token: &str,
        reports: &[Report],
    ) -> Result<PendingReports, StoreError> {
        let body = postcard::to_stdvec(reports).map_err(io::Error::other);
        let body = body.map_err(|cause| self.failed(cause))?;
        sealed::write(&self.storage, &self.path(token), MAGIC, &body)
            .map_err(|cause| self.failed(cause))?;
        Ok(pending(token.to_owned(), reports.len(), body.len()))
    }

    /// The reports of a block; none when the file is damaged, which is renamed then.
    pub(crate) fn read(&self, token: &str) -> Result<Option<Vec<Report>>, StoreError> {
        let path = self.path(token);
        let read = match self.read_file(&path) {
            Ok((_, reports)) => Ok(Some(reports)),
            Err(SealedError::Io(cause)) => Err(cause),
            Err(SealedError::Damaged(_)) => set_aside(&self.storage, &path).map(|_| None),
        };
        read.map_err(|cause| StoreError { path, cause })
    }

    /// Removes the reports of a block, durably: once its token is out of ClickHouse's window nothing else
    /// there would recognise its rows.
    pub(crate) fn remove(&self, token: &str) -> Result<(), StoreError> {
        let removed = match self.storage.remove(&self.path(token)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            _ => self.storage.sync_dir(&self.dir),
        };
        removed.map_err(|cause| self.failed(cause))
    }

    fn read_file(&self, path: &Path) -> Result<(PendingReports, Vec<Report>), SealedError> {
        let (body, _) = sealed::read(&self.storage, path, MAGIC)?;
        let reports: Vec<Report> = postcard::from_bytes(&body)
            .map_err(|_| SealedError::Damaged("its content is not reports"))?;
        let token = path.file_stem().and_then(|stem| stem.to_str());
        let token = token.ok_or(SealedError::Damaged("its name is no block's"))?;
        let found = pending(token.to_owned(), reports.len(), body.len());
        Ok((found, reports))
    }

    fn failed(&self, cause: io::Error) -> StoreError {
        StoreError {
            path: self.dir.clone(),
            cause,
        }
    }

    fn path(&self, token: &str) -> PathBuf {
        self.dir.join(format!("{token}.{EXTENSION}"))
    }
}

fn pending(token: String, reports: usize, body_bytes: usize) -> PendingReports {
    PendingReports {
        token,
        reports,
        bytes: body_bytes.max(MIN_FILE_BYTES),
    }
}
