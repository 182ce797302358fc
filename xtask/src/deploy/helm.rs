//! The Helm chart: rendered over a matrix of values, validated for several versions of Kubernetes, scanned by checkov,
//! and its settings read by the programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::tools::Tools;
use super::{Checked, output, program};
use crate::docs::CHART;

const SCRIPT: &str = "xtask/src/deploy/chart.py";
const MATRIX: &str = "deploy/helm/tests";
const CHECKOV: &str = "deploy/helm/checkov.yaml";
/// The user of the pods.
const USER: &str = "65532";
/// Nodes of the matrix of values.
const NODES: std::ops::RangeInclusive<u16> = 1..=9;

/// What the script prints.
#[derive(Deserialize)]
struct Report {
    rows: Vec<(String, String)>,
    roots: Vec<PodFiles>,
    failures: Vec<String>,
}

/// The settings of a pod, in a directory with all files that the pod sees.
#[derive(Deserialize)]
struct PodFiles {
    case: String,
    program: String,
    config: PathBuf,
}

/// Checks the chart.
pub(super) fn check(tools: &Tools) -> anyhow::Result<Vec<Checked>> {
    check_version()?;
    let out = tools.scratch("chart")?;
    let fixtures = fixtures(&out)?;
    let report = render(tools, &fixtures, &out)?;
    ensure!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    let rows = report.rows.into_iter();
    let mut checked: Vec<Checked> = rows
        .map(|(case, outcome)| Checked::new(format!("chart, {case}"), "helm, schemas", outcome))
        .collect();
    checked.push(settings(&report.roots)?);
    checked.push(unprivileged(&report.roots)?);
    checked.push(scan(tools, &out.join("rendered"))?);
    Ok(checked)
}

/// Chart and programs are released together.
fn check_version() -> anyhow::Result<()> {
    let text = fs::read_to_string(crate::root().join(CHART).join("Chart.yaml"))?;
    let version = env!("CARGO_PKG_VERSION");
    for key in ["version", "appVersion"] {
        let expected = format!("{key}: {version}");
        ensure!(
            text.lines().any(|line| line == expected),
            "{CHART}/Chart.yaml must contain `{expected}`, the programs' version"
        );
    }
    Ok(())
}

fn render(tools: &Tools, fixtures: &Path, out: &Path) -> anyhow::Result<Report> {
    let root = crate::root();
    let mut script = tools.command("python");
    script.arg("-B").arg(root.join(SCRIPT));
    script.args([&root.join(CHART), &root.join(MATRIX)]);
    let printed = output(script.args([fixtures, out]))?;
    serde_json::from_str(&printed).with_context(|| format!("{SCRIPT} printed {printed}"))
}

/// Files that the matrix's existing secrets and volumes stand for.
fn fixtures(out: &Path) -> anyhow::Result<PathBuf> {
    let dir = out.join("fixtures");
    fs::create_dir_all(dir.join("volumes"))?;
    for file in super::tools::files(&crate::root().join(MATRIX).join("files"), "")? {
        let name = file.file_name().unwrap_or_default();
        fs::copy(&file, dir.join(name))
            .with_context(|| format!("failed to copy {}", file.display()))?;
    }
    fs::copy(dir.join("links.toml"), dir.join("volumes/links.toml"))?;
    std::os::unix::fs::symlink(crate::root().join("wasm-functions"), dir.join("functions"))?;
    certificates(&dir)?;
    Ok(dir)
}

fn certificates(dir: &Path) -> anyhow::Result<()> {
    let issue = |words: &[&str], to: &str| {
        let mut command = program("aggregator");
        output(command.current_dir(dir).args(words).args(["--out", to])).map(drop)
    };
    issue(&["create-authority"], "authority")?;
    issue(&["issue-aggregator-certificate"], "issued-aggregator")?;
    for name in ["ca.pem", "aggregator.pem", "aggregator.key"] {
        fs::copy(dir.join("issued-aggregator").join(name), dir.join(name))?;
    }
    for node in NODES {
        let to = format!("issued-{node}");
        issue(
            &["issue-edge-certificate", "--node", &node.to_string()],
            &to,
        )?;
        for kind in ["pem", "key"] {
            let from = dir.join(&to).join(format!("edge.{kind}"));
            fs::copy(from, dir.join(format!("edge-{node}.{kind}")))?;
        }
    }
    Ok(())
}

fn check_command(files: &PodFiles) -> Command {
    let mut check = program(&files.program);
    check.arg("check").arg("--config").arg(&files.config);
    check
}

/// Lets the programs read every rendered settings file and what it names.
fn settings(roots: &[PodFiles]) -> anyhow::Result<Checked> {
    for files in roots {
        output(&mut check_command(files))
            .with_context(|| format!("settings of the case {}", files.case))?;
    }
    let outcome = format!("{} settings files accepted", roots.len());
    Ok(Checked::new(
        "chart, settings",
        "edge-tracker, aggregator check",
        outcome,
    ))
}

/// Reads secrets as pods do: root's, by their group.
fn unprivileged(roots: &[PodFiles]) -> anyhow::Result<Checked> {
    let row =
        |outcome: String| Checked::new("chart, secrets of root", "check as another user", outcome);
    let is_root = output(Command::new("id").arg("-u"))?.trim() == "0";
    if !is_root {
        return Ok(row("NOT CHECKED: only root can run as another user".into()));
    }
    let mut count = 0;
    for files in roots {
        let dir = files
            .config
            .parent()
            .context("a settings file has a directory")?;
        output(
            Command::new("chown")
                .args(["-R", &format!("root:{USER}")])
                .arg(dir),
        )?;
        output(Command::new("chmod").args(["-R", "u=rX,g=rX,o="]).arg(dir))?;
        let check = check_command(files);
        let mut other = Command::new("setpriv");
        other.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
        other.arg(check.get_program()).args(check.get_args());
        output(&mut other).with_context(|| format!("settings of the case {}", files.case))?;
        count += 1;
    }
    Ok(row(format!("{count} settings files accepted")))
}

/// Scans the rendered objects; deploy/helm/checkov.yaml explains the exceptions.
fn scan(tools: &Tools, rendered: &Path) -> anyhow::Result<Checked> {
    let mut scan = tools.command("checkov");
    scan.arg("--directory").arg(rendered);
    scan.arg("--config-file").arg(crate::root().join(CHECKOV));
    let printed = output(&mut scan)?;
    let summary = printed
        .lines()
        .find(|line| line.starts_with("Passed checks"));
    let Some(summary) = summary else {
        bail!("checkov printed no summary: {printed}");
    };
    Ok(Checked::new("chart, rendered objects", "checkov", summary))
}
