//! Prometheus rules: their metrics exist, every alert has its texts, a unit test and a runbook entry, and every runbook
//! entry has an alert. What the expressions do is tested by promtool.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::promql;
use crate::docs::Metric;

const SEVERITIES: [&str; 3] = ["critical", "warning", "info"];

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: Option<String>,
    record: Option<String>,
    expr: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<RuleTest>,
}

#[derive(Deserialize)]
struct RuleTest {
    name: String,
    input_series: Vec<InputSeries>,
    promql_expr_test: Vec<ExpressionTest>,
}

#[derive(Deserialize)]
struct InputSeries {
    series: String,
}

#[derive(Deserialize)]
struct ExpressionTest {
    exp_samples: Vec<ExpectedSample>,
}

#[derive(Deserialize)]
struct ExpectedSample {
    labels: String,
}

/// Checks the rules and returns the names of recording rules.
pub(super) fn check(
    rules: &Path,
    tests: &Path,
    runbook: &Path,
    metrics: &BTreeMap<String, Metric>,
) -> anyhow::Result<BTreeSet<String>> {
    let file: RuleFile = read(rules)?;
    let rules: Vec<Rule> = file.groups.into_iter().flat_map(|it| it.rules).collect();
    let recorded: BTreeSet<String> = rules.iter().filter_map(|it| it.record.clone()).collect();
    let tests: TestFile = read(tests)?;
    let runbook = fs::read_to_string(runbook).context("the runbook can't be read")?;
    let mut faults = Vec::new();
    for rule in &rules {
        let name = rule.alert.as_ref().or(rule.record.as_ref());
        let name = name.map_or("a rule without a name", String::as_str);
        let mut found = promql::faults(&rule.expr, metrics, &recorded);
        if rule.alert.is_some() {
            found.extend(rule.text_faults(name, &runbook));
            found.extend(test_fault(name, &tests.tests));
        }
        faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    let alerts: BTreeSet<&str> = rules.iter().filter_map(|it| it.alert.as_deref()).collect();
    let entries = entries(&runbook);
    let orphans = entries.iter().filter(|it| !alerts.contains(**it));
    faults.extend(orphans.map(|it| format!("the runbook entry {it} has no alert")));
    report(&faults)?;
    eprintln!(
        "    {} alerts and {} recording rules",
        alerts.len(),
        recorded.len()
    );
    Ok(recorded)
}

/// Lists the faults, and fails if there are any.
pub(super) fn report(faults: &[String]) -> anyhow::Result<()> {
    for fault in faults {
        eprintln!("    {fault}");
    }
    match faults.len() {
        0 => Ok(()),
        count => bail!("{count} faults, listed above"),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

impl Rule {
    fn text_faults(&self, name: &str, runbook: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let severity = self.labels.get("severity").map(String::as_str);
        if !severity.is_some_and(|it| SEVERITIES.contains(&it)) {
            faults.push(format!("the severity is not one of {SEVERITIES:?}"));
        }
        for text in ["summary", "description"] {
            if self.annotations.get(text).is_none_or(String::is_empty) {
                faults.push(format!("the annotation {text} is absent"));
            }
        }
        let entry = name.to_lowercase();
        let url = format!("docs/operations.md#{entry}");
        if self.annotations.get("runbook_url") != Some(&url) {
            faults.push(format!("runbook_url is not {url}"));
        }
        let expected = format!(
            "| <a id=\"{entry}\"></a>`{name}` ({}) |",
            severity.unwrap_or_default()
        );
        if !runbook.contains(&expected) {
            faults.push(format!(
                "the runbook has no row that begins with {expected}"
            ));
        }
        faults
    }
}

/// An alert's test has a case in which it fires, and one in which it does not.
fn test_fault(name: &str, tests: &[RuleTest]) -> Option<String> {
    let Some(test) = tests.iter().find(|it| it.name == name) else {
        return Some("there is no unit test of this name".to_owned());
    };
    let samples = test.promql_expr_test.iter().flat_map(|it| &it.exp_samples);
    let fires = samples
        .clone()
        .any(|it| it.labels.contains(&format!("alertname=\"{name}\"")));
    let has_quiet = test
        .input_series
        .iter()
        .any(|it| it.series.contains("instance=\"good"));
    match (fires, has_quiet) {
        (true, true) => None,
        (false, _) => Some("its unit test has no case in which it fires".to_owned()),
        (_, false) => Some("its unit test has no case in which it does not fire".to_owned()),
    }
}

/// The alerts that the runbook explains.
fn entries(runbook: &str) -> Vec<&str> {
    let rows = runbook.lines().filter(|line| line.starts_with("| <a id="));
    rows.filter_map(|row| row.split('`').nth(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(rules: &str, tests: &str, runbook: &str) -> bool {
        let dir = std::env::temp_dir().join(format!("rules-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).expect("written");
            path
        };
        let (rules, tests) = (write("rules", rules), write("tests", tests));
        let failed = check(&rules, &tests, &write("runbook", runbook), &BTreeMap::new()).is_err();
        fs::remove_dir_all(&dir).expect("removed");
        failed
    }

    #[test]
    fn alert_without_text_test_or_runbook_entry_is_a_fault() {
        let rules = "groups:\n  - rules:\n      - alert: TargetDown\n        expr: up == 0\n        labels: {severity: info}\n        \
                     annotations: {summary: a, description: b, runbook_url: docs/operations.md#targetdown}\n";
        let tests = "tests:\n  - name: TargetDown\n    input_series: [{series: 'up{instance=\"good\"}', values: 1}]\n    \
                     promql_expr_test: [{exp_samples: [{labels: '{alertname=\"TargetDown\"}'}]}]\n";
        let runbook = "| <a id=\"targetdown\"></a>`TargetDown` (info) | a |\n";
        assert!(!faults_of(rules, tests, runbook));
        let orphan = format!("{runbook}| <a id=\"x\"></a>`X` (info) | a |\n");
        let cases: [(&str, &str, &str); 8] = [
            (&rules.replace("info", "high"), tests, runbook),
            (&rules.replace("description: b, ", ""), tests, runbook),
            (&rules.replace("#targetdown", "#other"), tests, runbook),
            (&rules.replace("up ==", "edge_up =="), tests, runbook),
            (rules, &tests.replace("name: T", "name: t"), runbook),
            (rules, &tests.replace("good", "bad"), runbook),
            (rules, tests, &runbook.replace("info", "warning")),
            (rules, tests, &orphan),
        ];
        for (rules, tests, runbook) in cases {
            assert!(
                faults_of(rules, tests, runbook),
                "{rules}\n{tests}\n{runbook}"
            );
        }
    }
}
