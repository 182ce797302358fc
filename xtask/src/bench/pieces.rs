//! Runs the benchmarks of single parts and reads criterion's results. Invariant: no budgets here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::budgets::{self, BudgetResult};
use crate::step::{cargo, run as run_command, step};

/// Packages and their benchmarks, all written with criterion.
const BENCHMARKS: [(&str, &str); 5] = [
    ("tracking-events", "codec"),
    ("event-journal", "append"),
    ("event-shipping", "seal"),
    ("edge-tracker", "pieces"),
    ("aggregator", "block"),
];

/// Part of criterion's `benchmark.json`.
#[derive(Deserialize)]
struct Piece {
    full_id: String,
    throughput: Option<Throughput>,
}

#[derive(Deserialize)]
enum Throughput {
    Elements(u64),
}

/// Part of criterion's `estimates.json`.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

/// Runs the benchmarks, prints and writes the table, and fails if a part is above its budget.
pub(super) fn run(args: &[OsString]) -> anyhow::Result<()> {
    let budgets = budgets::read(&crate::root().join("xtask/budgets.toml"))?;
    let target = std::path::absolute(crate::target_dir())?;
    let criterion = target.join("criterion");
    let started = SystemTime::now();
    step("measure (the first build takes some minutes)", || {
        run_command(bench(args).env("CRITERION_HOME", &criterion))
    })?;
    let results = budgets::compare_all(&measured_since(&criterion, started)?, &budgets);
    print(&results);
    write(&target.join("bench/pieces.json"), &results)?;
    let faults = results.iter().filter(|it| it.verdict.is_fault());
    match faults.count() {
        0 => Ok(()),
        count => bail!("{count} parts are above their budget or have none, see the table"),
    }
}

/// A single command: separate ones would rebuild each package with other features.
fn bench(args: &[OsString]) -> Command {
    let mut command = cargo(["bench"]);
    for (package, bench) in BENCHMARKS {
        command.args(["--package", package, "--bench", bench]);
    }
    command.arg("--").args(args);
    command
}

/// The median of each part in nanoseconds per iteration or element. Results of earlier runs are skipped.
fn measured_since(criterion: &Path, started: SystemTime) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut measured = BTreeMap::new();
    for dir in result_dirs(criterion)? {
        let estimates = dir.join("estimates.json");
        if fs::metadata(&estimates)?.modified()? < started {
            continue;
        }
        let piece: Piece = read_json(&dir.join("benchmark.json"))?;
        let median = read_json::<Estimates>(&estimates)?.median.point_estimate;
        let elements = match piece.throughput {
            Some(Throughput::Elements(count)) => count as f64,
            None => 1.0,
        };
        measured.insert(piece.full_id, median / elements);
    }
    Ok(measured)
}

/// All directories `new` with estimates; criterion keeps the last measurement there. A benchmark may itself be
/// called `new`.
fn result_dirs(criterion: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![criterion.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                let results = path.ends_with("new") && path.join("estimates.json").is_file();
                let list = if results { &mut found } else { &mut dirs };
                list.push(path);
            }
        }
    }
    Ok(found)
}

fn read_json<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let shown = || format!("failed to read {}", file.display());
    let text = fs::read_to_string(file).with_context(shown)?;
    serde_json::from_str(&text).with_context(shown)
}

fn print(results: &[BudgetResult]) {
    let width = results.iter().map(|it| it.piece.len()).max();
    let width = width.unwrap_or_default();
    let shown = |nanos: Option<f64>| nanos.map_or("-".to_owned(), |nanos| format!("{nanos:.1} ns"));
    println!(
        "{:<width$}  {:>13}  {:>13}  verdict",
        "piece", "measured", "budget"
    );
    for line in results {
        let (nanos, budget) = (shown(line.nanos), shown(line.budget_nanos));
        let verdict = line.verdict.text();
        println!(
            "{:<width$}  {nanos:>13}  {budget:>13}  {verdict}",
            line.piece
        );
    }
}

fn write(file: &Path, results: &[BudgetResult]) -> anyhow::Result<()> {
    let dir = file.parent().context("the file has no directory")?;
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    fs::write(file, serde_json::to_vec_pretty(results)?)
        .with_context(|| format!("failed to write {}", file.display()))
}
