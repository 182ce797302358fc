//! `advertisers.toml`: one table for each advertiser, as the entries of the key-value store that the function
//! finds them in. Edge and aggregator read it; a component never does.

use crate::advertiser::{SHORT_SECRET, has_short_secret};
use std::collections::BTreeMap;

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
        if has_short_secret(&json) {
            return Err(format!("[{name}] {SHORT_SECRET}"));
        }
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
    fn wrong_files_are_refused_without_their_values() {
        for (text, wrong) in [
            ("[a]\npath_keys = [\"k\"]\n[b]\n", ""),
            (
                "[a]\npath_keys = [\"k\"]\n[b]\npath_keys = [\"k\"]\n",
                "[b] has a path key",
            ),
            ("[a]\npath_keys = [\"k\"]\n[\"key/k\"]\n", "[key/k] is what"),
            (
                "[z]\npath_keys = [\"k\"]\n[\"key/k\"]\n",
                "[z] has a path key",
            ),
            ("[a]\nauth = S3CRET\n", "line 2: a table"),
            ("[a]\nauth = [{ secret_path = \"a-S3CRET-of-15-b\" }]\n", ""),
            (
                "[a]\nauth = [{ secret_path = \"S3CRET-of-15-by\" }]\n",
                "[a] auth: secrets and keys have at least 16 bytes",
            ),
        ] {
            let said = entries(text).map_or_else(|wrong| wrong, |_| String::new());
            assert!(
                said.starts_with(wrong) && !said.contains("S3CRET"),
                "{text}: {said}"
            );
            assert_eq!(said.is_empty(), wrong.is_empty(), "{text}: {said}");
        }
    }
}
