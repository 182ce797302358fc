//! Settings of a host: the manifest, values of variables, threads, and the limits of each call.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The functions to load, and their limits.
#[derive(Clone)]
pub struct Settings {
    /// The path of `spin.toml`.
    pub manifest: PathBuf,
    /// Initial values of the application's variables; each must be declared in the manifest.
    pub variables: BTreeMap<String, String>,
    /// Initial values that the host provides for variables, where the application declares them. Values in
    /// `variables` take precedence.
    pub provided: BTreeMap<String, String>,
    /// The directory of compiled code.
    pub cache_dir: PathBuf,
    /// The number of foreground threads; there are as many background threads.
    pub threads: usize,
    /// The limits of each call.
    pub limits: Limits,
    /// Functions whose instances are reused, for one call at a time: a call sees the memory of earlier calls.
    pub reuse: BTreeSet<String>,
}

/// The limits of a call.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory of an instance, in bytes.
    pub memory_bytes: usize,
    /// Processor time.
    pub cpu: Duration,
    /// Time from the call to the end of the response. Reading the request's body before may take as long.
    pub wall: Duration,
    /// Length of a request's body, in bytes.
    pub request_bytes: usize,
    /// Length of a response's body, in bytes.
    pub response_bytes: usize,
    /// Concurrent calls, over all functions.
    pub concurrency: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 32 << 20,
            cpu: Duration::from_millis(100),
            wall: Duration::from_secs(5),
            request_bytes: 128 << 10,
            response_bytes: 1 << 20,
            concurrency: 128,
        }
    }
}

/// Omits values of variables: they may be secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("manifest", &self.manifest)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_show_no_values_of_variables() {
        let secret = BTreeMap::from([("key".to_owned(), "s3cret".to_owned())]);
        let settings = Settings {
            manifest: "spin.toml".into(),
            variables: secret.clone(),
            provided: secret,
            cache_dir: "cache".into(),
            threads: 1,
            limits: Limits::default(),
            reuse: BTreeSet::new(),
        };
        let shown = format!("{settings:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
