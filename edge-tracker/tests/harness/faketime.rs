//! A system clock for one process: libfaketime intercepts its calls for the time.

use std::path::{Path, PathBuf};

/// The paths of libfaketime, by distribution.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// A file with the offset of the clock.
pub struct FakeClock {
    file: PathBuf,
    library: &'static str,
}

impl FakeClock {
    /// A clock that is `seconds` ahead; `None`, with a message, without libfaketime.
    pub fn make(file: &Path, seconds: i64) -> Option<Self> {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).is_file());
        let Some(library) = library else {
            eprintln!("skipped: libfaketime is needed; install it: apt-get install faketime");
            return None;
        };
        let clock = Self {
            file: file.into(),
            library,
        };
        clock.set(seconds);
        Some(clock)
    }

    /// The command prefix that sets this clock.
    pub fn words(&self) -> Vec<String> {
        vec![
            "env".into(),
            format!("LD_PRELOAD={}", self.library),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file.display()),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            "FAKETIME_NO_CACHE=1".into(),
            "FAKETIME_DONT_RESET=1".into(),
        ]
    }

    /// Sets the clock `seconds` ahead, in one step.
    pub fn set(&self, seconds: i64) {
        let aside = self.file.with_extension("tmp");
        std::fs::write(&aside, format!("{seconds:+}\n")).expect("written");
        std::fs::rename(aside, &self.file).expect("renamed");
    }
}
