//! Words and names that the published lists of browsers and crawlers lack.

use serde::Deserialize;
use std::collections::HashMap;

/// The content of `words.toml`. Words are in lower case and match anywhere in an agent in lower case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Words {
    /// Patterns of the crawler list that match people.
    pub(super) ignored_crawlers: Vec<String>,
    /// Words of programs.
    pub(super) programs: Vec<String>,
    /// Prefixes of browsers' agents.
    pub(super) beginnings: Vec<String>,
    /// Words of mail services' image proxies, with their names.
    pub(super) mail_proxies: Vec<(String, Box<str>)>,
    /// Words of applications with a browser of their own, with their names.
    pub(super) in_app: Vec<(String, Box<str>)>,
    /// Words of systems that the list of systems lacks, with their names.
    pub(super) system_words: Vec<(String, Box<str>)>,
    pub(super) consoles: Vec<String>,
    pub(super) televisions: Vec<String>,
    pub(super) tablets: Vec<String>,
    pub(super) phones: Vec<String>,
    pub(super) appliances: Vec<String>,
    pub(super) desktops: Vec<String>,
    /// Names of systems in the browser list, and as they are stored.
    pub(super) systems: HashMap<String, Box<str>>,
    /// Names of browsers in the browser list, and as they are stored.
    pub(super) browsers: HashMap<String, Box<str>>,
    /// Brands of `Sec-CH-UA`.
    pub(super) brands: HashMap<String, Box<str>>,
    /// Values of `Sec-CH-UA-Platform`.
    pub(super) platforms: HashMap<String, Box<str>>,
}

pub(super) fn contains_any(lower: &str, words: &[String]) -> bool {
    words.iter().any(|word| lower.contains(&**word))
}

/// The name of the first word that `lower` contains.
pub(super) fn name_in<'w>(lower: &str, words: &'w [(String, Box<str>)]) -> Option<&'w str> {
    let (_, name) = words.iter().find(|(word, _)| lower.contains(&**word))?;
    Some(name)
}
