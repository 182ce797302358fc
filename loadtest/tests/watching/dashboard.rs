//! Dashboards as files: their panels, and queries as Grafana and its ClickHouse plugin would send them.

use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::path::Path;

/// Values of the variables; the stack has these offers, affiliates and nodes.
const VALUES: [(&str, &str); 3] = [
    ("offer", "'boyfanz','girlfanz','elitetube','fanzmeet'"),
    ("affiliate", "'ann','ben','cleo','dora','eli','finn'"),
    ("node", "'1','2'"),
];

/// What is selected in the variables of a dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    All,
    Chosen,
}

#[derive(Debug, Deserialize)]
struct Dashboard {
    panels: Vec<Panel>,
    templating: Templating,
}

#[derive(Debug, Deserialize)]
struct Templating {
    list: Vec<Variable>,
}

#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
    #[serde(default)]
    query: serde_json::Value,
}

/// A panel with its queries.
#[derive(Debug, Deserialize)]
pub(crate) struct Panel {
    pub(crate) title: String,
    #[serde(default, rename = "targets")]
    pub(crate) queries: Vec<Query>,
}

/// A query of a panel.
#[derive(Debug, Deserialize)]
pub(crate) struct Query {
    #[serde(rename = "expr")]
    pub(crate) expression: Option<String>,
    #[serde(rename = "rawSql")]
    pub(crate) sql: Option<String>,
    #[serde(default)]
    pub(crate) instant: bool,
}

/// All panels of a dashboard that have queries, and its variables as panels.
pub(crate) fn panels(file: &str) -> Vec<Panel> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana/dashboards");
    let text = std::fs::read_to_string(dir.join(file)).expect("dashboard");
    let dashboard: Dashboard = serde_json::from_str(&text).expect("valid");
    let variables = dashboard.templating.list.iter().filter_map(Variable::panel);
    let variables: Vec<Panel> = variables.collect();
    let panels = dashboard.panels.into_iter();
    panels
        .filter(|it| !it.queries.is_empty())
        .chain(variables)
        .collect()
}

impl Variable {
    /// The query of the variable's values; `label_values(METRIC, LABEL)` has values where the metric has the label.
    fn panel(&self) -> Option<Panel> {
        let sql = self.query["rawSql"].as_str().map(str::to_owned);
        let labels = self.query["query"].as_str();
        let labels = labels.and_then(|it| it.strip_prefix("label_values(")?.strip_suffix(')'));
        let expression = labels
            .and_then(|it| it.split_once(", "))
            .map(|(metric, label)| format!("count by ({label}) ({metric}{{{label}!=\"\"}})"));
        if sql.is_none() && expression.is_none() {
            return None;
        }
        Some(Panel {
            title: format!("variable {}", self.name),
            queries: vec![Query {
                expression,
                sql,
                instant: true,
            }],
        })
    }
}

/// A PromQL query with everything selected.
pub(crate) fn promql(expression: &str) -> String {
    let replaced = expression.replace("$__rate_interval", "15s");
    ["$edge", "$aggregator", "$node"]
        .iter()
        .fold(replaced, |text, variable| text.replace(variable, ".*"))
}

/// An SQL query with the plugin's macros and variables replaced; the time range is everything.
pub(crate) fn sql(text: &str, selection: Selection) -> anyhow::Result<String> {
    let mut sql = replace(text, "$__timeFilter(", |column| {
        format!("{column} >= toDateTime(0) AND {column} <= toDateTime(4294967295)")
    })?;
    sql = replace(&sql, "$__timeInterval(", |column| {
        format!("toStartOfInterval(toDateTime({column}), INTERVAL 60 second)")
    })?;
    sql = replace(&sql, "$__conditionalAll(", |arguments| match selection {
        Selection::All => "1=1".to_owned(),
        Selection::Chosen => {
            let condition = arguments.rsplit_once(',');
            condition
                .map_or(arguments, |(condition, _)| condition)
                .to_owned()
        }
    })?;
    for (name, values) in VALUES {
        sql = sql.replace(&format!("${{{name}:singlequote}}"), values);
    }
    match sql.contains('$') {
        true => bail!("a variable or macro is unknown: {sql}"),
        false => Ok(sql),
    }
}

/// Replaces each call of a macro by what `expand` makes of its arguments.
fn replace(text: &str, begin: &str, expand: impl Fn(&str) -> String) -> anyhow::Result<String> {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(begin) {
        let end = closing(after).with_context(|| format!("{begin} is not closed"))?;
        replaced += before;
        replaced += &expand(&after[..end]);
        rest = &after[end + 1..];
    }
    Ok(replaced + rest)
}

/// The position of the parenthesis that closes one before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}
