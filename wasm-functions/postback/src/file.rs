//! Parses `advertisers.toml`, one table per advertiser, to the entries of the function's key-value store. Edge and
//! aggregator read the file; a component never does.

mod sections;

use crate::advertiser::Advertiser;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// An error in the file.
pub struct Mistake {
    /// Byte offset in the text.
    pub offset: usize,
    /// The error and its correction. The parser's own message may repeat a secret value.
    pub message: String,
}

/// Without the message.
impl fmt::Debug for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mistake")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// Parses the file to the store's entries: `NAME` for each table `[NAME]` and `key/WORD` for each of its
/// `path_keys`. The function accepts each of these entries.
///
/// # Errors
/// All errors in the text, by position.
pub fn entries(text: &str) -> Result<BTreeMap<String, Vec<u8>>, Vec<Mistake>> {
    let (mut mistakes, text) = sections::without_slips(text);
    let (file, _) = DeTable::parse_recoverable(&text);
    let mut entries = BTreeMap::new();
    for (name, value) in file.get_ref() {
        mistakes.extend(mistakes_of(&name.span(), value));
        let added = add(&mut entries, name.get_ref(), value);
        mistakes.extend(added.err().map(|message| at(&name.span(), message)));
    }
    mistakes.sort_by_key(|mistake| mistake.offset);
    if mistakes.is_empty() {
        Ok(entries)
    } else {
        Err(mistakes)
    }
}

fn at(span: &Range<usize>, message: impl Into<String>) -> Mistake {
    Mistake {
        offset: span.start,
        message: message.into(),
    }
}

fn of_parser(error: &Error, otherwise: &Range<usize>) -> Mistake {
    at(error.span().as_ref().unwrap_or(otherwise), error.message())
}

/// The errors in an advertiser's table.
fn mistakes_of(name: &Range<usize>, value: &Spanned<DeValue<'_>>) -> Vec<Mistake> {
    let advertiser = match Advertiser::deserialize(value.clone().into_deserializer()) {
        Ok(advertiser) => advertiser,
        Err(error) => return vec![of_parser(&error, name)],
    };
    let place = |message: &str| key_span(value, message).unwrap_or_else(|| name.clone());
    let mistakes = advertiser.mistakes().into_iter();
    mistakes
        .map(|message| at(&place(&message), message))
        .collect()
}

/// Position of the key that a message starts with.
fn key_span(value: &Spanned<DeValue<'_>>, message: &str) -> Option<Range<usize>> {
    let key = message.split([' ', ':']).next()?;
    let mut settings = value.get_ref().as_table()?.iter();
    let (found, _) = settings.find(|(name, _)| name.get_ref() == key)?;
    Some(found.span())
}

/// Adds the entries of a table.
fn add(
    entries: &mut BTreeMap<String, Vec<u8>>,
    name: &str,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), String> {
    // Other errors in the table have been found already.
    let Ok(table) = toml::Table::deserialize(value.clone().into_deserializer()) else {
        return Ok(());
    };
    for key in path_keys(&table) {
        let alias = serde_json::json!({ "advertiser": name }).to_string();
        if entries.insert(format!("key/{key}"), alias.into()).is_some() {
            return Err(format!("[{name}] has the path key of another entry"));
        }
    }
    let json = serde_json::to_vec(&table).map_err(|error| format!("[{name}] {error}"))?;
    if entries.insert(name.to_owned(), json).is_some() {
        return Err(format!("[{name}] has the name of a path key"));
    }
    Ok(())
}

fn path_keys(table: &toml::Table) -> impl Iterator<Item = &str> {
    let keys = table.get("path_keys").and_then(toml::Value::as_array);
    keys.into_iter().flatten().filter_map(toml::Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID_ENTRY: &str =
        "dialect = \"generic\"\nauth = [{ secret_path = \"0123456789abcdef\" }]\n";

    /// Line numbers from 1 with their errors.
    fn mistakes(text: &str) -> Vec<(usize, String)> {
        let found = entries(text).err().unwrap_or_default().into_iter();
        let line = |offset: usize| text[..offset].matches('\n').count() + 1;
        found.map(|it| (line(it.offset), it.message)).collect()
    }

    #[test]
    fn sound_tables_become_entries_with_path_keys() {
        let text = format!("[b]\n{VALID_ENTRY}[a]\n{VALID_ENTRY}path_keys = [\"k\", \"l\"]\n");
        let entries = entries(&text).map_err(|_| "mistakes").expect("valid");
        let names: Vec<&str> = entries.keys().map(String::as_str).collect();
        assert_eq!(names, ["a", "b", "key/k", "key/l"]);
        assert!(Advertiser::read(&entries["a"]).is_ok());
    }

    #[test]
    fn each_mistake_names_its_line() {
        let short = VALID_ENTRY.replace("0123456789abcdef", "0123456789abcde");
        for (text, line, wrong) in [
            (
                VALID_ENTRY.replace("generic", "genric"),
                2,
                "unknown variant `genric`, expected one of",
            ),
            (
                VALID_ENTRY.replace("dialect", "dialekt"),
                2,
                "unknown field `dialekt`, expected one of",
            ),
            ("dialect = \"generic\"\n".into(), 1, "missing field `auth`"),
            (
                "dialect = \"generic\"\nauth = []\n".into(),
                3,
                "auth is empty",
            ),
            (
                format!("{VALID_ENTRY}currency = \"DOGE\"\n"),
                4,
                "currency is not one of ISO 4217",
            ),
            (
                "dialect = \"generic\"\nauth = [\n  { addresses = [\"203.0.113.0/33\"] },\n]\n"
                    .into(),
                4,
                "invalid IP address syntax",
            ),
            (short, 3, "auth: secrets and keys have at least 16 bytes"),
            (
                format!("{VALID_ENTRY}max_click_age_days = 0\n"),
                4,
                "max_click_age_days is 1 to 3650",
            ),
            (
                format!("{VALID_ENTRY}max_payout = {{ USD = \"x\" }}\n"),
                4,
                "max_payout",
            ),
            (
                format!("{VALID_ENTRY}answer = \"a\\nb\"\n"),
                4,
                "answer is too long",
            ),
            (
                format!("{VALID_ENTRY}status_words = {{ paid = [] }}\n"),
                4,
                "status_words:",
            ),
            (
                format!("{VALID_ENTRY}event_words = {{ paid = [] }}\n"),
                4,
                "event_words:",
            ),
            (format!("{VALID_ENTRY}answer = \n"), 4, ""),
        ] {
            let text = format!("[acme]\n{text}");
            let found = mistakes(&text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert_eq!(found[0].0, line, "{text}: {found:?}");
            assert!(found[0].1.contains(wrong), "{text}: {found:?}");
        }
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        let text = format!(
            "[a]\n{VALID_ENTRY}currency = \"DOGE\"\nmax_click_age_days = 0\n[b]\ndialekt = 1\n[c]\n{VALID_ENTRY}"
        );
        let lines: Vec<usize> = mistakes(&text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [4, 5, 7]);
    }

    #[test]
    fn syntax_error_hides_no_other_error() {
        let doge = format!("{VALID_ENTRY}currency = \"DOGE\"\n");
        for (text, expected) in [
            // A missing value, an unclosed array and text, an unclosed header.
            (
                format!(
                    "[a]\ndialect = \n[b]\n{doge}[c]\nauth = [\n[d]\nanswer = \"ü\n[e\n{VALID_ENTRY}[f]\n{VALID_ENTRY}"
                ),
                &[2, 6, 8, 10, 11][..],
            ),
            // The rest of the table is neither missed nor validated without it.
            (
                format!("[a]\ndialect = \n[b]\n{doge}[a.max_payout]\nUSD = \"1\"\n"),
                &[2, 6],
            ),
            (
                format!("[a]\n{doge}[a.max_payout]\nUSD = \n[b]\n{doge}"),
                &[6, 10],
            ),
            // Only visible in the whole text.
            (
                format!("[a]\n{VALID_ENTRY}[b]\n{doge}[a]\n{VALID_ENTRY}[c]\nauth = 1\n"),
                &[7, 8, 12],
            ),
            (format!("dialect = \n[b]\n{doge}"), &[1, 5]),
        ] {
            let found = mistakes(&text);
            let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, expected, "{text}: {found:?}");
        }
    }

    #[test]
    fn syntax_errors_are_limited() {
        let text: String = (0..100_000).map(|it| format!("[{it}]\n=\n")).collect();
        assert_eq!(mistakes(&text).len(), 64);
    }

    #[test]
    fn path_keys_and_names_are_unique() {
        let keyed = format!("{VALID_ENTRY}path_keys = [\"k\"]\n");
        for (text, line, wrong) in [
            (
                format!("[a]\n{keyed}[b]\n{keyed}"),
                5,
                "[b] has the path key of another entry",
            ),
            (
                format!("[a]\n{keyed}[\"key/k\"]\n{VALID_ENTRY}"),
                5,
                "[key/k] has the name of a path key",
            ),
            (
                format!("[z]\n{keyed}[\"key/k\"]\n{VALID_ENTRY}"),
                1,
                "[z] has the path key of another entry",
            ),
        ] {
            let found = mistakes(&text);
            assert!(found[0].1.starts_with(wrong), "{text}: {found:?}");
            assert_eq!(found[0].0, line, "{text}");
        }
    }
}
