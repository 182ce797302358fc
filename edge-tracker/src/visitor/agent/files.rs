//! The rule files: their shipped copies, their content, and the detection of changes.

use super::rules::{Rules, RulesError, Texts};
use daemon::files::WatchedFiles;
use schemars::JsonSchema;
use serde::Deserialize;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use thiserror::Error;

/// The maximum size of a file; the published ones have a tenth of that.
const MAX_FILE_BYTES: u64 = 4 << 20;

static SHIPPED: LazyLock<Arc<Rules>> = LazyLock::new(|| {
    let rules = Rules::new(&Texts {
        browsers: include_str!("data/regexes.yaml"),
        crawlers: include_str!("data/crawlers.json"),
        words: include_str!("data/words.toml"),
    });
    Arc::new(rules.expect("tests compile the shipped rules"))
});

/// Files with rules for the recognition of agents; the shipped copy replaces an absent one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleFiles {
    /// Browsers and systems: `regexes.yaml` of uap-core. Default: the shipped copy.
    pub browsers: Option<PathBuf>,
    /// Crawlers: `crawler-user-agents.json`. Default: the shipped copy.
    pub crawlers: Option<PathBuf>,
    /// In-app browsers, mail proxies, devices, names and exceptions: `words.toml`. Default: the shipped copy.
    pub words: Option<PathBuf>,
}

/// Rules that can't be used.
#[derive(Debug, Error)]
pub enum RuleFilesError {
    /// A file can't be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// A file is malformed.
    #[error(transparent)]
    Rules(#[from] RulesError),
}

impl RuleFiles {
    /// The shipped rules, compiled once.
    pub(super) fn shipped() -> Arc<Rules> {
        SHIPPED.clone()
    }

    /// The files that replace a shipped copy.
    pub(crate) fn named(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.browsers, &mut self.crawlers, &mut self.words]
            .into_iter()
            .flatten()
    }

    /// Watches these files for changes.
    pub(super) fn watched(&self) -> WatchedFiles {
        WatchedFiles::new(
            [&self.browsers, &self.crawlers, &self.words]
                .into_iter()
                .flatten(),
        )
    }

    /// Compiles the rules of these files; takes some tenths of a second.
    ///
    /// # Errors
    /// When a file can't be read or used.
    pub fn load(&self) -> Result<Arc<Rules>, RuleFilesError> {
        if *self == Self::default() {
            return Ok(Self::shipped());
        }
        let browsers = text(self.browsers.as_deref(), include_str!("data/regexes.yaml"))?;
        let crawlers = text(self.crawlers.as_deref(), include_str!("data/crawlers.json"))?;
        let words = text(self.words.as_deref(), include_str!("data/words.toml"))?;
        let rules = Rules::new(&Texts {
            browsers: &browsers,
            crawlers: &crawlers,
            words: &words,
        })?;
        Ok(Arc::new(rules))
    }
}

fn text(path: Option<&Path>, shipped: &'static str) -> Result<Cow<'static, str>, RuleFilesError> {
    let Some(path) = path else {
        return Ok(shipped.into());
    };
    read(path)
        .map(Cow::Owned)
        .map_err(|cause| RuleFilesError::Io {
            path: path.into(),
            cause,
        })
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file = File::open(path)?.take(MAX_FILE_BYTES + 1);
    if file.read_to_string(&mut text)? as u64 > MAX_FILE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}
