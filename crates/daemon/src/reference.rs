//! A program's description of itself for docs/: its settings, metrics and refusals, as JSON. `cargo xtask docs` writes
//! the documents from it.
//!
//! Invariant: only names, types, defaults and texts of the program; no value that an operator set.

use prometheus::Registry;
use prometheus::proto::MetricType;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The value of a label whose values are not known in advance, such as a node's number.
pub const ANY_VALUE: &str = "*";

/// The description of a program.
#[derive(Debug, Serialize)]
pub struct Reference {
    settings: Schema,
    metrics: Vec<MetricReference>,
    refusals: Vec<RefusalTable>,
}

/// A family of metrics.
#[derive(Debug, Serialize)]
struct MetricReference {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    help: String,
    /// The values of each label.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// Refusals with one meaning of their numbers.
#[derive(Debug, Serialize)]
pub struct RefusalTable {
    /// The heading.
    pub title: &'static str,
    /// The refused items, the receiver of the number, and the counting metric.
    pub introduction: &'static str,
    /// By number.
    pub refusals: Vec<RefusalReference>,
    /// Numbers of earlier versions, which are never reused, with their former meaning.
    pub retired: &'static [(u16, &'static str)],
}

/// A numbered reason.
#[derive(Debug, Serialize)]
pub struct RefusalReference {
    /// The number.
    pub number: u16,
    /// The name in metrics and tables.
    pub name: &'static str,
    /// The status of the HTTP response, where there is one.
    pub status: Option<u16>,
    /// The fault and its correction.
    pub meaning: &'static str,
}

impl Reference {
    /// Describes a program with settings of type `S`, all families in `registry`, and `refusals`.
    #[must_use]
    pub fn new<S: JsonSchema>(registry: &Registry, mut refusals: Vec<RefusalTable>) -> Self {
        for table in &mut refusals {
            table.refusals.sort_by_key(|refusal| refusal.number);
        }
        Self {
            settings: SchemaGenerator::default().into_root_schema_for::<S>(),
            metrics: families(registry),
            refusals,
        }
    }
}

fn families(registry: &Registry) -> Vec<MetricReference> {
    let mut metrics: Vec<MetricReference> = Vec::new();
    for family in registry.gather() {
        let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for label in family.get_metric().iter().flat_map(|it| it.get_label()) {
            let values = labels.entry(label.name().to_owned()).or_default();
            values.insert(label.value().to_owned());
        }
        metrics.push(MetricReference {
            name: family.name().to_owned(),
            kind: match family.get_field_type() {
                MetricType::COUNTER => "counter",
                MetricType::GAUGE => "gauge",
                MetricType::SUMMARY => "summary",
                MetricType::UNTYPED => "untyped",
                MetricType::HISTOGRAM => "histogram",
            },
            help: family.help().to_owned(),
            labels,
        });
    }
    metrics
}
