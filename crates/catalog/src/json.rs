//! Forms of values in JSON: times are texts of RFC 3339 in UTC, with microseconds.

use domain::Micros;
use jiff::Timestamp;
use serde::{Deserialize as _, Deserializer, Serializer, de, ser};

fn to_text(time: Micros) -> Option<String> {
    let micros = i64::try_from(time.0).ok()?;
    Timestamp::from_microsecond(micros)
        .ok()
        .map(|it| it.to_string())
}

fn from_text(text: &str) -> Result<Micros, &'static str> {
    let wrong = "a time is a text of RFC 3339 from 1970 to 9999, such as 2026-12-01T00:00:00Z";
    let time: Timestamp = text.parse().map_err(|_| wrong)?;
    let micros = u64::try_from(time.as_microsecond()).map_err(|_| wrong)?;
    Ok(Micros(micros))
}

/// A time in a message.
pub(crate) fn shown(time: Micros) -> String {
    to_text(time).unwrap_or_default()
}

/// Writes a time.
pub(crate) fn time<S: Serializer>(time: &Micros, to: S) -> Result<S::Ok, S::Error> {
    let text = to_text(*time).ok_or_else(|| ser::Error::custom("a time after 9999"))?;
    to.serialize_str(&text)
}

/// For a time that may be missing.
pub(crate) mod optional_time {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Micros>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::time(time, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Micros>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let time = text.map(|text| from_text(&text)).transpose();
        time.map_err(de::Error::custom)
    }
}

/// For a text that several values share.
pub(crate) mod shared_text {
    use super::*;
    use std::sync::Arc;

    pub(crate) fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}

/// For a map or struct as a text within a row.
pub(crate) fn text<T: serde::Serialize>(value: &T) -> String {
    let mut bytes = Vec::with_capacity(256);
    value
        .serialize(&mut serde_json::Serializer::new(&mut bytes))
        .expect("documents have text keys, and times before the year 10000");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}
