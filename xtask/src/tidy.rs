//! House rules that no other tool checks. Each fault names its place and its correction.

mod documents;
mod imports;
mod sources;
mod words;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// A tracked text file.
struct Text {
    /// Path relative to the repository's root.
    path: PathBuf,
    text: String,
}

/// A violation of a rule, with its correction.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    path: PathBuf,
    line: Option<usize>,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl Text {
    fn fault(&self, line: impl Into<Option<usize>>, message: String) -> Fault {
        Fault {
            path: self.path.clone(),
            line: line.into(),
            message,
        }
    }

    fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|it| it == extension)
    }
}

/// Checks every tracked file below `root`.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let texts = tracked(root)?;
    let sources: Vec<&Text> = texts.iter().filter(|it| it.has_extension("rs")).collect();
    let mut faults: Vec<Fault> = texts.iter().flat_map(words::faults).collect();
    faults.extend(sources.iter().flat_map(|it| sources::long_test_names(it)));
    faults.extend(imports::faults(&sources));
    faults.extend(sources.iter().flat_map(|it| sources::faults(it)));
    faults.extend(documents::faults(&texts));
    for fault in &faults {
        eprintln!("    {fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults, listed above", faults.len());
    }
    Ok(())
}

/// All text files that git tracks or would track.
fn tracked(root: &Path) -> anyhow::Result<Vec<Text>> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .context("git is needed to know which files there are")?;
    ensure!(
        listed.status.success(),
        "git ls-files failed in {}",
        root.display()
    );
    let names = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
    let mut texts = Vec::new();
    for name in names.split_terminator('\0') {
        // A deleted file may still be tracked.
        let Ok(bytes) = fs::read(root.join(name)) else {
            continue;
        };
        if let Ok(text) = String::from_utf8(bytes) {
            texts.push(Text {
                path: name.into(),
                text,
            });
        }
    }
    Ok(texts)
}
