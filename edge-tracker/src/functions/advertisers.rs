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

/// Reads the file at `path`: the entries of its text.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, AdvertisersError> {
    entries(&read_private(path, MAX_BYTES)?).map_err(|message| AdvertisersError::Wrong {
        path: path.into(),
        message,
    })
}

/// A key-value store's entries: `NAME` for each table `[NAME]` and `key/WORD` for each of its `path_keys`.
///
/// # Errors
/// What would be right, when the text is none of such tables. Values are not in it: they may be secrets.
pub fn entries(text: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let tables: BTreeMap<String, toml::Table> = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let line = text.get(..offset).unwrap_or_default().matches('\n').count() + 1;
        // Not the parser's own words: they may repeat a value.
        format!("line {line}: a table of settings for each advertiser is expected")
    })?;
    let mut entries = BTreeMap::new();
    for (name, table) in &tables {
        for key in path_keys(table) {
            let alias = serde_json::json!({ "advertiser": name }).to_string();
            if entries.insert(format!("key/{key}"), alias.into()).is_some() {
                return Err(format!("[{name}] has a path key that another has"));
            }
        }
        let json = serde_json::to_vec(table);
        let json = json.map_err(|error| format!("[{name}] {error}"))?;
        if entries.insert(name.clone(), json).is_some() {
            return Err(format!("[{name}] is what a path key is called"));
        }
    }
    Ok(entries)
}

fn path_keys(table: &toml::Table) -> impl Iterator<Item = &str> {
    let keys = table.get("path_keys").and_then(toml::Value::as_array);
    keys.into_iter().flatten().filter_map(toml::Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_takes_the_place_of_another() {
        for (text, wrong) in [
            ("[a]\npath_keys = [\"k\"]\n[b]\n", ""),
            ("[a]\npath_keys = [\"k\"]\n[b]\npath_keys = [\"k\"]\n", "[b] has a path key"),
            ("[a]\npath_keys = [\"k\"]\n[\"key/k\"]\n", "[key/k] is what"),
            ("[z]\npath_keys = [\"k\"]\n[\"key/k\"]\n", "[z] has a path key"),
            ("[a]\nauth = S3CRET\n", "line 2: a table"),
        ] {
            let said = entries(text).map_or_else(|wrong| wrong, |_| String::new());
            assert!(said.starts_with(wrong) && !said.contains("S3CRET"), "{text}: {said}");
            assert_eq!(said.is_empty(), wrong.is_empty(), "{text}: {said}");
        }
    }
}
