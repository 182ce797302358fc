//! The house rules that no other tool knows, each with its reason in its message.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

const MAX_LINES: usize = 600;
/// The only crates that may hold unsafe code: mapped files, and the library loaded at run time.
const UNSAFE_CRATES: [&str; 2] = ["crates/storage", "crates/clickhouse-embedded"];

/// Checks every Rust file below `root`.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    let mut faults = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = file.strip_prefix(root).unwrap_or(&file);
        faults.extend(faults_of(name, &text));
    }
    for fault in &faults {
        eprintln!("    {fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults, listed above", faults.len());
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn faults_of(name: &Path, text: &str) -> Vec<String> {
    let shown = name.display();
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!(
            "{shown}: starts without `//!`; say what belongs here and what never does"
        ));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        faults.push(format!(
            "{shown}: {lines} lines, above {MAX_LINES}; it has more than one concern"
        ));
    }
    let is_root = name.ends_with("src/lib.rs") || name.ends_with("src/main.rs");
    let may = UNSAFE_CRATES.iter().any(|exempt| name.starts_with(exempt));
    if is_root && !may && !text.contains("#![forbid(unsafe_code)]") {
        faults.push(format!(
            "{shown}: lacks `#![forbid(unsafe_code)]`; unsafe code lives in two crates"
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_fault() {
        let good = "//! x\n#![forbid(unsafe_code)]\n";
        assert!(faults_of(Path::new("a/src/lib.rs"), good).is_empty());
        assert_eq!(faults_of(Path::new("a/src/lib.rs"), "//! x\n").len(), 1);
        assert!(faults_of(Path::new("crates/storage/src/lib.rs"), "//! x\n").is_empty());
        assert_eq!(faults_of(Path::new("a/src/b.rs"), "fn x() {}\n").len(), 1);
        assert_eq!(
            faults_of(Path::new("a/src/b.rs"), &"//! x\n".repeat(601)).len(),
            1
        );
    }
}
