//! Python's tools for the checks, in an environment of their own below `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::setup;
use crate::step::{on_path, run, step};
use crate::target_dir;

/// The tools with their versions.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// Installed tools.
pub(super) struct Tools {
    dir: PathBuf,
}

impl Tools {
    /// A command of a tool.
    pub(super) fn command(&self, name: &str) -> Command {
        Command::new(self.bin(name))
    }

    fn bin(&self, name: &str) -> PathBuf {
        self.dir.join("venv/bin").join(name)
    }

    /// A directory for what the checks write, empty.
    pub(super) fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)
                .with_context(|| format!("failed to remove {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
        Ok(dir)
    }
}

/// Installs the tools unless these versions are installed.
pub(super) fn install() -> anyhow::Result<Tools> {
    let tools = Tools {
        dir: target_dir().join("deploy-tools"),
    };
    let installed = tools.dir.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == REQUIREMENTS) {
        return Ok(tools);
    }
    if !on_path("python3") {
        let why = "charts, container files and compose files are checked by Python's tools";
        setup::install("Python", &["python3", "python3-venv"], why)?;
    }
    let dir = tools.dir.display();
    step(
        &format!(
            "install Helm, checkov and validators of Kubernetes and compose into {dir} (once, 700 MB)"
        ),
        || install_into(&tools),
    )?;
    fs::write(&installed, REQUIREMENTS)
        .with_context(|| format!("failed to write {}", installed.display()))?;
    Ok(tools)
}

fn install_into(tools: &Tools) -> anyhow::Result<()> {
    let venv = tools.dir.join("venv");
    let requirements = tools.dir.join("requirements.txt");
    fs::create_dir_all(&tools.dir)
        .with_context(|| format!("failed to create {}", tools.dir.display()))?;
    fs::write(&requirements, REQUIREMENTS)
        .with_context(|| format!("failed to write {}", requirements.display()))?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .context("on Debian or Ubuntu: sudo apt-get install --yes python3-venv")?;
    let mut pip = tools.command("pip");
    pip.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ]);
    run(pip.arg(&requirements))
}

/// Names of files in a directory with a suffix, sorted.
pub(super) fn files(dir: &Path, suffix: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
