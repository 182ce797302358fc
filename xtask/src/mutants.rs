//! Runs cargo-mutants over the durability code. `.cargo/mutants.toml` lists and explains the exclusions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::step::{cargo, run, step};
use crate::{setup, target_dir};

/// A part of the durability code with the tests that must detect each mutant.
struct Part {
    name: &'static str,
    /// Arguments of `cargo mutants` that select the code.
    code: &'static [&'static str],
    /// Arguments of `cargo test`. If empty, all tests of the mutated package run.
    tests: &'static [&'static str],
}

const PARTS: [Part; 5] = [
    Part {
        name: "journal",
        code: &["--package=storage", "--package=event-journal"],
        tests: &[],
    },
    Part {
        name: "shipping",
        code: &["--package=event-shipping"],
        tests: &[],
    },
    Part {
        name: "blocks",
        code: &["--package=aggregator", "--file=aggregator/src/blocks/**"],
        tests: &["--lib"],
    },
    Part {
        name: "store",
        code: &["--package=aggregator", "--file=aggregator/src/store/**"],
        tests: &["--lib"],
    },
    Part {
        name: "sql",
        code: &["--package=sql-store"],
        tests: &[],
    },
];

const TOOLS: [(&str, &str); 2] = [
    (
        "cargo-mutants",
        "it breaks the code in many ways, one at a time",
    ),
    (
        "cargo-nextest",
        "it stops the tests of a mutant at their first failure",
    ),
];

/// The profiles of nextest: the quick tests, which catch most mutants, then all tests for the mutants that are left.
const QUICK_PROFILE: &str = "mutants-quick";
const FULL_PROFILE: &str = "mutants";

/// The exit codes of cargo-mutants when tests missed mutants, or took too long.
const NOT_CAUGHT: [i32; 2] = [2, 3];

/// A twentieth of the random steps that `cargo xtask test` does: what they find, they find in these.
const STEPS: &str = "100000";
/// The variable of `event-journal`'s tests for the number of random steps.
const STEPS_VARIABLE: &str = "EVENT_JOURNAL_STEPS";

/// The mutants to try.
#[derive(clap::Args)]
pub(crate) struct MutantsOptions {
    /// Parts of the code; without any, all of them, which takes hours.
    #[arg(value_parser = PARTS.map(|part| part.name))]
    parts: Vec<String>,
    /// Only mutants in lines that differ from this git revision, such as origin/main.
    #[arg(long, value_name = "REVISION")]
    in_diff: Option<String>,
    /// Only a share of the mutants: 0/8 is the first of eight.
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Leave out mutants that an earlier run caught.
    #[arg(long)]
    iterate: bool,
    /// How many mutants are tried at the same time, each with a build directory of its own.
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: u8,
    /// List the mutants and try none.
    #[arg(long)]
    list: bool,
}

/// Tries the mutants that `options` select. Reports are in `target/mutants/PART/mutants.out`.
pub(crate) fn run_all(options: &MutantsOptions) -> anyhow::Result<()> {
    for (tool, why) in TOOLS {
        setup::cargo_install(tool, "", why)?;
    }
    let changes = options.in_diff.as_deref().map(changes_since).transpose()?;
    let is_wanted = |part: &&Part| {
        options.parts.is_empty() || options.parts.iter().any(|name| name == part.name)
    };
    for part in PARTS.iter().filter(is_wanted) {
        let output = target_dir().join("mutants").join(part.name);
        fs::create_dir_all(&output)?;
        step(&format!("mutants of {}", part.name), || {
            part.run(options, changes.as_deref(), &output)
        })?;
    }
    Ok(())
}

impl Part {
    fn run(
        &self,
        options: &MutantsOptions,
        changes: Option<&Path>,
        output: &Path,
    ) -> anyhow::Result<()> {
        let mut quick = self.command(options, changes);
        if options.list {
            return run(quick.arg("--list"));
        }
        self.add_run(&mut quick, options, output, QUICK_PROFILE);
        quick.args(options.iterate.then_some("--iterate"));
        // Arguments after these are those of `cargo test`.
        quick.args(self.test_arguments());
        let status = quick.status().context("failed to start cargo mutants")?;
        if !status.code().is_some_and(|code| NOT_CAUGHT.contains(&code)) {
            ensure!(status.success(), "cargo mutants exited with {status}");
            return Ok(());
        }
        let mut full = self.command(options, changes);
        self.add_run(&mut full, options, output, FULL_PROFILE);
        run(full.arg("--iterate").args(self.test_arguments()))
    }

    fn command(&self, options: &MutantsOptions, changes: Option<&Path>) -> Command {
        let mut mutants = cargo(["mutants"]);
        mutants.env(STEPS_VARIABLE, STEPS).args(self.code);
        if let Some(changes) = changes {
            mutants.arg("--in-diff").arg(changes);
        }
        if let Some(shard) = &options.shard {
            mutants.arg("--shard").arg(shard);
        }
        mutants
    }

    fn add_run(
        &self,
        mutants: &mut Command,
        options: &MutantsOptions,
        output: &Path,
        profile: &str,
    ) {
        mutants.arg("--output").arg(output);
        mutants.arg(format!("--cargo-test-arg=--profile={profile}"));
        // Jobs with one target directory would wait for each other.
        if options.jobs > 1 {
            mutants.env_remove("CARGO_TARGET_DIR");
        }
        mutants.arg(format!("--jobs={}", options.jobs));
    }

    fn test_arguments(&self) -> impl Iterator<Item = &str> {
        let separator = (!self.tests.is_empty()).then_some("--");
        separator.into_iter().chain(self.tests.iter().copied())
    }
}

/// Writes the difference between `revision` and the working tree to a file for cargo-mutants.
fn changes_since(revision: &str) -> anyhow::Result<PathBuf> {
    let mut diff = Command::new("git");
    diff.args(["diff", revision]).current_dir(crate::root());
    let diff = diff.output().context("git is needed for --in-diff")?;
    ensure!(
        diff.status.success(),
        "git diff {revision} failed: {}",
        String::from_utf8_lossy(&diff.stderr).trim()
    );
    let directory = target_dir().join("mutants");
    fs::create_dir_all(&directory)?;
    let path = directory.join("changes.diff");
    fs::write(&path, diff.stdout)?;
    Ok(path)
}
