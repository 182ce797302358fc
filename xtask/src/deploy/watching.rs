//! Checks of what operators watch with: Prometheus rules, their unit tests and runbook entries, and Grafana dashboards.

mod dashboards;
mod promql;
mod rules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::docs::{self, Metric};
use crate::step::{run, step};
use crate::{root, setup};

const RULES: &str = "fanzfiliate-edge.rules.yaml";
const RULE_TESTS: &str = "fanzfiliate-edge.rules.test.yaml";
const SCRAPE_CONFIGURATION: &str = "prometheus.yaml";

/// Runs all checks of rules and dashboards.
pub(crate) fn check() -> anyhow::Result<()> {
    setup::prometheus()?;
    let dir = root().join("deploy/prometheus");
    step("alerts: promtool", || promtool(&dir))?;
    let metrics = metrics()?;
    let recorded = step("alerts: metrics, runbook and tests", || {
        rules::check(
            &dir.join(RULES),
            &dir.join(RULE_TESTS),
            &runbook(),
            &metrics,
        )
    })?;
    step("dashboards", || {
        dashboards::check(&root().join("deploy/grafana"), &metrics, &recorded)
    })
}

fn promtool(dir: &Path) -> anyhow::Result<()> {
    let promtool = |args: &[&str]| run(Command::new("promtool").args(args).current_dir(dir));
    promtool(&["check", "config", SCRAPE_CONFIGURATION])?;
    promtool(&["test", "rules", RULE_TESTS])
}

fn runbook() -> PathBuf {
    root().join("docs/operations.md")
}

/// The metrics of both programs by name.
fn metrics() -> anyhow::Result<BTreeMap<String, Metric>> {
    let references = docs::references()?;
    let metrics = references.into_iter().flat_map(|it| it.metrics);
    Ok(metrics.map(|it| (it.name.clone(), it)).collect())
}
