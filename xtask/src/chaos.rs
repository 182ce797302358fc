//! Builds the programs of `loadtest chaos`, including the older ones of its scenario `upgrade`.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::value_parser;

use crate::step::{cargo, run, step};
use crate::{build_release, setup, target_dir};

const EXIT_CODE: &str = "\
The last line is one JSON object. The exit code is 1 when an answered request is missing, is stored twice,
or has another id than its redirect, when an intrusion was not alerted, or when a conversion
differs from the result of its sorted reports.";

/// The scenarios of `loadtest chaos`.
const SCENARIOS: [(&str, &str); 17] = [
    (
        "kill-edge",
        "SIGKILL for edges, one time in ten during start-up",
    ),
    ("kill-aggregator", "SIGKILL for the aggregator"),
    ("kill-engine", "SIGKILL for ClickHouse"),
    (
        "partition",
        "Packets are lost, delayed, duplicated or blocked; as root, links fail, too",
    ),
    ("disk-full", "Disks fill up (root only)"),
    ("spool-full", "Shipping is blocked until journals are full"),
    (
        "slow-engine",
        "ClickHouse stalls, is slow, or accepts blocks without a response",
    ),
    (
        "clock-jump",
        "Clocks of edges and aggregator jump (libfaketime is installed)",
    ),
    (
        "stolen-certificate",
        "An intruder has the certificate and a copy of the directory of an edge",
    ),
    (
        "restored-edge",
        "Directories of edges are restored from older copies",
    ),
    (
        "cloned-edge",
        "Directories of edges are cloned, and both edges continue",
    ),
    (
        "lost-aggregator",
        "Spool or store are lost, or an older backup is restored",
    ),
    (
        "late-reports",
        "Reports of the same sales arrive out of order",
    ),
    (
        "wrong-clock",
        "Clocks of edges jump by days and years (libfaketime is installed)",
    ),
    (
        "scale-in",
        "Edges are drained, killed meanwhile, adopted, deleted and added again",
    ),
    (
        "upgrade",
        "Edge and aggregator change between an older build and this one",
    ),
    (
        "everything",
        "All faults that lose no events and that this machine supports, several at a time",
    ),
];

/// Options of a chaos run, and the source of older programs. They are parsed before the build, which takes long.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODE)]
pub(crate) struct ChaosOptions {
    /// The faults to inject.
    #[arg(long, value_name = "NAME", value_parser = scenarios())]
    scenario: String,
    /// Rounds; after each all events must arrive.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// Seed of the schedule of faults.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Faults (kills) per round, instead of the scenario's default.
    #[arg(long, value_name = "N", visible_alias = "kills")]
    faults: Option<u32>,
    /// Requests per second over all edges.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..))]
    rate: u32,
    /// Older edge-tracker and aggregator, instead of building them: their directory, or a package's tarball.
    #[arg(long, value_name = "PATH")]
    old: Option<PathBuf>,
    /// Newer edge-tracker and aggregator, instead of those of this checkout: their directory, or a package's tarball.
    #[arg(long, value_name = "PATH")]
    new: Option<PathBuf>,
    /// Keep data and logs there.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Git revision that the older programs are built from: for `upgrade` (default: the newest tag, else the
    /// previous commit) and, only if given, for `everything`.
    #[arg(long, value_name = "REV")]
    from: Option<String>,
}

fn scenarios() -> PossibleValuesParser {
    let values = SCENARIOS.map(|(name, faults)| PossibleValue::new(name).help(faults));
    PossibleValuesParser::new(values)
}

impl ChaosOptions {
    /// Replaces this process with `loadtest chaos`.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        setup::run_all()?;
        build_release()?;
        if ["clock-jump", "wrong-clock"].contains(&self.scenario.as_str()) {
            setup::faketime()?;
        }
        let wanted = self.scenario == "upgrade" || self.from.is_some();
        let old = match &self.old {
            None if wanted => Some(build_older(self.from.as_deref())?),
            named => named.as_deref().map(programs_at).transpose()?,
        };
        let new = self.new.as_deref().map(programs_at).transpose()?;
        let mut chaos = Command::new(target_dir().join("release/loadtest"));
        chaos.args(["chaos", "--scenario", &self.scenario]);
        chaos.arg("--rounds").arg(self.rounds.to_string());
        chaos.arg("--seed").arg(self.seed.to_string());
        chaos.arg("--rate").arg(self.rate.to_string());
        if let Some(faults) = self.faults {
            chaos.arg("--faults").arg(faults.to_string());
        }
        for (name, dir) in [("--old", old), ("--new", new), ("--keep", self.keep)] {
            if let Some(dir) = dir {
                chaos.arg(name).arg(dir);
            }
        }
        // Replaces this process, so that Ctrl-C and the exit code are the run's own.
        Err(chaos.exec()).context("failed to start the run")
    }
}

/// The directory of the programs at `path`: itself, or where the programs of the package are unpacked.
fn programs_at(path: &Path) -> anyhow::Result<PathBuf> {
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    let name = path
        .file_name()
        .and_then(|name| name.to_str()?.strip_suffix(".tar.gz"));
    let name = name.with_context(|| {
        format!(
            "{} is neither a directory nor a tarball of `cargo xtask package`",
            path.display()
        )
    })?;
    let unpacked = target_dir().join("packages");
    fs::create_dir_all(&unpacked)?;
    step(&format!("unpack {name}"), || {
        let mut tar = Command::new("tar");
        run(tar.arg("-xzf").arg(path).arg("-C").arg(&unpacked))
    })?;
    Ok(unpacked.join(name).join("bin"))
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
