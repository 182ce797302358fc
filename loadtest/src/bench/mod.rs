//! Benchmarks of the edge and of common alternatives on this machine, in one run.
//!
//! Every run checks that answered requests were also logged: figures of a server that loses clicks are worthless.
//! Product code never belongs here.

pub mod baseline;
pub mod click;
mod client;
pub mod functions;
pub(crate) mod journal;
pub(crate) mod machine;
pub mod pipeline;
mod report;
mod requests;
mod response;
mod rows;
mod server;
mod stages;

use crate::links;
use anyhow::{Context as _, ensure};
use machine::Cores;
use report::{Goal, TextTable, goals_sheet};
use server::BenchSetup;
use std::fs;
use std::path::{Path, PathBuf};

/// The setup of servers: a fresh directory in `out`, a file of `count` links, two cores.
fn prepare(out: &Path, geo: &Path, count: usize) -> anyhow::Result<BenchSetup> {
    let dir = create_work_dir(out)?;
    let links = dir.join("links.toml");
    Ok(BenchSetup {
        geo: geo
            .canonicalize()
            .with_context(|| geo.display().to_string())?,
        slugs: links::write_many(count, &links)?,
        links,
        cores: Cores::find()?,
        earlier: None,
        dir,
    })
}

/// Creates a fresh directory in `out` for files of processes.
fn create_work_dir(out: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("failed to create {}", out.display()))?;
    let dir = out.canonicalize()?.join("work");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Results of a benchmark.
struct Findings {
    /// Figures by round.
    json: serde_json::Value,
    sheets: Vec<TextTable>,
    goals: Vec<Goal>,
    /// Measurements that this machine does not support, with the reason.
    missing: Vec<String>,
}

impl Findings {
    /// Prints the results, writes `name.json` and `name.md` to `dir`, and fails if `strict` is set and a goal was
    /// missed.
    fn conclude(mut self, dir: &Path, name: &str, strict: bool) -> anyhow::Result<()> {
        if !self.goals.is_empty() {
            self.sheets.push(goals_sheet(&self.goals));
        }
        self.json["goals"] = serde_json::to_value(&self.goals)?;
        self.json["missing"] = serde_json::to_value(&self.missing)?;
        for sheet in &self.sheets {
            print!("{}", sheet.table());
        }
        for line in &self.missing {
            println!("{line}");
        }
        let text: String = self.sheets.iter().map(TextTable::markdown).collect();
        let write = |ending: &str, text: String| {
            let file = dir.join(format!("{name}.{ending}"));
            fs::write(&file, text)
                .with_context(|| format!("failed to write {}", file.display()))?;
            anyhow::Ok(file)
        };
        let json = write("json", serde_json::to_string_pretty(&self.json)?)?;
        let tables = write("md", text)?;
        println!(
            "\nfigures: {}, tables: {}",
            json.display(),
            tables.display()
        );
        let missed = self.goals.iter().filter(|goal| goal.missed()).count();
        ensure!(!strict || missed == 0, "{missed} goals were missed");
        Ok(())
    }
}
