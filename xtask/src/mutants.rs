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
        let mut mutants = part.command(options, &output);
        if let Some(changes) = &changes {
            mutants.arg("--in-diff").arg(changes);
        }
        if !part.tests.is_empty() && !options.list {
            mutants.arg("--").args(part.tests);
        }
        step(&format!("mutants of {}", part.name), || run(&mut mutants))?;
    }
    Ok(())
}

impl Part {
    fn command(&self, options: &MutantsOptions, output: &Path) -> Command {
        let mut mutants = cargo(["mutants"]);
        mutants.env(STEPS_VARIABLE, STEPS);
        mutants.args(self.code);
        if options.list {
            mutants.arg("--list");
            return mutants;
        }
        mutants.arg("--output").arg(output);
        mutants.args(options.iterate.then_some("--iterate"));
        if let Some(shard) = &options.shard {
            mutants.arg("--shard").arg(shard);
        }
        mutants
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
