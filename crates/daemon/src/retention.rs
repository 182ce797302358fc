//! Deletes files that were set aside for inspection when they exceed the retention of personal data. The
//! daemon defines which files these are.

use crate::settings::{Bounded, HumanDuration};
use prometheus::{IntCounter, Registry};
use schemars::JsonSchema;
use serde::Deserialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::time::{MissedTickBehavior, interval};

const DAY_MS: u64 = 86_400_000;

/// Retention of copies of personal data.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// The age at which quarantined and set-aside files are deleted. The default equals ClickHouse's retention of
    /// addresses and user agents (the TTL of the columns `ip` and `user_agent`).
    pub set_aside: Bounded<HumanDuration, DAY_MS, { 3_650 * DAY_MS }>,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            set_aside: Bounded::new(HumanDuration(Duration::from_millis(90 * DAY_MS))),
        }
    }
}

const CHECK_INTERVAL: Duration = Duration::from_secs(3_600);
/// The maximum depth of searched directories, that of lanes.
const MAX_DEPTH: u32 = 3;

/// A directory tree with set-aside files.
#[derive(Debug, Clone)]
pub struct SetAsideFiles {
    /// The directory, which may be absent.
    pub dir: PathBuf,
    /// Whether a file of this name was set aside.
    pub matches: fn(&str) -> bool,
}

/// Deletes set-aside files that exceed an age.
#[derive(Debug)]
pub struct Retention {
    directories: Vec<SetAsideFiles>,
    max_age: Duration,
    expired: IntCounter,
}

impl Retention {
    /// Deletes files in `directories` whose last modification is older than `settings` allow, and
    /// registers the counter `<prefix>_expired_files_total`.
    ///
    /// # Errors
    /// When the registry already has a metric of that name.
    pub fn new(
        directories: Vec<SetAsideFiles>,
        settings: &RetentionSettings,
        prefix: &str,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let expired = IntCounter::new(
            format!("{prefix}_expired_files_total"),
            "Quarantined and set-aside files deleted because they were older than retention.set_aside.",
        )?;
        registry.register(Box::new(expired.clone()))?;
        Ok(Self {
            directories,
            max_age: settings.set_aside.get().0,
            expired,
        })
    }

    /// Checks at once and then every hour until the process ends.
    pub async fn run(self) {
        let mut ticks = interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut this = self;
        loop {
            ticks.tick().await;
            let checked = tokio::task::spawn_blocking(move || {
                this.expire(SystemTime::now());
                this
            });
            match checked.await {
                Ok(returned) => this = returned,
                Err(error) => {
                    tracing::error!(%error, "the check of set-aside files stopped; restart the process");
                    return;
                }
            }
        }
    }

    fn expire(&self, now: SystemTime) {
        for SetAsideFiles { dir, matches } in &self.directories {
            if let Err(error) = self.expire_in(dir, *matches, now, MAX_DEPTH) {
                tracing::warn!(directory = %dir.display(), %error, "failed to check set-aside files for their age");
            }
        }
    }

    fn expire_in(
        &self,
        dir: &Path,
        matches: fn(&str) -> bool,
        now: SystemTime,
        depth: u32,
    ) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            // Files may disappear concurrently; symbolic links are not followed.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() && depth > 0 {
                self.expire_in(&entry.path(), matches, now, depth - 1)?;
                continue;
            }
            let modified = metadata.modified()?;
            let age = now.duration_since(modified).unwrap_or_default();
            let is_set_aside = entry.file_name().to_str().is_some_and(matches);
            if metadata.is_file() && is_set_aside && age > self.max_age {
                self.delete(&entry.path(), age);
            }
        }
        Ok(())
    }

    fn delete(&self, path: &Path, age: Duration) {
        let days = age.as_secs() / 86_400;
        match fs::remove_file(path) {
            Ok(()) => {
                self.expired.inc();
                tracing::warn!(file = %path.display(), days, "deleted a set-aside file that was older than retention.set_aside");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(file = %path.display(), days, %error, "failed to delete a set-aside file that is older than retention.set_aside");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    const DAY: Duration = Duration::from_secs(86_400);

    fn write(path: &Path, age: Duration, now: SystemTime) {
        fs::create_dir_all(path.parent().expect("parent directory")).expect("created");
        let file = File::create(path).expect("created");
        file.set_modified(now - age).expect("time set");
    }

    #[test]
    fn set_aside_files_expire_by_their_age() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let now = SystemTime::now();
        let at = |name: &str| dir.path().join(name);
        for (name, days) in [
            ("lane-0/1.seg.corrupt", 91),
            ("lane-0/2.seg.corrupt", 89),
            ("lane-0/3.seg", 4_000),
            ("4.corrupt", 91),
        ] {
            write(&at(name), DAY * days, now);
        }
        std::os::unix::fs::symlink(at("lane-0/3.seg"), at("link.corrupt")).expect("linked");
        let directories = vec![
            SetAsideFiles {
                dir: dir.path().into(),
                matches: |name| name.ends_with(".corrupt"),
            },
            SetAsideFiles {
                dir: at("absent"),
                matches: |_| true,
            },
        ];
        let registry = Registry::new();
        let settings = RetentionSettings::default();
        let retention =
            Retention::new(directories, &settings, "test", &registry).expect("registered");
        retention.expire(now);
        assert_eq!(retention.expired.get(), 2);
        assert!(!at("lane-0/1.seg.corrupt").exists() && !at("4.corrupt").exists());
        assert!(at("lane-0/2.seg.corrupt").exists() && at("lane-0/3.seg").exists());
        // A clock that goes backwards deletes no file.
        retention.expire(SystemTime::UNIX_EPOCH);
        assert_eq!(retention.expired.get(), 2);
    }
}
