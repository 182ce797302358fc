//! The Helm chart's `values.schema.json` and its table of bounds: the chart's own values, and the programs' settings
//! from their JSON schemas.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use super::configuration::{Schema, description};
use super::{Reference, joined};

const OWN_VALUES: &str = include_str!("values.schema.json");

/// Settings that follow from the chart's mounts and ports, and so are no values.
const FIXED: [(&str, &[&str]); 2] = [
    (
        "edge-tracker",
        &[
            "aggregator.address",
            "data_dir",
            "functions.advertisers",
            "functions.manifest",
            "functions.variables",
            "geo.asn",
            "geo.country",
            "http.admin_listen",
            "http.listen",
            "internal_api",
            "links.file",
            "node",
            "secrets",
            "tls",
        ],
    ),
    (
        "aggregator",
        &[
            "admin_listen",
            "clickhouse.ca_file",
            "clickhouse.credentials",
            "clickhouse.password",
            "clickhouse.password_file",
            "data_dir",
            "listen",
            "outgoing.postbacks",
            "reports.advertisers",
            "reports.links",
            "reports.secrets",
            "reports.variables",
            "store.dir",
            "store.password_file",
            "tls",
        ],
    ),
];

/// The schema of the chart's values.
pub(super) fn schema(references: &[Reference]) -> anyhow::Result<String> {
    let mut schema: Value = serde_json::from_str(OWN_VALUES)?;
    for reference in references {
        schema["$defs"][reference.program] =
            Chart::of(reference)?.table("", &reference.settings)?;
    }
    pretty(&schema)
}

/// The bounds of lengths of time and sizes, by program and key.
pub(super) fn bounds(references: &[Reference]) -> anyhow::Result<String> {
    let mut programs = BTreeMap::new();
    for reference in references {
        let mut bounds = BTreeMap::new();
        Chart::of(reference)?.bounds("", &reference.settings, &mut bounds)?;
        programs.insert(reference.program, bounds);
    }
    pretty(&json!(programs))
}

fn pretty(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

struct Chart<'a> {
    schema: Schema<'a>,
    fixed: &'static [&'static str],
}

impl<'a> Chart<'a> {
    fn of(reference: &'a Reference) -> anyhow::Result<Self> {
        let fixed = FIXED
            .iter()
            .find(|(program, _)| *program == reference.program);
        let (_, fixed) = fixed.with_context(|| format!("unknown program {}", reference.program))?;
        let chart = Self {
            schema: Schema {
                root: &reference.settings,
            },
            fixed,
        };
        for path in chart.fixed {
            ensure!(
                chart.knows(path)?,
                "{} has no setting {path}; correct FIXED",
                reference.program
            );
        }
        Ok(chart)
    }

    fn knows(&self, path: &str) -> anyhow::Result<bool> {
        let mut schema = self.schema.root;
        for key in path.split('.') {
            schema = self.schema.resolve(&schema["properties"][key])?;
        }
        Ok(!schema.is_null())
    }

    /// The keys of a table that are values, with their paths and resolved schemas.
    fn keys(&self, path: &str, schema: &'a Value) -> anyhow::Result<Vec<Key<'a>>> {
        let keys = schema["properties"].as_object();
        let keys = keys.with_context(|| format!("[{path}] has no keys"))?;
        let mut found = Vec::new();
        for (name, outer) in keys {
            let path = match path {
                "" => name.clone(),
                table => format!("{table}.{name}"),
            };
            if !self.fixed.contains(&path.as_str()) {
                found.push(Key {
                    name,
                    path,
                    about: joined(description(outer)),
                    default: &outer["default"],
                    schema: self.schema.resolve(outer)?,
                });
            }
        }
        Ok(found)
    }

    fn table(&self, path: &str, schema: &'a Value) -> anyhow::Result<Value> {
        let mut properties = Map::new();
        for key in self.keys(path, schema)? {
            let mut value = match key.is_table() {
                true => self.table(&key.path, key.schema)?,
                false => form(key.schema),
            };
            value["description"] = key.about.into();
            if !key.default.is_null() && value.get("properties").is_none() {
                value["default"] = key.default.clone();
            }
            properties.insert(key.name.to_owned(), value);
        }
        Ok(json!({ "type": "object", "additionalProperties": false, "properties": properties }))
    }

    fn bounds(
        &self,
        path: &str,
        schema: &'a Value,
        bounds: &mut BTreeMap<String, Value>,
    ) -> anyhow::Result<()> {
        for key in self.keys(path, schema)? {
            if key.is_table() {
                self.bounds(&key.path, key.schema, bounds)?;
            } else if let (Some(least), Some(most)) = (
                bound(key.schema, "x-minimum"),
                bound(key.schema, "x-maximum"),
            ) && key.schema["type"] != "integer"
            {
                bounds.insert(key.path, json!({ "minimum": least, "maximum": most }));
            }
        }
        Ok(())
    }
}

struct Key<'a> {
    name: &'a str,
    path: String,
    about: String,
    default: &'a Value,
    schema: &'a Value,
}

impl Key<'_> {
    fn is_table(&self) -> bool {
        self.schema.get("properties").is_some()
    }
}

/// The value of a bound that the programs state as JSON in a text.
fn bound(schema: &Value, key: &str) -> Option<Value> {
    serde_json::from_str(schema[key].as_str()?).ok()
}

/// The form of a value, as far as a JSON schema can express it.
fn form(schema: &Value) -> Value {
    if let Some(choices) = schema["oneOf"].as_array() {
        let choices: Vec<&Value> = choices.iter().map(|choice| &choice["const"]).collect();
        return json!({ "enum": choices });
    }
    match schema["format"].as_str() {
        Some("duration") => {
            return json!({ "type": "string", "pattern": "^[0-9]{1,9}(ms|s|m|h|d)$" });
        }
        Some("size") => {
            let pattern = "^[0-9]{1,9}(B|KiB|MiB|GiB|TiB)$";
            return json!({ "type": ["string", "integer"], "pattern": pattern, "minimum": 0 });
        }
        _ => {}
    }
    let mut form = Map::new();
    for key in ["type", "items", "additionalProperties"] {
        if let Some(value) = schema.get(key) {
            form.insert(key.to_owned(), value.clone());
        }
    }
    for key in ["minimum", "maximum"] {
        let stated = bound(schema, &format!("x-{key}"));
        if let Some(value) = stated.or_else(|| schema.get(key).cloned()) {
            form.insert(key.to_owned(), value);
        }
    }
    if let Some(kinds) = form.get("type").and_then(Value::as_array) {
        let kinds: Vec<&Value> = kinds.iter().filter(|kind| *kind != "null").collect();
        let kinds = match kinds.as_slice() {
            [kind] => (*kind).clone(),
            kinds => json!(kinds),
        };
        form.insert("type".to_owned(), kinds);
    }
    Value::Object(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_values_and_bounds() {
        let reference = Reference {
            program: "edge-tracker",
            settings: json!({
                "properties": {
                    "node": { "type": "integer" },
                    "http": { "$ref": "#/$defs/Http" },
                },
                "$defs": { "Http": { "properties": {
                    "age": { "type": "string", "format": "duration", "x-minimum": "\"1s\"", "x-maximum": "\"9s\"" },
                    "most": { "type": "integer", "minimum": 0, "x-minimum": "1", "x-maximum": "4" },
                    "page": { "type": ["string", "null"], "description": "Its\npage." },
                    "mode": { "oneOf": [{ "const": "off" }, { "const": "any" }] },
                } } },
            }),
            metrics: Vec::new(),
            refusals: Vec::new(),
        };
        let chart = Chart {
            schema: Schema {
                root: &reference.settings,
            },
            fixed: &["node"],
        };
        let table = chart.table("", &reference.settings).expect("a schema");
        let http = &table["properties"]["http"];
        assert!(table["properties"].get("node").is_none());
        assert_eq!(http["additionalProperties"], false);
        assert_eq!(http["properties"]["most"]["minimum"], 1);
        assert_eq!(http["properties"]["most"]["maximum"], 4);
        assert_eq!(http["properties"]["page"]["type"], "string");
        assert_eq!(http["properties"]["page"]["description"], "Its page.");
        assert_eq!(http["properties"]["mode"]["enum"], json!(["off", "any"]));
        let mut bounds = BTreeMap::new();
        chart
            .bounds("", &reference.settings, &mut bounds)
            .expect("a schema");
        assert_eq!(
            json!(bounds),
            json!({ "http.age": { "minimum": "1s", "maximum": "9s" } })
        );
    }
}
