//! A clock for some processes alone: libfaketime puts itself between them and the system's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Where libfaketime lies, by distribution.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// Where it keeps what processes share.
const SHARED: &str = "/dev/shm";

/// A file that says how far ahead the clock is.
#[derive(Debug)]
pub(super) struct Clock {
    file: PathBuf,
    library: &'static str,
}

impl Clock {
    /// A clock that is right.
    ///
    /// # Errors
    /// Without libfaketime.
    pub(super) fn make(file: PathBuf) -> anyhow::Result<Self> {
        let library = LIBRARIES
            .into_iter()
            .find(|path| Path::new(path).is_file())
            .context(
                "libfaketime is needed to set processes' clocks; install it: apt-get install faketime",
            )?;
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let clock = Self { file, library };
        clock.set(0)?;
        Ok(clock)
    }

    /// What gives a process this clock.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let settings = [
            ("LD_PRELOAD", self.library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_RESET", "1".to_owned()),
        ];
        settings
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    /// Puts it so many seconds ahead, in one step.
    pub(super) fn set(&self, seconds: i64) -> anyhow::Result<()> {
        let beside = self.file.with_extension("tmp");
        fs::write(&beside, format!("{seconds:+}\n"))?;
        Ok(fs::rename(beside, &self.file)?)
    }

    /// Removes what libfaketime left of processes that are gone: the next one of that number would refuse to
    /// start.
    pub(super) fn sweep() {
        for entry in fs::read_dir(SHARED).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let of = ["faketime_shm_", "sem.faketime_sem_"]
                .into_iter()
                .find_map(|prefix| name.strip_prefix(prefix));
            if of.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        Self::sweep();
    }
}
