//! The parameters of a postback: those of the query and those of the body, with their limits.

use functions_shared::{MAX_BODY_BYTES, Reason, Refusal};
use percent_encoding::percent_decode_str;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The longest query, in bytes.
const MAX_QUERY_BYTES: usize = 8 << 10;
/// The most parameters.
const MAX_PARAMETERS: usize = 64;
/// The longest name or value, in bytes.
const MAX_TEXT_BYTES: usize = 512;

/// Where a parameter was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Query,
    Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter {
    place: Place,
    name: String,
    value: String,
}

/// Parameters in the order they came; names are compared without case.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<Parameter>);

impl Parameters {
    /// Reads the query and, where there is one, a form or a flat JSON object in the body.
    pub(crate) fn read(query: &str, content_type: &str, body: &[u8]) -> Result<Self, Refusal> {
        if query.len() > MAX_QUERY_BYTES {
            let most = format!("a query is at most {MAX_QUERY_BYTES} bytes long");
            return Err(Reason::QueryTooLong.because(most));
        }
        if body.len() > MAX_BODY_BYTES {
            let most = format!("a body is at most {MAX_BODY_BYTES} bytes long");
            return Err(Reason::BodyTooLarge.because(most));
        }
        let mut parameters = Self::default();
        parameters.add_form(Place::Query, query)?;
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        match kind.to_ascii_lowercase().as_str() {
            _ if body.is_empty() => {}
            "application/x-www-form-urlencoded" | "" => {
                let form = std::str::from_utf8(body);
                let form =
                    form.map_err(|_| Reason::MalformedQuery.because("the body is no text"))?;
                parameters.add_form(Place::Body, form.trim_end())?;
            }
            "application/json" => parameters.add_json(body)?,
            _ => {
                let known = "application/x-www-form-urlencoded and application/json are read";
                return Err(Reason::UnsupportedContentType.because(known));
            }
        }
        Ok(parameters)
    }

    /// The value sent under any of `names`, empty ones left out.
    pub(crate) fn find(&self, names: &[&str]) -> Result<Option<&str>, Refusal> {
        let mut found: Option<&Parameter> = None;
        for sent in names.iter().flat_map(|name| self.named(name)) {
            if sent.value.is_empty() {
                continue;
            }
            if is_macro(&sent.value) {
                let name = known_name(names, &sent.name);
                let unexpanded = format!("{name} holds a macro instead of its value");
                return Err(Reason::UnexpandedMacro.because(unexpanded));
            }
            match found {
                Some(first) if first.value != sent.value => {
                    let name = known_name(names, &sent.name);
                    let twice = format!("{name} is there twice with different values");
                    return Err(Reason::AmbiguousParameter.because(twice));
                }
                _ => found = Some(sent),
            }
        }
        Ok(found.map(|it| it.value.as_str()))
    }

    /// All values of `name`, for comparing secrets.
    pub(crate) fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        self.named(name).map(|sent| sent.value.as_str())
    }

    /// Those of the given places.
    pub(crate) fn only(&self, places: &[Place]) -> Self {
        let kept = self.0.iter().filter(|it| places.contains(&it.place));
        Self(kept.cloned().collect())
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Parameter> {
        self.0
            .iter()
            .filter(move |it| it.name.eq_ignore_ascii_case(name))
    }

    fn add_form(&mut self, place: Place, form: &str) -> Result<(), Refusal> {
        for pair in form.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // `%aff_sub%` is a macro, not an escape.
            let value = if is_macro(value) {
                value.to_owned()
            } else {
                decoded(value)?
            };
            self.add(place, decoded(name)?, value)?;
        }
        Ok(())
    }

    fn add_json(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let malformed = || Reason::MalformedQuery.because("the body is no flat JSON object");
        let mut json = serde_json::Deserializer::from_slice(body);
        let fields = json.deserialize_map(Fields).map_err(|_| malformed())?;
        json.end().map_err(|_| malformed())?;
        for (name, value) in fields {
            let text = json_text(value.get()).ok_or_else(malformed)?;
            self.add(Place::Body, name, text)?;
        }
        Ok(())
    }

    fn add(&mut self, place: Place, name: String, value: String) -> Result<(), Refusal> {
        if self.0.len() >= MAX_PARAMETERS {
            let most = format!("at most {MAX_PARAMETERS} parameters are read");
            return Err(Reason::TooManyParameters.because(most));
        }
        if name.len() > MAX_TEXT_BYTES || value.len() > MAX_TEXT_BYTES {
            let most = format!("names and values are at most {MAX_TEXT_BYTES} bytes long");
            return Err(Reason::ParameterTooLong.because(most));
        }
        if name.chars().chain(value.chars()).any(char::is_control) {
            let control = "a parameter holds a control character, such as %00 or %0A";
            return Err(Reason::MalformedQuery.because(control));
        }
        self.0.push(Parameter { place, name, value });
        Ok(())
    }
}

/// The name as we write it: what was sent is never repeated.
fn known_name<'n>(names: &[&'n str], sent: &str) -> &'n str {
    let known = names.iter().find(|name| name.eq_ignore_ascii_case(sent));
    known.copied().unwrap_or_default()
}

/// The fields of a JSON object as they were written: repetitions are kept, numbers not rounded.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

fn json_text(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'{' | b'[' => None,
        b'n' => Some(String::new()),
        _ => Some(raw.to_owned()),
    }
}

fn decoded(text: &str) -> Result<String, Refusal> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded.map_err(|_| Reason::MalformedQuery.because("it is not UTF-8"))?;
    Ok(decoded.into_owned())
}

/// Whether `value` is a placeholder that nobody filled in, in any of the networks' notations.
fn is_macro(value: &str) -> bool {
    const PAIRS: [(&str, &str); 8] = [
        ("{{", "}}"),
        ("${", "}"),
        ("{", "}"),
        ("#", "#"),
        ("[", "]"),
        ("(", ")"),
        ("%", "%"),
        ("<", ">"),
    ];
    let named = |name: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | ' ');
        !name.is_empty() && name.chars().all(word)
    };
    let between = |(open, close): &(&str, &str)| {
        let inner = value
            .strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close));
        inner.is_some_and(named)
    };
    value == "REPLACE" || PAIRS.iter().any(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_told_from_values() {
        for unexpanded in [
            "{clickid}",
            "{{click_id}}",
            "${cid}",
            "#s2#",
            "[cid]",
            "(cid)",
            "%cid%",
            "REPLACE",
            "<cid>",
            "{aff_sub:1}",
        ] {
            assert!(is_macro(unexpanded), "{unexpanded}");
        }
        for value in [
            "",
            "{}",
            "a{b}",
            "12.50",
            "#",
            "##",
            "cid",
            "100%",
            "{a}{b}",
            "{\"a\":1}",
        ] {
            assert!(!is_macro(value), "{value}");
        }
        let read = Parameters::read("cid=%aff_sub%", "", b"").expect("read");
        let refused = read.find(&["cid"]).expect_err("a macro");
        assert_eq!(refused.reason, Reason::UnexpandedMacro);
    }

    #[test]
    fn json_is_read_as_it_was_written() {
        let json = br#"{"payout": 12345678901234567.89, "cid": "a\u0062", "x": null, "y": true}"#;
        let read = Parameters::read("", "application/json; charset=utf-8", json).expect("read");
        assert_eq!(read.find(&["payout"]), Ok(Some("12345678901234567.89")));
        assert_eq!(read.find(&["cid"]), Ok(Some("ab")));
        assert_eq!(read.find(&["x"]), Ok(None));
        assert_eq!(read.find(&["y"]), Ok(Some("true")));
        let twice = br#"{"cid": "a", "CID": "b"}"#;
        let twice = Parameters::read("", "application/json", twice).expect("read");
        assert_eq!(
            twice.find(&["cid"]).map_err(|it| it.reason),
            Err(Reason::AmbiguousParameter)
        );
        for wrong in ["[1]", "{\"a\":{}}", "{\"a\":1}{}", "{", "1"] {
            assert!(
                Parameters::read("", "application/json", wrong.as_bytes()).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn limits_hold_and_control_characters_are_refused() {
        let refused = |query: &str| Parameters::read(query, "", b"").map_err(|it| it.reason);
        assert_eq!(refused("cid=%00"), Err(Reason::MalformedQuery));
        assert_eq!(refused("cid=%FF"), Err(Reason::MalformedQuery));
        assert_eq!(refused(&"a&".repeat(65)), Err(Reason::TooManyParameters));
        assert_eq!(
            refused(&format!("a={}", "x".repeat(513))),
            Err(Reason::ParameterTooLong)
        );
        assert_eq!(
            refused(&"a".repeat((8 << 10) + 1)),
            Err(Reason::QueryTooLong)
        );
        assert!(refused(&"a&".repeat(64)).is_ok());
    }
}
