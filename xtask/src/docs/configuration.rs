//! docs/configuration.md: the settings of both programs, from their JSON schemas.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{Reference, cell, paragraph};

const INTRODUCTION: &str = include_str!("configuration.md");

pub(super) fn render(references: &[Reference]) -> anyhow::Result<String> {
    let mut text = INTRODUCTION.to_owned();
    for reference in references {
        text.truncate(text.trim_end().len());
        write!(text, "\n\n## {}\n\n", reference.program)?;
        let schema = Schema {
            root: &reference.settings,
        };
        schema.table(&mut text, "", &reference.settings)?;
    }
    text.truncate(text.trim_end().len() + 1);
    Ok(text)
}

pub(super) struct Schema<'a> {
    pub(super) root: &'a Value,
}

impl<'a> Schema<'a> {
    /// A table of settings, and those within it.
    fn table(&self, text: &mut String, path: &str, schema: &'a Value) -> anyhow::Result<()> {
        let keys = schema["properties"].as_object();
        let keys = keys.with_context(|| format!("[{path}] has no keys"))?;
        let required = schema["required"].as_array();
        let is_required = |key: &str| required.is_some_and(|it| it.iter().any(|name| name == key));
        let mut tables = Vec::new();
        text.push_str("| key | type | default | bounds | meaning |\n|---|---|---|---|---|\n");
        for (key, value) in keys {
            let resolved = self.resolve(value)?;
            if resolved.get("properties").is_some() {
                tables.push((key, value, resolved));
                continue;
            }
            let default = match (is_required(key), &value["default"]) {
                (true, _) => "required".to_owned(),
                (false, Value::Null) => "–".to_owned(),
                (false, default) => format!("`{default}`"),
            };
            let (kind, choices) = kind(resolved);
            let mut meaning = description(value).to_owned();
            for (choice, what) in choices {
                write!(meaning, " `\"{choice}\"`: {}", cell(what))?;
            }
            let row = [
                format!("`{key}`"),
                kind,
                default,
                bounds(resolved),
                cell(&meaning),
            ];
            writeln!(text, "| {} |", row.join(" | "))?;
        }
        text.push('\n');
        for (key, value, resolved) in tables {
            let path = match path {
                "" => key.clone(),
                outer => format!("{outer}.{key}"),
            };
            write!(text, "### `[{path}]`\n\n")?;
            let mut about = description(value).to_owned();
            if is_required(key) {
                about.push_str(" This table is required.");
            }
            text.push_str(&paragraph(&about));
            self.table(text, &path, resolved)?;
        }
        Ok(())
    }

    /// The schema that a key's schema refers to, or itself.
    pub(super) fn resolve(&self, schema: &'a Value) -> anyhow::Result<&'a Value> {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or(reference);
            return Ok(&self.root["$defs"][name]);
        }
        let Some(choices) = schema["anyOf"].as_array() else {
            return Ok(schema);
        };
        let not_null = choices.iter().find(|choice| choice["type"] != "null");
        match not_null {
            Some(choice) => self.resolve(choice),
            None => bail!("a schema has no other choice than null"),
        }
    }
}

pub(super) fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// The type of a key, and the values of an enumeration with their meanings.
fn kind(schema: &Value) -> (String, Vec<(&str, &str)>) {
    if let Some(choices) = schema["oneOf"].as_array() {
        let values = choices.iter();
        let values = values.map(|it| (it["const"].as_str().unwrap_or_default(), description(it)));
        return ("one of".into(), values.collect());
    }
    let format = schema["format"].as_str();
    let kind = match (format, &schema["type"]) {
        (Some(name @ ("size" | "duration")), _) => name,
        (_, Value::String(kind)) => kind,
        (_, Value::Array(kinds)) => kinds[0].as_str().unwrap_or_default(),
        _ => "value",
    };
    let kind = match kind {
        "array" => "list",
        "object" => "table",
        "boolean" => "`true` or `false`",
        other => other,
    };
    (kind.into(), Vec::new())
}

fn bounds(schema: &Value) -> String {
    let texts = |key: &str| schema[key].as_str().map(str::to_owned);
    let numbers = |key: &str| schema[key].as_u64().map(|it| it.to_string());
    let least = texts("x-minimum").or_else(|| numbers("minimum"));
    let most = texts("x-maximum").or_else(|| numbers("maximum"));
    match (least.filter(|it| it != "0" || most.is_some()), most) {
        (Some(least), Some(most)) => format!("`{least}` to `{most}`"),
        (Some(least), None) => format!("at least `{least}`"),
        (None, Some(most)) => format!("at most `{most}`"),
        (None, None) => "–".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_have_type_default_bounds_and_meaning() {
        let settings = json!({
            "required": ["node"],
            "properties": {
                "node": { "type": "integer", "minimum": 1, "maximum": 9, "description": "Its\nnumber." },
                "http": { "$ref": "#/$defs/Http", "description": "Ports.", "default": {} },
            },
            "$defs": { "Http": { "properties": {
                "age": { "type": "string", "format": "duration", "default": "5s",
                    "x-minimum": "\"1s\"", "x-maximum": "\"9s\"", "description": "Age." },
                "mode": { "anyOf": [{ "$ref": "#/$defs/Mode" }, { "type": "null" }], "description": "Mode." },
            } }, "Mode": { "oneOf": [{ "const": "off", "description": "None." }] } },
        });
        let schema = Schema { root: &settings };
        let mut text = String::new();
        schema.table(&mut text, "", &settings).expect("schema");
        for row in [
            "| `node` | integer | required | `1` to `9` | Its number. |",
            "### `[http]`\n\nPorts.\n",
            "| `age` | duration | `\"5s\"` | `\"1s\"` to `\"9s\"` | Age. |",
            "| `mode` | one of | – | – | Mode. `\"off\"`: None. |",
        ] {
            assert!(text.contains(row), "{row} in {text}");
        }
    }
}
