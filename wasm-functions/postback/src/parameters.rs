//! The parameters in a postback's query and body, with their limits. Only parameters that are read are validated:
//! other parameters of a sender, in any encoding, don't cause a rejection.

use functions_shared::{MAX_BODY_BYTES, Reason, Refusal, without_byte_order_mark};
use percent_encoding::percent_decode;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Maximum length of a query in bytes.
const MAX_QUERY_BYTES: usize = 8 << 10;
/// Maximum number of parameters.
const MAX_PARAMETERS: usize = 1_024;
/// Maximum length of a name or value that is read, in bytes.
const MAX_TEXT_BYTES: usize = 512;
/// Prefix of a name whose `&` was escaped for HTML and never unescaped.
const HTML_ESCAPE: &str = "amp;";

/// The location of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Query,
    Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter {
    place: Place,
    name: String,
    value: Result<String, ValueFault>,
}

/// Why a value can't be read. It matters only if the value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueFault {
    TooLong,
    NotUtf8,
    ControlCharacter,
    Nested,
}

/// Parameters in the order of arrival; names are case-insensitive.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<Parameter>);

impl ValueFault {
    fn refusal(self, name: &str) -> Refusal {
        let (reason, why) = match self {
            Self::TooLong => {
                let most = format!("{name} is longer than {MAX_TEXT_BYTES} bytes");
                return Reason::ParameterTooLong.because(most);
            }
            Self::NotUtf8 => (Reason::MalformedQuery, "is not UTF-8"),
            Self::ControlCharacter => (
                Reason::MalformedQuery,
                "holds a control character, such as %00 or %0A",
            ),
            Self::Nested => (Reason::MalformedQuery, "is an object or a list"),
        };
        reason.because(format!("{name} {why}"))
    }
}

impl Parameters {
    /// Parses the query and, if present, a form or a JSON object in the body.
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
        parameters.add_form(Place::Query, query.as_bytes())?;
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let body = without_byte_order_mark(body);
        match kind.to_ascii_lowercase().as_str() {
            _ if body.is_empty() => {}
            "application/x-www-form-urlencoded" | "" => {
                parameters.add_form(Place::Body, body.trim_ascii_end())?;
            }
            "application/json" => parameters.add_json(body)?,
            _ => {
                let known = "application/x-www-form-urlencoded and application/json are read";
                return Err(Reason::UnsupportedContentType.because(known));
            }
        }
        Ok(parameters)
    }

    /// The non-empty value under any of `names`.
    pub(crate) fn find(&self, names: &[&str]) -> Result<Option<&str>, Refusal> {
        let mut found: Option<&str> = None;
        for sent in names.iter().flat_map(|name| self.named(name)) {
            let name = known_name(names, &sent.name);
            let value = sent.value.as_deref().map_err(|flaw| flaw.refusal(name))?;
            if value.is_empty() {
                continue;
            }
            if is_macro(value) {
                let unexpanded = format!("{name} holds a macro instead of its value");
                return Err(Reason::UnexpandedMacro.because(unexpanded));
            }
            if found.is_some_and(|first| first != value) {
                let twice = format!("{name} is there twice with different values");
                return Err(Reason::AmbiguousParameter.because(twice));
            }
            found = Some(value);
        }
        Ok(found)
    }

    /// All values of `name` for comparison with secrets; an unreadable one is empty and matches no secret.
    pub(crate) fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        self.named(name)
            .map(|sent| sent.value.as_deref().unwrap_or_default())
    }

    /// The parameters in the given locations.
    pub(crate) fn only(&self, places: &[Place]) -> Self {
        let kept = self.0.iter().filter(|it| places.contains(&it.place));
        Self(kept.cloned().collect())
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Parameter> {
        self.0
            .iter()
            .filter(move |it| it.name.eq_ignore_ascii_case(name))
    }

    fn add_form(&mut self, place: Place, form: &[u8]) -> Result<(), Refusal> {
        let pairs = form.split(|byte| *byte == b'&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(equals.unwrap_or(pair.len()));
            let Ok(name) = decoded(name) else {
                continue;
            };
            let value = form_text(value.strip_prefix(b"=").unwrap_or_default());
            self.add(place, unescaped(&name), value)?;
        }
        Ok(())
    }

    fn add_json(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let malformed = || Reason::MalformedQuery.because("the body is no JSON object");
        let text = String::from_utf8_lossy(body);
        let mut json = serde_json::Deserializer::from_str(&text);
        let fields = json.deserialize_map(Fields).map_err(|_| malformed())?;
        json.end().map_err(|_| malformed())?;
        for (name, value) in fields {
            self.add(Place::Body, &name, json_text(value.get()))?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        place: Place,
        name: &str,
        value: Result<String, ValueFault>,
    ) -> Result<(), Refusal> {
        if self.0.len() >= MAX_PARAMETERS {
            let most = format!("at most {MAX_PARAMETERS} parameters are read");
            return Err(Reason::TooManyParameters.because(most));
        }
        if name.len() <= MAX_TEXT_BYTES {
            let name = name.to_owned();
            let value = value.and_then(plain);
            self.0.push(Parameter { place, name, value });
        }
        Ok(())
    }
}

/// A parameter's name without the prefixes of an HTML-escaped `&`.
pub(crate) fn unescaped(name: &str) -> &str {
    name.trim_start_matches(HTML_ESCAPE)
}

/// The name in our spelling: sent text is never repeated.
fn known_name<'n>(names: &[&'n str], sent: &str) -> &'n str {
    let known = names.iter().find(|name| name.eq_ignore_ascii_case(sent));
    known.copied().unwrap_or_default()
}

/// The fields of a JSON object as written: duplicates are kept and numbers are not rounded.
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

fn json_text(raw: &str) -> Result<String, ValueFault> {
    let text = match raw.as_bytes().first() {
        // Invalid UTF-8 was replaced before the body was parsed.
        Some(b'"') if raw.contains(char::REPLACEMENT_CHARACTER) => return Err(ValueFault::NotUtf8),
        // An unpaired surrogate is not valid text.
        Some(b'"') => serde_json::from_str(raw).map_err(|_| ValueFault::NotUtf8)?,
        Some(b'{' | b'[') => return Err(ValueFault::Nested),
        Some(b'n') | None => String::new(),
        Some(_) => raw.to_owned(),
    };
    Ok(text)
}

fn form_text(value: &[u8]) -> Result<String, ValueFault> {
    // `%aff_sub%` is a macro, not an escape.
    match std::str::from_utf8(value) {
        Ok(text) if is_macro(text) => Ok(text.to_owned()),
        _ => decoded(value),
    }
}

fn decoded(text: &[u8]) -> Result<String, ValueFault> {
    let space = |byte: &u8| if *byte == b'+' { b' ' } else { *byte };
    let spaced: Vec<u8> = text.iter().map(space).collect();
    let decoded = percent_decode(&spaced).decode_utf8();
    Ok(decoded.map_err(|_| ValueFault::NotUtf8)?.into_owned())
}

fn plain(value: String) -> Result<String, ValueFault> {
    if value.len() > MAX_TEXT_BYTES {
        return Err(ValueFault::TooLong);
    }
    if value.chars().any(char::is_control) {
        return Err(ValueFault::ControlCharacter);
    }
    Ok(value)
}

/// Whether `value` is an unreplaced placeholder in any network's notation.
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
    fn placeholders_are_distinguished_from_values() {
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
        let refused = read.find(&["cid"]).expect_err("macro");
        assert_eq!(refused.reason, Reason::UnexpandedMacro);
    }

    #[test]
    fn json_fields_are_kept_as_written() {
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
        for wrong in ["[1]", "{\"a\":1}{}", "{", "1"] {
            assert!(
                Parameters::read("", "application/json", wrong.as_bytes()).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn only_values_that_are_read_are_validated() {
        let (read, text) = (&["cid"][..], "x".repeat(513));
        for (value, reason) in [
            ("%00", Reason::MalformedQuery),
            ("%FF", Reason::MalformedQuery),
            ("a%0Ab", Reason::MalformedQuery),
            (text.as_str(), Reason::ParameterTooLong),
        ] {
            for (name, expected) in [("cid", Err(reason)), ("other", Ok(None))] {
                let query = format!("{name}={value}");
                let parameters = Parameters::read(&query, "", b"").expect("parameters");
                let found = parameters.find(read).map_err(|it| it.reason);
                assert_eq!(found, expected, "{query}");
            }
        }
        let json = br#"{"cid": {"a": 1}, "other": [{"b": 2}], "text": "\ud800"}"#;
        let parameters = Parameters::read("", "application/json", json).expect("parameters");
        let found = |name| parameters.find(&[name]).map_err(|it| it.reason);
        assert_eq!(found("cid"), Err(Reason::MalformedQuery));
        assert_eq!(found("text"), Err(Reason::MalformedQuery));
    }

    #[test]
    fn requests_have_limits() {
        let read = |query: &str| Parameters::read(query, "", b"").map_err(|it| it.reason);
        assert!(read(&"a&".repeat(1_024)).is_ok());
        assert_eq!(read(&"a&".repeat(1_025)), Err(Reason::TooManyParameters));
        assert_eq!(read(&"a".repeat((8 << 10) + 1)), Err(Reason::QueryTooLong));
    }
}
