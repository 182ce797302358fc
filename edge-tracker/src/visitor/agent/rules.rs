//! The rules that recognise agents: published lists of browsers and crawlers, and our own words where those have gaps.
//!
//! Invariant: nothing here caches agents, and no name is longer than [`MAX_NAME_BYTES`].

use super::hints::Hints;
use super::words::{Words, contains_any, name_in};
use super::yaml::{self, YamlEntry};
use regex_filtered::Regexes as Patterns;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use thiserror::Error;
use tracking_events::Device;
use ua_parser::{device, os, user_agent};

/// The longest name of a system or browser, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// The most patterns of each list; the published ones have a tenth of that.
const MAX_PATTERNS: usize = 10_000;
/// The browser list's name of every program.
const SPIDER: &str = "Spider";
/// The name that browsers of other brands use.
const CHROME: &str = "Chrome";
/// Comments of proxies and scripts that name no system.
const COMMENTS_WITHOUT_SYSTEM: [&str; 4] = ["", "compatible", "compatible;", "compatible; "];

/// The texts of the three files.
pub(super) struct Texts<'a> {
    pub(super) browsers: &'a str,
    pub(super) crawlers: &'a str,
    pub(super) words: &'a str,
}

/// The lists, compiled.
pub struct Rules {
    crawlers: Patterns,
    browsers: user_agent::Extractor<'static>,
    systems: os::Extractor<'static>,
    spiders: device::Extractor<'static>,
    words: Words,
}

/// The result of the rules for an agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recognition {
    pub(super) device: Device,
    pub(super) os: Box<str>,
    pub(super) browser: Box<str>,
    pub(super) kind: Kind,
}

/// The kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Person,
    MailProxy,
    Program,
}

/// Why a list can't be used.
#[derive(Debug, Error)]
pub enum RulesError {
    /// Not a list of browsers.
    #[error("the list of browsers: {0}; expected is regexes.yaml of uap-core")]
    Browsers(String),
    /// Not a list of crawlers.
    #[error("the list of crawlers: {0}; expected is crawler-user-agents.json")]
    Crawlers(String),
    /// Not our words.
    #[error("the list of words: {0}; expected are the keys of the shipped words.toml")]
    Words(#[from] toml::de::Error),
}

/// An entry of the crawler list; other keys are ignored.
#[derive(Deserialize)]
struct Crawler {
    pattern: String,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("crawlers", &self.crawlers.regexes().len())
            .finish_non_exhaustive()
    }
}

impl Rules {
    /// Compiles the lists.
    ///
    /// # Errors
    /// When one is not as expected.
    pub(super) fn new(texts: &Texts<'_>) -> Result<Self, RulesError> {
        let words: Words = toml::from_str(texts.words)?;
        let mut lists = yaml::lists(texts.browsers).map_err(RulesError::Browsers)?;
        let wrong = |error: ua_parser::Error| RulesError::Browsers(error.to_string());
        let built = |error: regex_filtered::BuildError| RulesError::Browsers(error.to_string());
        let parsed = |error: regex_filtered::ParseError| RulesError::Browsers(error.to_string());
        // Versions and phone makes are not stored; most patterns are for makes.
        let browsers = entries(&mut lists, "user_agent_parsers")?.into_iter();
        let browsers =
            user_agent::Builder::new().push_all(browsers.map(|mut it| user_agent::Parser {
                regex: take_key(&mut it, "regex").unwrap_or_default(),
                family_replacement: take_key(&mut it, "family_replacement"),
                ..Default::default()
            }));
        let systems = entries(&mut lists, "os_parsers")?.into_iter();
        let systems = os::Builder::new().push_all(systems.map(|mut it| os::Parser {
            regex: take_key(&mut it, "regex").unwrap_or_default(),
            os_replacement: take_key(&mut it, "os_replacement"),
            ..Default::default()
        }));
        let spiders = entries(&mut lists, "device_parsers")?.into_iter();
        let spiders =
            spiders.filter(|it| it.get("device_replacement").is_some_and(|it| it == SPIDER));
        let spiders = device::Builder::new().push_all(spiders.map(|mut it| {
            device::Parser {
                regex_flag: it
                    .contains_key("regex_flag")
                    .then_some(device::Flag::IgnoreCase),
                regex: take_key(&mut it, "regex").unwrap_or_default(),
                device_replacement: take_key(&mut it, "device_replacement"),
                ..Default::default()
            }
        }));
        Ok(Self {
            crawlers: crawlers(texts.crawlers, &words.ignored_crawlers)?,
            browsers: browsers.map_err(wrong)?.build().map_err(built)?,
            systems: systems.map_err(parsed)?.build().map_err(built)?,
            spiders: spiders.map_err(parsed)?.build().map_err(built)?,
            words,
        })
    }

    /// Recognises `agent` with its client hints.
    pub(super) fn recognise(&self, agent: &str, hints: &Hints<'_>) -> Recognition {
        let lower = agent.to_ascii_lowercase();
        if let Some(name) = name_in(&lower, &self.words.mail_proxies) {
            return Recognition {
                device: Device::Unknown,
                os: "".into(),
                browser: name.into(),
                kind: Kind::MailProxy,
            };
        }
        if let Some(name) = self.program(agent, &lower, hints) {
            return Recognition {
                device: Device::Bot,
                os: "".into(),
                browser: short(name).into(),
                kind: Kind::Program,
            };
        }
        let os = self.os(agent, &lower, hints);
        Recognition {
            device: self.device(&lower, &os, hints),
            browser: self.browser(agent, &lower, hints),
            os,
            kind: Kind::Person,
        }
    }

    /// The name of the program, if the agent is one.
    fn program<'a>(&'a self, agent: &'a str, lower: &str, hints: &Hints<'a>) -> Option<&'a str> {
        if matches!(agent.trim(), "" | "-") {
            return Some("");
        }
        if let Some((_, pattern)) = self.crawlers.matching(agent).next() {
            let found = pattern.find(agent).map_or("", |found| found.as_str());
            return Some(program_name(agent, found));
        }
        if hints.brand.is_some_and(|brand| brand.contains("Headless")) {
            return hints.brand;
        }
        let words = &self.words;
        if contains_any(lower, &words.televisions) || contains_any(lower, &words.consoles) {
            return None;
        }
        let is_program = contains_any(lower, &words.programs)
            || !contains_any(lower, &words.beginnings)
            || is_bare(lower)
            || (!is_phone(lower) && self.spiders.extract(agent).is_some());
        is_program.then(|| program_name(agent, ""))
    }

    /// The system's name, the same for all versions.
    fn os(&self, agent: &str, lower: &str, hints: &Hints<'_>) -> Box<str> {
        let words = &self.words;
        if let Some(name) = hints.platform.and_then(|name| words.platforms.get(name)) {
            return name.clone();
        }
        match self.systems.extract(agent) {
            Some(found) => match words.systems.get(&*found.os) {
                Some(name) => name.clone(),
                None if found.os.starts_with("Windows Phone") => "Windows Phone".into(),
                None if found.os.starts_with("Windows") => "Windows".into(),
                None => short(&found.os).into(),
            },
            None => name_in(lower, &words.system_words)
                .unwrap_or_default()
                .into(),
        }
    }

    /// The kind of device of something that is not a program.
    fn device(&self, lower: &str, os: &str, hints: &Hints<'_>) -> Device {
        let words = &self.words;
        let is_android = os == "Android";
        if contains_any(lower, &words.consoles) {
            return Device::Console;
        }
        if contains_any(lower, &words.televisions) {
            return Device::Tv;
        }
        match hints.mobile {
            Some(true) => return Device::Phone,
            Some(false) if is_android => return Device::Tablet,
            _ => {}
        }
        let is_phone = contains_any(lower, &words.phones);
        if contains_any(lower, &words.tablets) || (is_android && !is_phone) {
            return Device::Tablet;
        }
        for (device, applies) in [
            (Device::Appliance, contains_any(lower, &words.appliances)),
            (Device::Phone, is_phone || os == "iOS"),
            (Device::Desktop, contains_any(lower, &words.desktops)),
        ] {
            if applies {
                return device;
            }
        }
        Device::Unknown
    }

    /// The browser's name.
    fn browser(&self, agent: &str, lower: &str, hints: &Hints<'_>) -> Box<str> {
        let words = &self.words;
        if let Some(name) = name_in(lower, &words.in_app) {
            return name.into();
        }
        let name = self.listed_browser(agent).unwrap_or_else(|| {
            let named = if agent.starts_with("Mozilla/") {
                ""
            } else {
                first_product(agent)
            };
            short(named).into()
        });
        let brand = hints.brand.and_then(|brand| words.brands.get(brand));
        match brand {
            Some(brand) if *name == *CHROME => brand.clone(),
            _ => name,
        }
    }

    /// The browser's name in the list, where phone models such as `M bot 60` look like programs.
    fn listed_browser(&self, agent: &str) -> Option<Box<str>> {
        let family = match self.browsers.extract(agent)?.family {
            family if family.to_ascii_lowercase().contains("bot") => {
                let asked = without_comment(agent);
                self.browsers.extract(&asked)?.family.into_owned()
            }
            family => family.into_owned(),
        };
        let name = self.words.browsers.get(&family).cloned();
        Some(name.unwrap_or_else(|| short(&family).into()))
    }
}

/// The entries of one list of the file; entries without a pattern are none.
fn entries<'a>(
    lists: &mut BTreeMap<&str, Vec<YamlEntry<'a>>>,
    name: &str,
) -> Result<Vec<YamlEntry<'a>>, RulesError> {
    let entries = lists.remove(name).unwrap_or_default();
    let complete = entries.iter().all(|entry| entry.contains_key("regex"));
    if complete && (1..=MAX_PATTERNS).contains(&entries.len()) {
        return Ok(entries);
    }
    let problem = format!("{name} has 1 to {MAX_PATTERNS} entries, each with a regex");
    Err(RulesError::Browsers(problem))
}

/// The text of a key.
fn take_key(entry: &mut YamlEntry<'_>, key: &str) -> Option<Cow<'static, str>> {
    entry.remove(key).map(Cow::Owned)
}

fn crawlers(text: &str, ignored: &[String]) -> Result<Patterns, RulesError> {
    let wrong = |error: &dyn fmt::Display| RulesError::Crawlers(error.to_string());
    let list: Vec<Crawler> = serde_json::from_str(text).map_err(|error| wrong(&error))?;
    if !(1..=MAX_PATTERNS).contains(&list.len()) {
        return Err(wrong(&format_args!("it has 1 to {MAX_PATTERNS} patterns")));
    }
    let mut builder = regex_filtered::Builder::new();
    for Crawler { pattern } in list.iter().filter(|it| !ignored.contains(&it.pattern)) {
        let pushed = builder.push(pattern);
        builder = pushed.map_err(|error| wrong(&format_args!("{pattern}: {error}")))?;
    }
    builder.build().map_err(|error| wrong(&error))
}

/// Whether an agent without a link to its maker's page comes from a phone, whose make or model may look like a
/// program's name: `M bot 60`, `CUBOT`.
fn is_phone(lower: &str) -> bool {
    lower.contains("android") && !lower.contains("http")
}

/// The agent without its first comment, which holds system and model.
fn without_comment(agent: &str) -> String {
    let (before, rest) = agent.split_once('(').unwrap_or((agent, ""));
    let (_, after) = rest.split_once(')').unwrap_or_default();
    format!("{before}{after}")
}

fn is_bare(lower: &str) -> bool {
    lower.strip_prefix("mozilla/").is_some_and(|rest| {
        let comment = rest
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
            .trim();
        COMMENTS_WITHOUT_SYSTEM.contains(&comment.trim_matches(['(', ')']))
    })
}

/// The program's name: the match of the pattern, else the agent's first product.
fn program_name<'a>(agent: &'a str, found: &'a str) -> &'a str {
    let name = found.trim_matches(|c: char| !c.is_alphanumeric());
    let is_name =
        !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(['.', '/', '\\', '(']);
    if is_name {
        return name;
    }
    let agent = agent.trim();
    match agent.split_once("ompatible; ") {
        Some((_, rest)) => first_product(rest),
        None if agent == "-" || agent.starts_with("Mozilla/") => "",
        None => first_product(agent),
    }
}

/// The text before version, comment or the like.
fn first_product(text: &str) -> &str {
    let end = text
        .find(['/', ';', '(', ')', '+', ','])
        .unwrap_or(text.len());
    text[..end].trim()
}

fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}
