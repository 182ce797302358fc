//! Settings from TOML files: unknown keys and wrong values are refused with file, line and what
//! would be right.

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
        /// The line's text.
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
    toml::from_str(&text).map_err(|error| {
        wrong(
            path,
            &text,
            error.span().map_or(0, |span| span.start),
            error.message(),
        )
    })
}

/// Makes the error that points at byte `offset` of a file's `text`.
#[must_use]
pub fn wrong(path: &Path, text: &str, offset: usize, message: &str) -> SettingsError {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let shown = text.lines().nth(line - 1).unwrap_or_default().trim();
    SettingsError::Wrong {
        path: path.into(),
        line,
        text: shown.chars().take(120).collect(),
        message: message.into(),
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
}
