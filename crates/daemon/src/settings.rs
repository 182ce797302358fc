//! Settings from TOML files: unknown keys and wrong values are refused with file, line and what
//! would be right. Values that may be secret are never shown: those of keys that are called so, and of
//! keys that are misspelt.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// No settings or links file is longer than this, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A file that can't be used, and why.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("{}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file's text is wrong.
    #[error("{}:{line}: {message}\n    {text}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The line's text, without what may be secret.
        text: String,
        /// What is wrong and what would be right.
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
            "{length} bytes are more than the {MAX_FILE_BYTES} allowed"
        ))));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    toml::from_str(&text).map_err(|error| match error.span() {
        Some(span) => wrong(path, &text, span.start, error.message()),
        // Whose value the message has is not known.
        None => wrong(path, &text, 0, &without_values(error.message())),
    })
}

/// Settings that name files.
pub trait NamesFiles {
    /// Every path in them.
    fn paths(&mut self) -> Vec<&mut PathBuf>;
}

/// Reads `path` as [`load`] does, and resolves each relative path in it against its directory: settings
/// mean the same files, wherever a program is started.
///
/// # Errors
/// When the file can't be read, is not TOML or is not a `T`.
pub fn load_resolved<T: DeserializeOwned + NamesFiles>(path: &Path) -> Result<T, SettingsError> {
    let mut settings: T = load(path)?;
    let directory = directory_of(path)?;
    for named in settings.paths() {
        *named = directory.join(&*named);
    }
    Ok(settings)
}

/// The absolute path of the directory that the file at `path` is in. Symbolic links are not followed: where
/// a settings file is mounted by one, the files beside it are, too.
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

/// Makes the error that points at byte `offset` of a file's `text`.
#[must_use]
pub fn wrong(path: &Path, text: &str, offset: usize, message: &str) -> SettingsError {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let written = text.lines().nth(line - 1).unwrap_or_default().trim();
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let (shown, message) = if may_be_secret(&before[..start], written, message) {
        (key_of(written), without_values(message))
    } else {
        (written.to_owned(), message.to_owned())
    };
    SettingsError::Wrong {
        path: path.into(),
        line,
        text: shown.chars().take(120).collect(),
        message,
    }
}

/// As [`wrong`], for a file of secrets: nothing of its text is shown but the line's key.
#[must_use]
pub fn wrong_in_secrets(path: &Path, text: &str, offset: usize, message: &str) -> SettingsError {
    match wrong(path, text, offset, message) {
        SettingsError::Wrong {
            path, line, text, ..
        } => SettingsError::Wrong {
            path,
            line,
            text: key_of(&text),
            message: without_values(message),
        },
        unreadable @ SettingsError::Unreadable { .. } => unreadable,
    }
}

/// Where the line begins whose key is the first word of `message`; 0 when there is none.
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

/// Everything that is wrong with one file or several, each in a line.
#[derive(Debug, Error)]
#[error("{}", lines(.0))]
pub struct Mistakes(pub Vec<SettingsError>);

fn lines(mistakes: &[SettingsError]) -> String {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Words in the names of keys whose values are not shown.
const SECRET_WORDS: [&str; 12] = [
    "auth", "cert", "cred", "dsn", "hmac", "key", "pass", "salt", "secret", "sign", "token", "url",
];

/// Whether `line`, which follows `before`, may hold a secret.
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

/// A line's key, with a mark for what is left out.
fn key_of(line: &str) -> String {
    match line.split_once('=') {
        Some((key, _)) if is_key(key.trim_end()) => format!("{} = …", key.trim_end()),
        _ => "…".into(),
    }
}

/// What a parser's message says without the values that it quotes, for files of secrets: those of `invalid type: string "…", expected …`
/// and of `` unknown variant `…`, expected … ``, and any text in double quotes.
#[must_use]
pub fn without_values(message: &str) -> String {
    let quotes_one = ["invalid ", "unknown variant"]
        .iter()
        .any(|it| message.starts_with(it));
    match (
        message.split_once([':', '`']),
        message.rsplit_once(", expected "),
    ) {
        (Some((what, _)), Some((_, expected))) if quotes_one => {
            format!("{}, expected {expected}", what.trim_end())
        }
        _ if quotes_one || message.contains('"') => {
            let outside = message.split('"').step_by(2);
            outside.collect::<Vec<_>>().join("…")
        }
        _ => message.to_owned(),
    }
}

/// A number of bytes, written as `"64MiB"`, `"512KiB"`, `"2GiB"` or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A length of time, written as `"300ms"`, `"10s"`, `"5m"`, `"24h"` or `"90d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

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

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
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
            Raw::Text(text) => scaled(&text, BYTE_UNITS)
                .map(Self)
                .ok_or_else(|| D::Error::custom(message)),
        }
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let message =
            "not a length of time: write a number with a unit, such as \"300ms\" (ms, s, m, h, d)";
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(message))?;
        scaled(&text, TIME_UNITS)
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| D::Error::custom(message))
    }
}

/// A [`ByteSize`], [`Period`] (in milliseconds) or number between `MIN` and `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Within<T, const MIN: u64, const MAX: u64>(T);

/// What [`Within`] can hold in bounds.
pub trait Measure: Copy {
    /// The value as a number.
    fn number(self) -> u64;
    /// The number as people write it.
    fn written(number: u64) -> String;
}

impl Measure for ByteSize {
    fn number(self) -> u64 {
        self.0
    }
    fn written(number: u64) -> String {
        format!("\"{}\"", Self(number))
    }
}

impl Measure for Period {
    fn number(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
    fn written(number: u64) -> String {
        let (unit, factor) = largest(number, TIME_UNITS).unwrap_or(("ms", 1));
        format!("\"{}{unit}\"", number / factor)
    }
}

impl Measure for usize {
    fn number(self) -> u64 {
        self as u64
    }
    fn written(number: u64) -> String {
        number.to_string()
    }
}

impl<T: Measure, const MIN: u64, const MAX: u64> Within<T, MIN, MAX> {
    /// # Panics
    /// When `value` is out of bounds: for defaults, which are constants of the program.
    #[must_use]
    pub fn new(value: T) -> Self {
        assert!(
            (MIN..=MAX).contains(&value.number()),
            "a default lies within its own bounds"
        );
        Self(value)
    }

    /// The value.
    #[must_use]
    pub const fn get(self) -> T {
        self.0
    }
}

impl<'de, T: Measure + Deserialize<'de>, const MIN: u64, const MAX: u64> Deserialize<'de>
    for Within<T, MIN, MAX>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = T::deserialize(deserializer)?;
        if (MIN..=MAX).contains(&value.number()) {
            return Ok(Self(value));
        }
        let (least, most) = (T::written(MIN), T::written(MAX));
        Err(D::Error::custom(format!(
            "out of bounds: at least {least}, at most {most}"
        )))
    }
}

fn largest(number: u64, units: &[(&'static str, u64)]) -> Option<(&'static str, u64)> {
    units
        .iter()
        .rev()
        .find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor))
        .copied()
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = largest(self.0, BYTE_UNITS).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        size: ByteSize,
        age: Period,
        #[serde(default)]
        bounded: Option<Within<ByteSize, 1024, 2048>>,
    }

    fn parse(text: &str) -> Result<Example, String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("writable");
        load(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn units_are_read() {
        let example = parse("size = \"64MiB\"\nage = \"24h\"").expect("right");
        assert_eq!(example.size, ByteSize(64 << 20));
        assert_eq!(example.age, Period(Duration::from_secs(86_400)));
        assert_eq!(
            parse("size = 12\nage = \"5ms\"").expect("right").size,
            ByteSize(12)
        );
    }

    #[test]
    fn a_wrong_value_names_line_and_remedy() {
        let error = parse("size = 1\nage = \"soon\"").expect_err("refused");
        assert!(error.contains(":2: not a length of time"), "{error}");
        assert!(error.contains("age = \"soon\""), "{error}");
        let error = parse("size = \"99999999TiB\"\nage = \"1s\"").expect_err("refused");
        assert!(error.contains(":1: not a size"), "{error}");
    }

    #[test]
    fn a_value_out_of_bounds_names_the_bounds() {
        let with = |bounded| parse(&format!("size = 1\nage = \"1s\"\nbounded = {bounded}"));
        assert_eq!(
            with("\"2KiB\"").expect("right").bounded.map(|b| b.get().0),
            Some(2048)
        );
        let error = with("\"3KiB\"").expect_err("refused");
        assert!(
            error.contains(":3: out of bounds: at least \"1KiB\", at most \"2KiB\""),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_key_names_line_and_what_is_known() {
        let error = parse("size = 1\n\nagee = \"1s\"").expect_err("refused");
        assert!(
            error.contains(":3: unknown field `agee`, expected one of `size`, `age`, `bounded`"),
            "{error}"
        );
    }

    #[test]
    fn values_that_may_be_secret_are_not_shown() {
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Secrets {
            password: u16,
            api_token: Vec<u16>,
            url: Mode,
            nested: Nested,
        }
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Nested {
            signing_key: u16,
        }
        #[derive(Debug, Default, Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Mode {
            #[default]
            Off,
        }
        for (text, line, shown) in [
            ("password = \"S3CRET\"", 1, "expected u16\n    password = …"),
            (
                "password = 12345678901\n",
                1,
                "expected u16\n    password = …",
            ),
            ("pasword = \"S3CRET\"", 1, "unknown field `pasword`"),
            ("api_token = [\n  \"S3CRET\",\n]", 2, "expected u16\n    …"),
            ("url = \"S3CRET\"", 1, "unknown variant, expected"),
            ("nested = { signing_key = \"S3CRET\" }", 1, "nested = …"),
            ("[nested]\nsigning_key = \"S3CRET\"", 2, "signing_key = …"),
            ("url = \"\"\"\nx = S3CRET\"\"\"", 1, "unknown variant"),
            ("password \"S3CRET\"", 1, "\n    …"),
            ("password = S3CRET", 1, "password = …"),
            ("password = \"S3CRET", 1, "password = …"),
            ("pass word = \"S3CRET\"", 1, "\n    …"),
        ] {
            let file = tempfile::NamedTempFile::new().expect("a temporary file");
            std::fs::write(file.path(), text).expect("writable");
            let error = load::<Secrets>(file.path()).expect_err(text).to_string();
            assert!(!error.contains("S3CRET"), "{text}: {error}");
            assert!(!error.contains("12345678901"), "{text}: {error}");
            assert!(error.contains(&format!(":{line}: ")), "{text}: {error}");
            assert!(error.contains(shown), "{text}: {error}");
        }
    }
}
