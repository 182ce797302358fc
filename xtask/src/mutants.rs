//! Breaks the durability code in every way that `mutants.toml` lists, one at a time and in a copy, and
//! sees to it that the tests notice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::step::{cargo, run, step};

const LIST: &str = "xtask/mutants.toml";
/// A test that a mutant keeps from ending is stopped after so long.
const LONGEST: Duration = Duration::from_secs(300);

/// Which mutants to try.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only those whose name contains one of these.
    names: Vec<String>,
    /// Only say which there are.
    #[arg(long)]
    list: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

/// One way to break the code.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    /// What is broken.
    name: String,
    /// Where.
    file: PathBuf,
    /// What stands there, once.
    find: String,
    /// What stands there instead.
    replace: String,
    /// Arguments of `cargo test`, tried in order until one notices.
    tests: Vec<String>,
}

enum Outcome {
    /// Noticed, by this test.
    Caught(String),
    Survived,
    /// It does not even compile, so nothing is proved.
    Uncompilable,
}

/// Tries the mutants that `options` name.
pub(crate) fn run_all(options: &Options) -> anyhow::Result<()> {
    let mutants = read(&crate::root())?;
    let wanted = |mutant: &&Mutant| {
        let names = &options.names;
        names.is_empty() || names.iter().any(|name| mutant.name.contains(name.as_str()))
    };
    let mutants: Vec<&Mutant> = mutants.iter().filter(wanted).collect();
    ensure!(!mutants.is_empty(), "no mutant has such a name; see --list");
    if options.list {
        mutants
            .iter()
            .for_each(|it| println!("{:<60} {}", it.name, it.file.display()));
        return Ok(());
    }
    let tree = copy()?;
    step("the tests hold without a mutant", || sound(&tree, &mutants))?;
    let width = mutants.iter().map(|it| it.name.len()).max().unwrap_or(0);
    let mut left = Vec::new();
    for mutant in &mutants {
        let start = Instant::now();
        let outcome = mutant.try_in(&tree)?;
        let said = match &outcome {
            Outcome::Caught(by) => format!("caught by {by}"),
            Outcome::Survived => "SURVIVED".to_owned(),
            Outcome::Uncompilable => "DOES NOT COMPILE".to_owned(),
        };
        println!(
            "{:<width$}  {:>5.0} s  {said}",
            mutant.name,
            start.elapsed().as_secs_f64()
        );
        if !matches!(outcome, Outcome::Caught(_)) {
            left.push(mutant.name.as_str());
        }
    }
    if !left.is_empty() {
        bail!(
            "{} of {} were not caught: {}",
            left.len(),
            mutants.len(),
            left.join("; ")
        );
    }
    println!("All {} mutants were caught.", mutants.len());
    Ok(())
}

/// The list; each mutant finds its place once.
pub(crate) fn read(root: &Path) -> anyhow::Result<Vec<Mutant>> {
    let text = fs::read_to_string(root.join(LIST)).context(LIST)?;
    let list: List = toml::from_str(&text).context(LIST)?;
    for mutant in &list.mutant {
        let text = fs::read_to_string(root.join(&mutant.file))
            .with_context(|| format!("{LIST}: {}", mutant.file.display()))?;
        let places = text.matches(&mutant.find).count();
        ensure!(
            places == 1,
            "{LIST}: \"{}\" finds its place in {} {places} times instead of once; bring it up to date",
            mutant.name,
            mutant.file.display()
        );
    }
    Ok(list.mutant)
}

/// What git knows of, as it lies there, in a folder of its own.
fn copy() -> anyhow::Result<PathBuf> {
    let (root, tree) = (crate::root(), crate::target_dir().join("mutants/tree"));
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(&root)
        .output()
        .context("git is needed to know which files there are")?;
    ensure!(listed.status.success(), "git ls-files failed");
    let mut known = Vec::new();
    for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        let (from, to) = (root.join(name), tree.join(name));
        if !from.is_file() {
            continue;
        }
        let bytes = fs::read(&from)?;
        // Untouched files are not built again.
        if fs::read(&to).is_ok_and(|before| before == bytes) {
            known.push(to);
            continue;
        }
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::write(&to, bytes)?;
        known.push(to);
    }
    remove_others(&tree, &known)?;
    Ok(tree)
}

fn remove_others(folder: &Path, known: &[PathBuf]) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, known)?;
        } else if !known.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn test(tree: &Path, arguments: &str) -> Command {
    let mut test = cargo(["test"]);
    test.args(arguments.split(' ')).current_dir(tree).env(
        "CARGO_TARGET_DIR",
        crate::target_dir().join("mutants/target"),
    );
    test
}

fn sound(tree: &Path, mutants: &[&Mutant]) -> anyhow::Result<()> {
    let mut tests: Vec<&String> = mutants.iter().flat_map(|it| &it.tests).collect();
    tests.sort();
    tests.dedup();
    tests
        .into_iter()
        .try_for_each(|arguments| run(&mut test(tree, arguments)))
}

impl Mutant {
    fn try_in(&self, tree: &Path) -> anyhow::Result<Outcome> {
        let path = tree.join(&self.file);
        let text = fs::read_to_string(&path)?;
        fs::write(&path, text.replacen(&self.find, &self.replace, 1))?;
        let outcome = self.outcome(tree);
        fs::write(&path, text)?;
        outcome
    }

    fn outcome(&self, tree: &Path) -> anyhow::Result<Outcome> {
        for arguments in &self.tests {
            let (build, _) = arguments.split_once(" -- ").unwrap_or((arguments, ""));
            let mut built = test(tree, build);
            let built = built
                .arg("--no-run")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if !built.status()?.success() {
                return Ok(Outcome::Uncompilable);
            }
            if let Some(by) = failing(&mut test(tree, arguments))? {
                return Ok(Outcome::Caught(by));
            }
        }
        Ok(Outcome::Survived)
    }
}

/// The first test that fails or does not end, if one does.
fn failing(test: &mut Command) -> anyhow::Result<Option<String>> {
    let limited = format!("{}s", LONGEST.as_secs());
    let mut command = Command::new("timeout");
    command
        .arg(limited)
        .arg(test.get_program())
        .args(test.get_args());
    for (name, value) in test.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = test.get_current_dir() {
        command.current_dir(folder);
    }
    let done = command.env("RUST_BACKTRACE", "0").output()?;
    if done.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&done.stdout);
    let failed = said
        .lines()
        .find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    Ok(Some(
        failed.unwrap_or("a test that does not end").to_owned(),
    ))
}
