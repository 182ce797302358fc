//! Builds what `loadtest chaos` needs, the older programs of its scenario `upgrade` included.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::step::{cargo, run, step};
use crate::{build_release, setup, target_dir};

const PASSED_ON: &str = "\
Passed on to `loadtest chaos`:
  --scenario NAME    What goes wrong:
                       kill-edge, kill-aggregator, kill-engine: SIGKILL, one time in ten while it starts
                       partition: packets lost, late, doubled or cut off; as root, cables pulled, too
                       disk-full: disks fill up (root only)
                       spool-full: nothing is shipped until journals are full
                       slow-engine: ClickHouse stands still, is slow, or takes blocks and never says so
                       clock-jump: clocks of edges and aggregator jump (libfaketime is installed)
                       stolen-certificate: an intruder has the certificate and a copy of the directory of an edge
                       restored-edge: directories of edges are restored from older copies
                       cloned-edge: directories of edges are cloned, and both edges go on
                       lost-aggregator: spool or store are lost, or an older backup is put back
                       late-reports: reports of the same sales arrive out of order
                       wrong-clock: clocks of edges jump by days and years (libfaketime is installed)
                       upgrade: an older build and this one change places
                       everything: all that loses nothing and is possible here, several at a time
  --rounds N         Rounds; after each all must have arrived [default: 3]
  --seed S           Says what happens when, and to whom [default: 1]
  --faults N         Faults (kills) in each round, instead of what is usual for the scenario
  --rate N           Requests a second over all edges [default: 1000]
  --old FOLDER       Older edge-tracker and aggregator, instead of building them
  --keep FOLDER      Keep data and logs there

The last line is one JSON object. The exit code is 1 when an answered request is missing, is there twice,
or has another id than its visitor was sent away with, when an intrusion was not alerted, or when a conversion
stands otherwise than its sorted reports say.";

/// What goes wrong, and where older programs come from.
#[derive(clap::Args)]
#[command(after_help = PASSED_ON)]
pub(crate) struct Options {
    /// The git revision that the older programs are built from, for `upgrade` (by default the newest tag,
    /// else the commit before the last one) and, only if it is given, for `everything`.
    #[arg(long, value_name = "REV")]
    from: Option<String>,
    /// Passed on to `loadtest chaos`, see below.
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
        if named("clock-jump") || named("wrong-clock") {
            setup::faketime()?;
        }
        let wanted = named("upgrade") || self.from.is_some();
        if wanted && !named("--old") {
            let older = older(self.from.as_deref())?;
            self.args.extend(["--old".into(), older.into()]);
        }
        let mut chaos = Command::new(target_dir().join("release/loadtest"));
        // Replaces this process, so that Ctrl-C and the exit code are the run's own.
        Err(chaos.arg("chaos").args(self.args).exec()).context("cannot start the run")
    }
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
