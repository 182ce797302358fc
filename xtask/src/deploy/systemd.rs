//! systemd's units: `systemd-analyze verify`, and its assessment of their sandbox, without and with the example
//! drop-ins.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::tools::{Tools, files};
use super::{Checked, output};
use crate::step::on_path;

const DIR: &str = "deploy/systemd";
const UNITS: &str = "usr/lib/systemd/system";
/// The suffix of drop-ins that operators may copy.
const EXAMPLE: &str = ".conf.example";
/// The highest exposure, in tenths, that a unit may have (0 to 100).
const MAX_EXPOSURE: &str = "30";

/// Verifies every unit in a root directory of its own, where empty files replace the programs.
pub(super) fn check(tools: &Tools) -> anyhow::Result<Vec<Checked>> {
    if !on_path("systemd-analyze") {
        let skipped = "NOT CHECKED: systemd-analyze is missing (Debian: apt-get install systemd)";
        return Ok(vec![Checked::new(DIR, "systemd-analyze", skipped)]);
    }
    let mut checked = Vec::new();
    for unit in files(&crate::root().join(DIR), ".service")? {
        let name = file_name(&unit);
        let root = root(&tools.scratch("systemd")?, &unit)?;
        checked.push(verify(&root, &name, &name)?);
        let drop_ins = crate::root().join(DIR).join(format!("{name}.d"));
        if !drop_ins.is_dir() {
            continue;
        }
        for example in files(&drop_ins, EXAMPLE)? {
            let active = root.join(UNITS).join(format!("{name}.d/example.conf"));
            fs::create_dir_all(active.parent().context("a file has a directory")?)?;
            fs::copy(&example, active)?;
            checked.push(verify(
                &root,
                &name,
                &format!("{name} with {}", file_name(&example)),
            )?);
        }
    }
    Ok(checked)
}

fn verify(root: &Path, unit: &str, what: &str) -> anyhow::Result<Checked> {
    let mut verify = analyze(root);
    let verified = verify.args(["verify", "--man=no", unit]).output()?;
    let warnings = String::from_utf8_lossy(&verified.stderr);
    ensure!(
        verified.status.success() && warnings.is_empty(),
        "{what}: {warnings}"
    );
    let mut assess = analyze(root);
    assess.args(["security", "--offline=true", "--no-pager"]);
    let text = output(assess.arg(format!("--threshold={MAX_EXPOSURE}")).arg(unit))?;
    let level = text
        .lines()
        .find_map(|line| line.split_once(&*format!("{unit}: ")));
    let (_, level) = level.context("systemd-analyze security states no exposure level")?;
    let level = level.split_whitespace().next().unwrap_or_default();
    let outcome = format!("valid, exposure {level} of 10");
    Ok(Checked::new(what, "systemd-analyze", outcome))
}

fn analyze(root: &Path) -> Command {
    let mut command = Command::new("systemd-analyze");
    command.arg(format!("--root={}", root.display()));
    command
}

/// A root directory with the unit, the system's targets and empty programs.
fn root(root: &Path, unit: &Path) -> anyhow::Result<PathBuf> {
    let (units, programs) = (root.join(UNITS), root.join("usr/bin"));
    for dir in [&units, &programs] {
        fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
    }
    let mut copied = files(&Path::new("/").join(UNITS), ".target")?;
    copied.push(unit.to_owned());
    for file in copied {
        fs::copy(&file, units.join(file_name(&file)))
            .with_context(|| format!("failed to copy {}", file.display()))?;
    }
    for program in ["edge-tracker", "aggregator"] {
        let path = programs.join(program);
        fs::write(&path, "")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(root.to_owned())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
