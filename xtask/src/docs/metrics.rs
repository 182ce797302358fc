//! docs/metrics.md: the metrics of both programs, from their registries.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Deserialize;

use super::{Reference, cell};

const INTRODUCTION: &str = include_str!("metrics.md");
/// Longer lists of values are left out: they are the names of refusals.
const MAX_VALUES: usize = 16;

/// A family of metrics.
#[derive(Deserialize)]
pub(crate) struct Metric {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    help: String,
    /// The values of each label; `*` stands for any value.
    pub(crate) labels: BTreeMap<String, BTreeSet<String>>,
}

pub(super) fn render(references: &[Reference]) -> String {
    let mut text = INTRODUCTION.to_owned();
    let is_shared = |name: &str| {
        let has = |it: &Reference| it.metrics.iter().any(|metric| metric.name == name);
        references.iter().all(has)
    };
    for reference in references {
        let own = reference.metrics.iter().filter(|it| !is_shared(&it.name));
        table(&mut text, reference.program, own);
    }
    let first = references.iter().take(1).flat_map(|it| &it.metrics);
    table(
        &mut text,
        "Both programs",
        first.filter(|it| is_shared(&it.name)),
    );
    text
}

fn table<'a>(text: &mut String, title: &str, metrics: impl Iterator<Item = &'a Metric>) {
    let _ = write!(
        text,
        "\n## {title}\n\n| metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n"
    );
    for metric in metrics {
        let labels = metric
            .labels
            .iter()
            .map(|(name, values)| label(name, values));
        let labels: Vec<String> = labels.collect();
        let labels = match labels.is_empty() {
            true => "–".to_owned(),
            false => labels.join("; "),
        };
        let (name, kind, unit) = (&metric.name, &metric.kind, unit(metric));
        let _ = writeln!(
            text,
            "| `{name}` | {kind} | {labels} | {unit} | {} |",
            cell(&metric.help)
        );
    }
}

fn label(name: &str, values: &BTreeSet<String>) -> String {
    let shown: Vec<String> = values.iter().map(|it| format!("`{it}`")).collect();
    match values.len() {
        1 if values.contains("*") => format!("`{name}`"),
        2..=MAX_VALUES | 1 => format!("`{name}`: {}", shown.join(", ")),
        _ => format!(
            "`{name}`: {} names of [refusals](refusals.md)",
            values.len()
        ),
    }
}

/// The base unit, which the name ends with.
fn unit(metric: &Metric) -> &'static str {
    let base = metric.name.trim_end_matches("_total");
    let ends = |end: &str| base.ends_with(end);
    match () {
        () if ends("_timestamp_seconds") || ends("_start_time_seconds") => "seconds since 1970",
        () if ends("_seconds") => "seconds",
        () if ends("_bytes") || base.contains("_bytes_") => "bytes",
        () if ends("_ratio") => "ratio, 0 to 1",
        () => "–",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_listed_with_labels_and_units() {
        let metric = |name: &str, label: &str, values: &[&str]| Metric {
            name: name.into(),
            kind: "counter".into(),
            help: "Some\nhelp | more.".into(),
            labels: [(
                label.to_owned(),
                values.iter().map(|it| (*it).to_owned()).collect(),
            )]
            .into(),
        };
        let metrics = [
            metric("a_bytes_total", "node", &["*"]),
            metric("a_expiry_timestamp_seconds", "outcome", &["x", "y"]),
        ];
        let mut text = String::new();
        table(&mut text, "a", metrics.iter());
        for row in [
            "| `a_bytes_total` | counter | `node` | bytes | Some help \\| more. |",
            "| `a_expiry_timestamp_seconds` | counter | `outcome`: `x`, `y` | seconds since 1970 | ",
        ] {
            assert!(text.contains(row), "{row} in {text}");
        }
    }
}
