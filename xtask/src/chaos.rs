//! Builds the programs of `loadtest chaos`, including the older ones of its scenario `upgrade`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::step::{cargo, run, step};
use crate::{build_release, setup, target_dir};

const LOADTEST_HELP: &str = "\
Passed on to `loadtest chaos`:
  --scenario NAME    The faults to inject:
                       kill-edge, kill-aggregator, kill-engine: SIGKILL, one time in ten during start-up
                       partition: packets are lost, delayed, duplicated or blocked; as root, links fail, too
                       disk-full: disks fill up (root only)
                       spool-full: shipping is blocked until journals are full
                       slow-engine: ClickHouse stalls, is slow, or accepts blocks without a response
                       clock-jump: clocks of edges and aggregator jump (libfaketime is installed)
                       stolen-certificate: an intruder has the certificate and a copy of the directory of an edge
                       restored-edge: directories of edges are restored from older copies
                       cloned-edge: directories of edges are cloned, and both edges continue
                       lost-aggregator: spool or store are lost, or an older backup is restored
                       late-reports: reports of the same sales arrive out of order
                       wrong-clock: clocks of edges jump by days and years (libfaketime is installed)
                       scale-in: edges are drained, killed meanwhile, adopted, deleted and added again
                       upgrade: edge and aggregator change between an older build and this one
                       everything: all faults that lose no events and that this machine supports, several at a time
  --rounds N         Rounds; after each all events must arrive [default: 3]
  --seed S           Seed of the schedule of faults [default: 1]
  --faults N         Faults (kills) per round, instead of the scenario's default
  --rate N           Requests per second over all edges [default: 1000]
  --old DIR          Older edge-tracker and aggregator, instead of building them
  --keep DIR         Keep data and logs there

The last line is one JSON object. The exit code is 1 when an answered request is missing, is stored twice,
or has another id than its redirect, when an intrusion was not alerted, or when a conversion
differs from the result of its sorted reports.";

/// Options of a chaos run, and the source of older programs.
#[derive(clap::Args)]
#[command(after_help = LOADTEST_HELP)]
pub(crate) struct ChaosOptions {
    /// Git revision that the older programs are built from: for `upgrade` (default: the newest tag, else the
    /// previous commit) and, only if given, for `everything`.
    #[arg(long, value_name = "REV")]
    from: Option<String>,
    /// Passed on to `loadtest chaos`, see below.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

impl ChaosOptions {
    /// Replaces this process with `loadtest chaos`.
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
            let dir = build_older(self.from.as_deref())?;
            self.args.extend(["--old".into(), dir.into()]);
        }
        let mut chaos = Command::new(target_dir().join("release/loadtest"));
        // Replaces this process, so that Ctrl-C and the exit code are the run's own.
        Err(chaos.arg("chaos").args(self.args).exec()).context("failed to start the run")
    }
}

/// The directory of programs built from an older revision.
fn build_older(from: Option<&str>) -> anyhow::Result<PathBuf> {
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
