//! Checks everything in `deploy/` without a cluster: what operators install must be valid, and what it configures must
//! be accepted by the programs.

mod compose;
mod containers;
mod helm;
mod systemd;
mod tools;
mod watching;

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::step::{cargo, run, step};
use crate::{functions, target_dir};

/// One row of the table that a check prints.
struct Checked {
    what: String,
    how: &'static str,
    /// What was found valid, or why nothing was checked.
    outcome: String,
}

impl Checked {
    fn new(what: impl Into<String>, how: &'static str, outcome: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            how,
            outcome: outcome.into(),
        }
    }
}

/// Checks all of `deploy/`; the first failure ends the run.
pub(crate) fn check_all() -> anyhow::Result<()> {
    let tools = tools::install()?;
    functions::build()?;
    build_programs()?;
    let mut table = Vec::new();
    table.extend(step("Helm chart", || helm::check(&tools))?);
    table.extend(step("systemd units", || systemd::check(&tools))?);
    table.extend(step("container files", || containers::check(&tools))?);
    table.extend(step("compose file", || compose::check(&tools))?);
    print(&table);
    watching::check()
}

/// The programs that read the settings of the chart and the units.
fn build_programs() -> anyhow::Result<()> {
    step("build the programs that read the settings", || {
        let mut build = cargo(["build", "--workspace", "--examples"]);
        run(build.args(["--bin", "edge-tracker", "--bin", "aggregator"]))
    })
}

/// A command of a program of this workspace.
fn program(name: &str) -> Command {
    Command::new(target_dir().join("debug").join(name))
}

/// Runs a command and returns its standard output; its error output is part of the error.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{command:?}");
    let done = command
        .output()
        .with_context(|| format!("failed to start {shown}"))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let errors = String::from_utf8_lossy(&done.stderr);
        bail!("{shown} exited with {}\n{text}{errors}", done.status);
    }
    Ok(text)
}

fn print(table: &[Checked]) {
    let width = |texts: fn(&Checked) -> &str| {
        let lengths = table.iter().map(|row| texts(row).chars().count());
        lengths.max().unwrap_or_default()
    };
    let (what, how) = (width(|row| &row.what), width(|row| row.how));
    for row in table {
        println!("{:what$}  {:how$}  {}", row.what, row.how, row.outcome);
    }
}
