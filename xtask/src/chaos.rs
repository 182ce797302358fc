//! Builds what `loadtest chaos` needs, the older programs of its scenario `upgrade` included.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::step::{cargo, on_path, run, step};
use crate::{build_release, setup, target_dir};

/// What goes wrong, and where older programs come from.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The git revision that the older programs of `upgrade` are built from; by default the newest tag,
    /// else the commit before the last one.
    #[arg(long, value_name = "REV")]
    from: Option<String>,
    /// Passed on to `loadtest chaos`: --scenario NAME, --rounds N, --seed S, … (see --help there).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

impl Options {
    /// Becomes `loadtest chaos`.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        setup::run_all()?;
        build_release()?;
        let named = |word: &str| {
            self.args
                .iter()
                .any(|arg| arg.to_string_lossy().contains(word))
        };
        if named("clock-jump") {
            faketime()?;
        }
        if named("upgrade") && !named("--old") {
            let older = older(self.from.as_deref())?;
            self.args.extend(["--old".into(), older.into()]);
        }
        let mut chaos = Command::new(target_dir().join("release/loadtest"));
        // Replaces this process, so that Ctrl-C and the exit code are the run's own.
        Err(chaos.arg("chaos").args(self.args).exec()).context("cannot start the run")
    }
}

fn faketime() -> anyhow::Result<()> {
    if on_path("faketime") {
        return Ok(());
    }
    step(
        "install libfaketime: it sets the clocks of single processes",
        || {
            run(Command::new("apt-get").args(["install", "--yes", "faketime"]))
                .context("install libfaketime by hand (Debian's package is called faketime)")
        },
    )
}

/// The folder of programs built from an older revision.
fn older(from: Option<&str>) -> anyhow::Result<PathBuf> {
    let revision = match from {
        Some(revision) => git(&["rev-parse", "--verify", revision])?,
        None => {
            git(&["describe", "--tags", "--abbrev=0"]).or_else(|_| git(&["rev-parse", "HEAD^"]))?
        }
    };
    let base = target_dir().join("older");
    let tree = base.join("tree");
    let shown = tree.display().to_string();
    if tree.exists() {
        run(Command::new("git").args(["-C", &shown, "checkout", "--quiet", "--detach", &revision]))?;
    } else {
        git(&["worktree", "prune"])?;
        git(&["worktree", "add", "--detach", &shown, &revision])?;
    }
    step(&format!("build {revision} for release"), || {
        let mut build = cargo([
            "build",
            "--release",
            "-p",
            "edge-tracker",
            "-p",
            "aggregator",
        ]);
        run(build
            .current_dir(&tree)
            .env("CARGO_TARGET_DIR", base.join("target")))
    })?;
    Ok(base.join("target/release"))
}

fn git(arguments: &[&str]) -> anyhow::Result<String> {
    let done = Command::new("git")
        .args(arguments)
        .current_dir(crate::root())
        .output()?;
    ensure!(
        done.status.success(),
        "git {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}
