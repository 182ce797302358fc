//! A separate clock for selected processes: libfaketime intercepts their calls to the system clock.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Path of libfaketime, by distribution.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// Where libfaketime keeps the state that processes share.
const SHARED: &str = "/dev/shm";

/// A file with the clock's offset in seconds.
#[derive(Debug)]
pub(super) struct Clock {
    file: PathBuf,
    library: &'static str,
}

impl Clock {
    /// Creates a clock without offset.
    ///
    /// # Errors
    /// If libfaketime is not installed.
    pub(super) fn make(file: PathBuf) -> anyhow::Result<Self> {
        let library = LIBRARIES
            .into_iter()
            .find(|path| Path::new(path).is_file())
            .context(
                "libfaketime is needed to set processes' clocks; install it: apt-get install faketime",
            )?;
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir)?;
        }
        let clock = Self { file, library };
        clock.set(0)?;
        Ok(clock)
    }

    /// Environment variables that give a process this clock.
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

    /// Sets the offset in one step.
    pub(super) fn set(&self, seconds: i64) -> anyhow::Result<()> {
        let copy = self.file.with_extension("tmp");
        fs::write(&copy, format!("{seconds:+}\n"))?;
        Ok(fs::rename(copy, &self.file)?)
    }

    /// Removes libfaketime's files of exited processes: a new process with the same id would fail to start.
    pub(super) fn remove_stale() {
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
        Self::remove_stale();
    }
}
