//! Which metrics and labels a PromQL expression uses, and whether the programs have them. The syntax is checked by
//! Prometheus itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::docs::Metric;

/// Prefixes of our metrics, so that a misspelt one is not taken for a function.
const PREFIXES: [&str; 5] = [
    "edge_",
    "aggregator_",
    "function_",
    "functions_",
    "process_",
];
/// Metrics that Prometheus has itself.
const PROMETHEUS_METRICS: [&str; 2] = ["up", "ALERTS"];
/// Labels that Prometheus adds to each series.
const TARGET_LABELS: [&str; 5] = ["job", "instance", "le", "alertname", "alertstate"];
const LABEL_LISTS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];
const HISTOGRAM_SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// A selector such as `up{job="a"}`, or the name alone.
#[derive(Debug, PartialEq, Eq)]
struct Selector {
    metric: String,
    matchers: Vec<Matcher>,
}

#[derive(Debug, PartialEq, Eq)]
struct Matcher {
    label: String,
    operator: String,
    value: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

/// Everything in `expression` that the programs do not have; `recorded` are the names of recording rules.
pub(super) fn faults(
    expression: &str,
    metrics: &BTreeMap<String, Metric>,
    recorded: &BTreeSet<String>,
) -> Vec<String> {
    let tokens = tokens(expression);
    let mut faults = Vec::new();
    for selector in selectors(&tokens) {
        let name = selector.metric.as_str();
        if PROMETHEUS_METRICS.contains(&name) || recorded.contains(name) {
            continue;
        }
        match family(name, metrics) {
            Some(metric) => {
                faults.extend(selector.matchers.iter().filter_map(|it| it.fault(metric)))
            }
            None if name.contains(':') => faults.push(format!("no rule records {name}")),
            None => faults.push(format!("no program has the metric {name}")),
        }
    }
    faults
}

/// The metric of a series; histograms have series with suffixes.
fn family<'a>(name: &str, metrics: &'a BTreeMap<String, Metric>) -> Option<&'a Metric> {
    let base = |suffix: &&str| name.strip_suffix(*suffix).and_then(|it| metrics.get(it));
    let histogram = HISTOGRAM_SUFFIXES
        .iter()
        .find_map(base)
        .filter(|it| it.kind == "histogram");
    metrics
        .get(name)
        .filter(|it| it.kind != "histogram")
        .or(histogram)
}

impl Matcher {
    fn fault(&self, metric: &Metric) -> Option<String> {
        let Self {
            label,
            operator,
            value,
        } = self;
        if TARGET_LABELS.contains(&label.as_str()) {
            return None;
        }
        let Some(known) = metric.labels.get(label) else {
            return Some(format!("{} has no label {label}", metric.name));
        };
        // A variable of a dashboard, or a label with any value.
        let any = value.contains('$') || known.contains("*");
        let values = match operator.as_str() {
            "=~" | "!~" => value.split('|').collect(),
            _ => vec![value.as_str()],
        };
        let is_unknown = |it: &&str| !any && !known.contains(*it);
        let unknown = values.into_iter().find(is_unknown)?;
        Some(format!(
            "{}: the label {label} is never {unknown:?}",
            metric.name
        ))
    }
}

fn selectors(tokens: &[Token]) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = tokens;
    while let [token, tail @ ..] = rest {
        rest = tail;
        let Token::Word(word) = token else { continue };
        if LABEL_LISTS.contains(&word.as_str()) && tail.first() == Some(&Token::Sign('(')) {
            let end = tail.iter().position(|it| *it == Token::Sign(')'));
            rest = &tail[end.map_or(tail.len(), |it| it + 1)..];
            continue;
        }
        let has_matchers = tail.first() == Some(&Token::Sign('{'));
        let is_ours = PREFIXES.iter().any(|prefix| word.starts_with(prefix));
        if has_matchers || is_ours || word.contains(':') || word == "build_info" || word == "up" {
            let end = tail
                .iter()
                .position(|it| *it == Token::Sign('}'))
                .unwrap_or(0);
            let inside = if has_matchers { &tail[..end] } else { &[] };
            found.push(Selector {
                metric: word.clone(),
                matchers: matchers(inside),
            });
            rest = &tail[inside.len()..];
        }
    }
    found
}

fn matchers(tokens: &[Token]) -> Vec<Matcher> {
    let parts = tokens.split(|it| matches!(it, Token::Sign('{' | ',')));
    let matcher = |part: &[Token]| match part {
        [Token::Word(label), signs @ .., Token::Text(value)] => Some(Matcher {
            label: label.clone(),
            operator: signs.iter().filter_map(Token::sign).collect(),
            value: value.clone(),
        }),
        _ => None,
    };
    parts.filter_map(matcher).collect()
}

impl Token {
    const fn sign(&self) -> Option<char> {
        match self {
            Self::Sign(sign) => Some(*sign),
            _ => None,
        }
    }
}

fn tokens(expression: &str) -> Vec<Token> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_:$".contains(c);
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => rest[1..].find('"').map_or(rest.len(), |it| it + 2),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let text = &rest[..end];
        tokens.push(match first {
            '"' => Token::Text(text.trim_matches('"').to_owned()),
            c if is_word(c) => Token::Word(text.to_owned()),
            c => Token::Sign(c),
        });
        rest = rest[end..].trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> BTreeMap<String, Metric> {
        let text = r#"[
            {"name": "edge_lost_total", "type": "counter", "help": "", "labels": {"reason": ["disk_full"]}},
            {"name": "edge_lag_seconds", "type": "histogram", "help": "", "labels": {"worker": ["*"]}}
        ]"#;
        let metrics: Vec<Metric> = serde_json::from_str(text).expect("valid");
        metrics
            .into_iter()
            .map(|it| (it.name.clone(), it))
            .collect()
    }

    #[test]
    fn unknown_metrics_labels_and_values_are_faults() {
        let recorded = BTreeSet::from(["a:b".to_owned()]);
        let table: [(&str, &[&str]); 10] = [
            (
                r#"sum by (job, reason) (rate(edge_lost_total{reason="disk_full"}[5m])) > 0"#,
                &[],
            ),
            (r#"a:b{instance=~"$edge"} > on (job) up{job="x"}"#, &[]),
            (
                r#"histogram_quantile(0.9, edge_lag_seconds_bucket{le="1", worker="7"})"#,
                &[],
            ),
            (
                "edge_lag_seconds",
                &["no program has the metric edge_lag_seconds"],
            ),
            (
                "edge_lost_bucket",
                &["no program has the metric edge_lost_bucket"],
            ),
            (
                "edge_lots_total > 0",
                &["no program has the metric edge_lots_total"],
            ),
            (
                r#"other_total{a="b"}"#,
                &["no program has the metric other_total"],
            ),
            ("c:d", &["no rule records c:d"]),
            (
                r#"edge_lost_total{why="x"}"#,
                &["edge_lost_total has no label why"],
            ),
            (
                r#"edge_lost_total{reason=~"disk_full|disc_full"}"#,
                &["edge_lost_total: the label reason is never \"disc_full\""],
            ),
        ];
        for (expression, expected) in table {
            assert_eq!(
                faults(expression, &metrics(), &recorded),
                expected,
                "{expression}"
            );
        }
    }
}
