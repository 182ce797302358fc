//! Files of reports that edges no longer keep and that are not evaluated yet: one for each block with reports, until
//! their rows are inserted. Invariant: nothing here interprets reports.

use super::damaged::set_aside;
use super::sealed::{self, Magic, SealedError};
use super::spool::DataDirError;
use crate::report::Report;
use std::io;
use std::path::{Path, PathBuf};
use storage::Storage;

const MAGIC: Magic = *b"FZREPRT1";

const EXTENSION: &str = "reports";

/// The least charge of a file: one block of the file system.
const MIN_FILE_BYTES: usize = 4096;

/// A file of reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingReports {
    /// The block's token; tokens sort as their blocks do.
    pub(crate) token: String,
    pub(crate) reports: usize,
    /// The charged size on disk.
    pub(crate) bytes: usize,
}

/// The files that an earlier run left.
#[derive(Debug, Default)]
pub(crate) struct RecoveredReports {
    /// In the order of their blocks.
    pub(crate) pending: Vec<PendingReports>,
    /// Damaged files, which were renamed.
    pub(crate) set_aside: Vec<PathBuf>,
}

/// The directory of report files. Unlike block files, edges can't send their content again.
#[derive(Debug, Clone)]
pub(crate) struct ReportFiles<S> {
    storage: S,
    dir: PathBuf,
}

impl PendingReports {
    /// The time of the block, in microseconds since 1970; `None` if the name is not a token.
    pub(crate) fn since(&self) -> Option<u64> {
        u64::from_str_radix(self.token.get(..16)?, 16).ok()
    }
}

impl<S: Storage> ReportFiles<S> {
    /// Opens or creates the directory, and reads its files.
    pub(crate) fn open(
        storage: S,
        store_dir: &Path,
    ) -> Result<(Self, RecoveredReports), DataDirError> {
        let files = Self {
            storage,
            dir: store_dir.join("reports"),
        };
        let recovered = files.recover().map_err(|cause| files.failed(cause))?;
        Ok((files, recovered))
    }

    fn recover(&self) -> io::Result<RecoveredReports> {
        storage::create_dir_all(&self.storage, &self.dir)?;
        // As for blocks: files that were found are relied upon, so a power loss must not remove them later.
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
                // An incomplete file: its block was not acknowledged.
                Some("tmp") => self.storage.remove(&path)?,
                _ => {}
            }
        }
        recovered
            .pending
            .sort_by(|one, other| one.token.cmp(&other.token));
        Ok(recovered)
    }

    /// Stores the reports of a block durably. Repeating it changes nothing.
    pub(crate) fn write(
        &self,
        token: &str,
        reports: &[Report],
    ) -> Result<PendingReports, DataDirError> {
        let body = postcard::to_stdvec(reports).map_err(io::Error::other);
        let body = body.map_err(|cause| self.failed(cause))?;
        sealed::write(&self.storage, &self.path(token), MAGIC, &body)
            .map_err(|cause| self.failed(cause))?;
        Ok(pending(token.to_owned(), reports.len(), body.len()))
    }

    /// The reports of a block; `None` if the file is damaged, which is then renamed.
    pub(crate) fn read(&self, token: &str) -> Result<Option<Vec<Report>>, DataDirError> {
        let path = self.path(token);
        let read = match self.read_file(&path) {
            Ok((_, reports)) => Ok(Some(reports)),
            Err(SealedError::Io(cause)) => Err(cause),
            Err(SealedError::Damaged(_)) => set_aside(&self.storage, &path).map(|_| None),
        };
        read.map_err(|cause| DataDirError { path, cause })
    }

    /// Removes the reports of a block durably. Later, after ClickHouse forgot the token, a repetition would insert the
    /// rows twice.
    pub(crate) fn remove(&self, token: &str) -> Result<(), DataDirError> {
        let removed = match self.storage.remove(&self.path(token)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            _ => self.storage.sync_dir(&self.dir),
        };
        removed.map_err(|cause| self.failed(cause))
    }

    fn read_file(&self, path: &Path) -> Result<(PendingReports, Vec<Report>), SealedError> {
        let (body, _) = sealed::read(&self.storage, path, MAGIC)?;
        let reports: Vec<Report> = postcard::from_bytes(&body)
            .map_err(|_| SealedError::Damaged("its content is not a list of reports"))?;
        let token = path.file_stem().and_then(|stem| stem.to_str());
        let token = token.ok_or(SealedError::Damaged("its name is not a block's token"))?;
        let found = pending(token.to_owned(), reports.len(), body.len());
        Ok((found, reports))
    }

    fn failed(&self, cause: io::Error) -> DataDirError {
        DataDirError {
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
