//! Settings in TOML files. Unknown keys and invalid values are rejected with file, line and remedy.
//! Possible secrets are never shown: values of keys that sound secret, and of misspelt keys.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// The maximum length of a settings or links file.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A file that can't be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("{}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The file's content is invalid.
    #[error("{}:{line}: {message}\n    {text}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The line's text, without possible secrets.
        text: String,
        /// The error and its remedy.
        message: String,
    },
}

/// Reads `path` as TOML into `T`.
///
/// # Errors
/// When the file can't be read, is not TOML or is not a `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, SettingsError> {
    let unreadable = |cause| SettingsError::Unreadable {
        path: path.into(),
        cause,
    };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_FILE_BYTES {
        return Err(unreadable(std::io::Error::other(format!(
            "the file has {length} bytes, the maximum is {MAX_FILE_BYTES}"
        ))));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(path, &text)
}

/// Parses `text`, the content of the file at `path`, as TOML into `T`.
///
/// # Errors
/// When it is not TOML or is not a `T`.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, SettingsError> {
    toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => error_at(path, text, span.start, &in_words(error.message())),
        // It is unknown which key's value the message contains.
        None => error_at(path, text, 0, &without_values(error.message())),
    })
}

/// Parts of the parser's messages that name Rust's types, with what would be right.
const IN_WORDS: [(&str, &str); 3] = [
    (
        "invalid socket address syntax",
        "not an address: write an IP address and a port, such as 127.0.0.1:8080",
    ),
    (
        "expected a nonzero u16",
        "expected a number from 1 to 65535",
    ),
    ("expected u16", "expected a number from 0 to 65535"),
];

fn in_words(message: &str) -> String {
    let replaced = |text: String, (of_rust, words): &(&str, &str)| text.replace(of_rust, words);
    IN_WORDS.iter().fold(message.to_owned(), replaced)
}

/// The byte offset of `error` in its text; 0 when it is unknown.
#[must_use]
pub fn offset_of(error: &toml::de::Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// The line, from 1, of byte `offset` in `text`.
#[must_use]
pub fn line_at(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

/// Settings with paths.
pub trait HasPaths {
    /// Every path in the settings.
    fn paths(&mut self) -> Vec<&mut PathBuf>;
}

/// Reads `path` as [`load`] does, and resolves each relative path against the file's directory, so that
/// the settings name the same files in every working directory.
///
/// # Errors
/// When the file can't be read, is not TOML or is not a `T`.
pub fn load_resolved<T: DeserializeOwned + HasPaths>(path: &Path) -> Result<T, SettingsError> {
    let mut settings: T = load(path)?;
    let directory = directory_of(path)?;
    for named in settings.paths() {
        *named = directory.join(&*named);
    }
    Ok(settings)
}

/// The absolute path of the directory of the file at `path`. Symbolic links are not followed: a mount
/// with a linked settings file has links to its other files, too.
///
/// # Errors
/// When the current directory is unknown.
pub fn directory_of(path: &Path) -> Result<PathBuf, SettingsError> {
    let absolute = std::path::absolute(path).map_err(|cause| SettingsError::Unreadable {
        path: path.into(),
        cause,
    })?;
    Ok(absolute.parent().unwrap_or(&absolute).to_owned())
}

/// The error at byte `offset` of a file's `text`.
#[must_use]
pub fn error_at(path: &Path, text: &str, offset: usize, message: &str) -> SettingsError {
    let before = text.get(..offset).unwrap_or(text);
    let line = line_at(text, offset);
    let written = text.lines().nth(line - 1).unwrap_or_default().trim();
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let (shown, message) = if may_be_secret(&before[..start], written, message) {
        (redacted_line(written), without_values(message))
    } else {
        (written.to_owned(), message.to_owned())
    };
    SettingsError::Invalid {
        path: path.into(),
        line,
        text: shown.chars().take(120).collect(),
        message,
    }
}

/// As [`error_at`], for a secret file: only the line's key is shown.
#[must_use]
pub fn redacted_error_at(path: &Path, text: &str, offset: usize, message: &str) -> SettingsError {
    match error_at(path, text, offset, message) {
        SettingsError::Invalid {
            path, line, text, ..
        } => SettingsError::Invalid {
            path,
            line,
            text: redacted_line(&text),
            message: without_values(message),
        },
        unreadable @ SettingsError::Unreadable { .. } => unreadable,
    }
}

/// The offset of the line whose key is the first word of `message`; 0 without such a line.
#[must_use]
pub fn offset_of_key(text: &str, message: &str) -> usize {
    let key = message.split([' ', ':']).next().unwrap_or_default();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if line.split('=').next().is_some_and(|it| it.trim() == key) {
            return offset;
        }
        offset += line.len();
    }
    0
}

/// The errors of one or several files, one per line.
#[derive(Debug, Error)]
#[error("{}", join_lines(.0))]
pub struct SettingsErrors(pub Vec<SettingsError>);

fn join_lines(errors: &[SettingsError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Parts of key names whose values are not shown.
const SECRET_WORDS: [&str; 12] = [
    "auth", "cert", "cred", "dsn", "hmac", "key", "pass", "salt", "secret", "sign", "token", "url",
];

/// Whether `line`, which follows `before`, may contain a secret.
fn may_be_secret(before: &str, line: &str, message: &str) -> bool {
    let is_inside = |quotes: &str| before.matches(quotes).count() % 2 == 1;
    let lower = line.to_ascii_lowercase();
    let is_header = line.starts_with('[') && line.ends_with(']') && !line.contains(['"', '\'']);
    let is_setting = line
        .split_once('=')
        .is_some_and(|(key, _)| is_key(key.trim_end()));
    is_inside("\"\"\"")
        || is_inside("\'\'\'")
        || !(is_setting || is_header)
        || message.starts_with("unknown field")
        || SECRET_WORDS.iter().any(|word| lower.contains(word))
}

fn is_key(text: &str) -> bool {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !text.is_empty() && text.chars().all(is_bare)
}

/// A line's key, with an ellipsis for the value.
fn redacted_line(line: &str) -> String {
    match line.split_once('=') {
        Some((key, _)) if is_key(key.trim_end()) => format!("{} = …", key.trim_end()),
        _ => "…".into(),
    }
}

/// A parser's message without quoted values, for secret files: removes the values in
/// `invalid type: string "…", expected …` and `` unknown variant `…`, expected … ``, and any text in
/// double quotes.
#[must_use]
pub fn without_values(message: &str) -> String {
    let quotes_value = ["invalid ", "unknown variant"]
        .iter()
        .any(|it| message.starts_with(it));
    match (
        message.split_once([':', '`']),
        message.rsplit_once(", expected "),
    ) {
        (Some((what, _)), Some((_, expected))) if quotes_value => {
            format!("{}, expected {expected}", what.trim_end())
        }
        _ if quotes_value || message.contains('"') => {
            let outside = message.split('"').step_by(2);
            outside.collect::<Vec<_>>().join("…")
        }
        _ => message.to_owned(),
    }
}

/// A number of bytes: `"64MiB"`, `"512KiB"`, `"2GiB"` or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A duration: `"300ms"`, `"10s"`, `"5m"`, `"24h"` or `"90d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

const BYTE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
const TIME_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

fn parse_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let unit = text[digits..].trim();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    text[..digits].parse::<u64>().ok()?.checked_mul(*factor)
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        let message =
            "not a size: write a number with a unit, such as \"64MiB\" (B, KiB, MiB, GiB, TiB)";
        match Raw::deserialize(deserializer).map_err(|_| D::Error::custom(message))? {
            Raw::Number(bytes) => Ok(Self(bytes)),
            Raw::Text(text) => parse_with_unit(&text, BYTE_UNITS)
                .map(Self)
                .ok_or_else(|| D::Error::custom(message)),
        }
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text =
            String::deserialize(deserializer).map_err(|_| D::Error::custom(NOT_A_DURATION))?;
        text.parse().map_err(D::Error::custom)
    }
}

const NOT_A_DURATION: &str =
    "not a length of time: write a number with a unit, such as \"300ms\" (ms, s, m, h, d)";

impl FromStr for HumanDuration {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_with_unit(text, TIME_UNITS)
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or(NOT_A_DURATION)
    }
}

/// A [`ByteSize`], [`HumanDuration`] (in milliseconds) or number between `MIN` and `MAX`, both included.
///
/// The bounds are part of the type, so that its JSON schema contains them: docs/configuration.md is generated from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Bounded<T, const MIN: u64, const MAX: u64>(T);

/// A value that [`Bounded`] can hold.
pub trait BoundedValue: Copy {
    /// The value as a number.
    fn to_number(self) -> u64;
    /// The number in the notation of the settings.
    fn format(number: u64) -> String;
}

impl BoundedValue for ByteSize {
    fn to_number(self) -> u64 {
        self.0
    }
    fn format(number: u64) -> String {
        format!("\"{}\"", Self(number))
    }
}

impl BoundedValue for HumanDuration {
    fn to_number(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
    fn format(number: u64) -> String {
        format!("\"{}\"", Self(Duration::from_millis(number)))
    }
}

impl BoundedValue for usize {
    fn to_number(self) -> u64 {
        self as u64
    }
    fn format(number: u64) -> String {
        number.to_string()
    }
}

impl<T: BoundedValue, const MIN: u64, const MAX: u64> Bounded<T, MIN, MAX> {
    /// A default value.
    ///
    /// # Panics
    /// When `value` is out of bounds; defaults are constants of the program.
    #[must_use]
    pub fn new(value: T) -> Self {
        assert!(
            (MIN..=MAX).contains(&value.to_number()),
            "a default is within its own bounds"
        );
        Self(value)
    }

    /// The value.
    #[must_use]
    pub const fn get(self) -> T {
        self.0
    }
}

impl<'de, T: BoundedValue + Deserialize<'de>, const MIN: u64, const MAX: u64> Deserialize<'de>
    for Bounded<T, MIN, MAX>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = T::deserialize(deserializer)?;
        if (MIN..=MAX).contains(&value.to_number()) {
            return Ok(Self(value));
        }
        let (least, most) = (T::format(MIN), T::format(MAX));
        Err(D::Error::custom(format!(
            "out of bounds: at least {least}, at most {most}"
        )))
    }
}

/// The schema keyword of a value's lower bound, in the notation of the settings.
pub const MINIMUM: &str = "x-minimum";
/// The schema keyword of a value's upper bound, in the notation of the settings.
pub const MAXIMUM: &str = "x-maximum";

impl<T: BoundedValue + JsonSchema, const MIN: u64, const MAX: u64> JsonSchema
    for Bounded<T, MIN, MAX>
{
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        schema.insert(MINIMUM.into(), T::format(MIN).into());
        schema.insert(MAXIMUM.into(), T::format(MAX).into());
        schema
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": "size" })
    }
}

impl JsonSchema for HumanDuration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration" })
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn largest_unit(number: u64, units: &[(&'static str, u64)]) -> Option<(&'static str, u64)> {
    units
        .iter()
        .rev()
        .find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor))
        .copied()
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = largest_unit(self.to_number(), TIME_UNITS).unwrap_or(("ms", 1));
        write!(f, "{}{unit}", self.to_number() / factor)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = largest_unit(self.0, BYTE_UNITS).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests;
