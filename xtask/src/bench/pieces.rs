//! Runs the benchmarks of single pieces and reads what criterion wrote down of them. What a piece
//! may cost is not known here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::budgets::{self, Judged};
use crate::step::{cargo, run as run_command, step};

/// Package and benchmark; all are criterion's.
const TARGETS: [(&str, &str); 5] = [
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

/// Measures, prints the table, writes it down, and fails when a piece is above its budget.
pub(super) fn run(args: &[OsString]) -> anyhow::Result<()> {
    let budgets = budgets::read(&crate::root().join("xtask/budgets.toml"))?;
    let target = std::path::absolute(crate::target_dir())?;
    let criterion = target.join("criterion");
    let begun = SystemTime::now();
    step(
        "measure (building for it the first time takes some minutes)",
        || run_command(bench(args).env("CRITERION_HOME", &criterion)),
    )?;
    let judged = budgets::judge(&measured_since(&criterion, begun)?, &budgets);
    print(&judged);
    write(&target.join("bench/pieces.json"), &judged)?;
    let faults = judged.iter().filter(|judged| judged.verdict.is_fault());
    match faults.count() {
        0 => Ok(()),
        count => bail!("{count} pieces are above their budget or have none, see the table"),
    }
}

/// All in one command: on its own, each package would be built anew with its own features.
fn bench(args: &[OsString]) -> Command {
    let mut command = cargo(["bench"]);
    for (package, bench) in TARGETS {
        command.args(["--package", package, "--bench", bench]);
    }
    command.arg("--").args(args);
    command
}

/// The median of each piece, in nanoseconds per iteration or element. What earlier runs left is
/// passed over.
fn measured_since(criterion: &Path, begun: SystemTime) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut measured = BTreeMap::new();
    for folder in folders_of_results(criterion)? {
        let estimates = folder.join("estimates.json");
        if fs::metadata(&estimates)?.modified()? < begun {
            continue;
        }
        let piece: Piece = read_json(&folder.join("benchmark.json"))?;
        let median = read_json::<Estimates>(&estimates)?.median.point_estimate;
        let elements = match piece.throughput {
            Some(Throughput::Elements(count)) => count as f64,
            None => 1.0,
        };
        measured.insert(piece.full_id, median / elements);
    }
    Ok(measured)
}

/// Every folder `new` below with estimates in it; criterion keeps the last measurement there. A
/// piece may be called `new` itself.
fn folders_of_results(criterion: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![criterion.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                let results = path.ends_with("new") && path.join("estimates.json").is_file();
                let list = if results { &mut found } else { &mut folders };
                list.push(path);
            }
        }
    }
    Ok(found)
}

fn read_json<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let shown = || format!("cannot read {}", file.display());
    let text = fs::read_to_string(file).with_context(shown)?;
    serde_json::from_str(&text).with_context(shown)
}

fn print(judged: &[Judged]) {
    let width = judged.iter().map(|judged| judged.piece.len()).max();
    let width = width.unwrap_or_default();
    let shown = |nanos: Option<f64>| nanos.map_or("-".to_owned(), |nanos| format!("{nanos:.1} ns"));
    println!(
        "{:<width$}  {:>13}  {:>13}  verdict",
        "piece", "measured", "budget"
    );
    for line in judged {
        let (nanos, budget) = (shown(line.nanos), shown(line.budget_nanos));
        let verdict = line.verdict.text();
        println!(
            "{:<width$}  {nanos:>13}  {budget:>13}  {verdict}",
            line.piece
        );
    }
}

fn write(file: &Path, judged: &[Judged]) -> anyhow::Result<()> {
    let folder = file.parent().context("the file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(file, serde_json::to_vec_pretty(judged)?)
        .with_context(|| format!("cannot write {}", file.display()))
}
