//! Benchmarks side by side: the edge and what people use instead, on this machine, in one run.
//!
//! Every run checks that what was answered was also logged; figures of a server that loses clicks
//! are worth nothing. What the product does never belongs here.

pub mod baseline;
pub mod click;
mod client;
mod machine;
pub mod pipeline;
mod report;
mod requests;
mod response;
mod server;

use crate::links;
use anyhow::Context as _;
use machine::Cores;
use report::Sheet;
use server::Setting;
use std::fs;
use std::path::Path;

/// What servers are given: a fresh folder in `out`, a file of `count` links, two cores.
fn prepare(out: &Path, geo: &Path, count: usize) -> anyhow::Result<Setting> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let dir = out.canonicalize()?.join("work");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let links = dir.join("links.toml");
    Ok(Setting {
        geo: geo
            .canonicalize()
            .with_context(|| geo.display().to_string())?,
        slugs: links::write_many(count, &links)?,
        links,
        cores: Cores::find()?,
        dir,
    })
}

/// Writes `name.json` and `name.md` into `folder` and says so.
fn write_results(
    folder: &Path,
    name: &str,
    json: &serde_json::Value,
    sheets: &[Sheet],
) -> anyhow::Result<()> {
    let (json_file, text_file) = (
        folder.join(format!("{name}.json")),
        folder.join(format!("{name}.md")),
    );
    let text: String = sheets.iter().map(Sheet::markdown).collect();
    fs::write(&json_file, serde_json::to_string_pretty(json)?)
        .with_context(|| format!("cannot write {}", json_file.display()))?;
    fs::write(&text_file, text).with_context(|| format!("cannot write {}", text_file.display()))?;
    println!(
        "\nfigures: {}, tables: {}",
        json_file.display(),
        text_file.display()
    );
    Ok(())
}
