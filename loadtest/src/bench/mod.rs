//! Benchmarks side by side: the edge and what people use instead, on this machine, in one run.
//!
//! Every run checks that what was answered was also logged; figures of a server that loses clicks
//! are worth nothing. What the product does never belongs here.

pub mod baseline;
mod calm;
pub mod click;
mod client;
pub mod edges;
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
use report::{Goal, Sheet, goals_sheet};
use server::Setting;
use std::fs;
use std::path::{Path, PathBuf};

/// What servers are given: a fresh folder in `out`, a file of `count` links, two cores.
fn prepare(out: &Path, geo: &Path, count: usize) -> anyhow::Result<Setting> {
    let dir = work_folder(out)?;
    let links = dir.join("links.toml");
    Ok(Setting {
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

/// A fresh folder in `out` for the files of processes.
fn work_folder(out: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let dir = out.canonicalize()?.join("work");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// What a benchmark found.
struct Findings {
    /// Its figures by round.
    json: serde_json::Value,
    sheets: Vec<Sheet>,
    goals: Vec<Goal>,
    /// What could not be measured here, and why.
    missing: Vec<String>,
}

impl Findings {
    /// Prints all, writes `name.json` and `name.md` into `folder`, and fails when `strict` and a
    /// goal was missed.
    fn conclude(mut self, folder: &Path, name: &str, strict: bool) -> anyhow::Result<()> {
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
        let text: String = self.sheets.iter().map(Sheet::markdown).collect();
        let write = |ending: &str, text: String| {
            let file = folder.join(format!("{name}.{ending}"));
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
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
