//! `advertisers.toml`: one table for each advertiser, handed to functions as JSON. What is in a table
//! only the postback function knows.

use super::variables::MAX_BYTES;
use daemon::files::{PrivateFileError, read_private};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Advertisers that can't be used.
#[derive(Debug, Error)]
pub enum AdvertisersError {
    /// The file can't be read, or others can.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It is not what it should be. Its text is not shown: it holds secrets.
    #[error("{}: {message}", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What would be right.
        message: String,
    },
}

/// Reads the file at `path`: a key-value store's entries, `NAME` for each `[NAME]` and `key/WORD` for
/// each of its `path_keys`.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, AdvertisersError> {
    let text = read_private(path, MAX_BYTES)?;
    let wrong = |message: String| AdvertisersError::Wrong {
        path: path.into(),
        message,
    };
    let tables: BTreeMap<String, toml::Table> = toml::from_str(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let line = text.get(..offset).unwrap_or_default().matches('\n').count() + 1;
        // Not the parser's own words: they may repeat a value.
        wrong(format!(
            "line {line}: a table of settings for each advertiser is expected"
        ))
    })?;
    let mut entries = BTreeMap::new();
    for (name, table) in &tables {
        for key in path_keys(table) {
            let alias = serde_json::json!({ "advertiser": name }).to_string();
            if entries.insert(format!("key/{key}"), alias.into()).is_some() {
                return Err(wrong(format!("[{name}] has a path key that another has")));
            }
        }
        let json = serde_json::to_vec(table);
        let json = json.map_err(|error| wrong(format!("[{name}] {error}")))?;
        entries.insert(name.clone(), json);
    }
    Ok(entries)
}

fn path_keys(table: &toml::Table) -> impl Iterator<Item = &str> {
    let keys = table.get("path_keys").and_then(toml::Value::as_array);
    keys.into_iter().flatten().filter_map(toml::Value::as_str)
}
