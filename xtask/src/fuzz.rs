//! `cargo xtask fuzz`: builds the targets of `loadtest/fuzz` with coverage and runs libFuzzer on them, one after
//! another. Invariant: no properties of targets here.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, value_parser};

use crate::step::{cargo, forget_this_package, on_path, run, step};
use crate::{setup, target_dir};

/// The fuzzer's own crate, relative to the root.
pub(crate) const FUZZ_DIR: &str = "loadtest/fuzz/libfuzzer";
/// Maximum input length in bytes: all relevant limits are lower.
const MAX_INPUT_BYTES: usize = 16 << 10;
/// An input that takes more seconds or more memory (MiB) is a finding.
const INPUT_TIMEOUT_SECONDS: u32 = 20;
const MAX_MEMORY_MIB: u32 = 2_048;

/// The targets to run, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// Targets to run; all by default.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Seconds per target.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = value_parser!(u32).range(1..))]
    seconds: u32,
    /// Print the targets and their inputs, and run none.
    #[arg(long)]
    list: bool,
}

/// The result of a target's run.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    target: String,
    log: FuzzLog,
    seconds: u64,
    finding: Option<PathBuf>,
}

/// Statistics from libFuzzer's output.
#[derive(Debug, Default, PartialEq, Eq)]
struct FuzzLog {
    executions: u64,
    edges: u64,
    corpus: u64,
    /// The input that ended the run.
    finding_file: Option<PathBuf>,
}

impl Fuzz {
    /// Runs the targets and prints a table; fails if there are findings.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let known = targets()?;
        if self.list {
            let width = known.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            known
                .iter()
                .for_each(|(name, reads)| println!("{name:width$}  {reads}"));
            return Ok(());
        }
        let names = self.selected_targets(&known)?;
        tools()?;
        let program = build()?;
        let dir = target_dir().join("fuzz");
        step("write seeds", || {
            let seeds = dir.join("seeds");
            run(hostile_bytes().arg("seeds").arg(seeds))
        })?;
        let (count, seconds) = (names.len(), u64::from(self.seconds));
        let minutes = (count as u64 * seconds).div_ceil(60);
        eprintln!("==> {count} targets, {seconds} s each: about {minutes} min");
        let mut outcomes = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let outcome = self.run_one(&program, &dir, name)?;
            let executions = grouped(outcome.log.executions);
            let found = outcome.finding.as_ref().map_or("", |_| ", FINDING");
            eprintln!(
                "    {}/{count} {name}: {executions} executions, {} edges{found}",
                number + 1,
                outcome.log.edges
            );
            outcomes.push(outcome);
        }
        report(&outcomes)
    }

    fn selected_targets(&self, known: &[(String, String)]) -> anyhow::Result<Vec<String>> {
        let all = || known.iter().map(|(name, _)| name.clone());
        for name in &self.targets {
            ensure!(
                all().any(|it| it == *name),
                "unknown target {name}; expected one of {}",
                all().collect::<Vec<_>>().join(", ")
            );
        }
        Ok(if self.targets.is_empty() {
            all().collect()
        } else {
            self.targets.to_vec()
        })
    }

    fn run_one(&self, program: &Path, dir: &Path, name: &str) -> anyhow::Result<Outcome> {
        let dir_of = |kind: &str| dir.join(kind).join(name);
        let (corpus, findings) = (dir_of("corpus"), dir_of("findings"));
        for dir in [&corpus, &findings, &dir.join("logs")] {
            fs::create_dir_all(dir)
                .with_context(|| format!("failed to create {}", dir.display()))?;
        }
        let log = dir.join("logs").join(name);
        // The target's temporary files, in memory if possible; a fuzzer does not remove them.
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory } else { dir };
        let scratch = base.join(format!("xtask-fuzz-{}-{name}", std::process::id()));
        fs::create_dir_all(&scratch)?;
        let started = Instant::now();
        let status = Command::new(program)
            .args([&corpus, &dir_of("seeds")])
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-max_len={MAX_INPUT_BYTES}"))
            .arg(format!("-timeout={INPUT_TIMEOUT_SECONDS}"))
            .arg(format!("-rss_limit_mb={MAX_MEMORY_MIB}"))
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .arg("-print_final_stats=1")
            .env("HOSTILE_TARGET", name)
            .env("TMPDIR", &scratch)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(File::create(&log)?)
            .status()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let elapsed = started.elapsed();
        let _ = fs::remove_dir_all(&scratch);
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let read = read_log(&text);
        let finding = match (&read.finding_file, status.success()) {
            (Some(file), _) => Some(file.clone()),
            (None, true) => None,
            (None, false) => bail!("{name} exited with {status}; see {}", log.display()),
        };
        Ok(Outcome {
            target: name.to_owned(),
            log: read,
            seconds: whole_seconds(elapsed),
            finding,
        })
    }
}

fn whole_seconds(elapsed: Duration) -> u64 {
    (elapsed.as_millis() as u64).div_ceil(1_000).max(1)
}

/// The program that lists targets, writes seeds and replays inputs; built with the stable compiler.
fn hostile_bytes() -> Command {
    cargo(["run", "--quiet", "--package", "hostile-bytes", "--"])
}

/// Names and inputs of all targets.
fn targets() -> anyhow::Result<Vec<(String, String)>> {
    let out = hostile_bytes()
        .arg("list")
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("failed to start cargo")?;
    ensure!(out.status.success(), "failed to list the targets");
    let lines = String::from_utf8(out.stdout)?;
    let halves = lines.lines().filter_map(|line| line.split_once('\t'));
    Ok(halves
        .map(|(name, reads)| (name.to_owned(), reads.to_owned()))
        .collect())
}

/// Installs missing tools and prints the reason.
fn tools() -> anyhow::Result<()> {
    if !["c++", "g++", "clang++"].into_iter().any(on_path) {
        setup::install("g++", &["g++"], "libFuzzer is written in C++")?;
    }
    ensure!(
        on_path("rustup"),
        "coverage needs a nightly compiler, which rustup installs: https://rustup.rs"
    );
    let list = Command::new("rustup").args(["toolchain", "list"]).output();
    let list = String::from_utf8(list.context("failed to start rustup")?.stdout)?;
    if !list.lines().any(|line| line.starts_with("nightly")) {
        step(
            "install a nightly compiler: only it counts coverage for a fuzzer",
            || {
                let mut install = Command::new("rustup");
                install.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
                run(&mut install)
            },
        )?;
    }
    if !on_path("cargo-fuzz") {
        step(
            "install cargo-fuzz: it builds for libFuzzer (some minutes, once)",
            || run(&mut cargo(["install", "--locked", "cargo-fuzz"])),
        )?;
    }
    Ok(())
}

/// Builds all targets and returns the program that runs one.
fn build() -> anyhow::Result<PathBuf> {
    let dir = target_dir().join("fuzz");
    step(
        "build with coverage and address sanitizer (the first time takes some minutes)",
        || {
            let mut build = Command::new("rustup");
            build.args(["run", "nightly", "cargo", "fuzz", "build", "any"]);
            build.args(["--fuzz-dir", FUZZ_DIR, "--target-dir"]);
            // Set by the outer cargo for another compiler.
            for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"] {
                build.env_remove(name);
            }
            forget_this_package(&mut build);
            run(build.arg(&dir).current_dir(crate::root()))
        },
    )?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    Ok(dir.join(triple).join("release/any"))
}

/// Parses libFuzzer's output.
fn read_log(text: &str) -> FuzzLog {
    let mut log = FuzzLog::default();
    for line in text.lines() {
        let after = |mark: &str| line.split_once(mark).map(|(_, rest)| rest.trim());
        let number = |mark: &str| after(mark)?.split([' ', '/']).next()?.parse().ok();
        if let Some(executions) = number("stat::number_of_executed_units:") {
            log.executions = executions;
        } else if let Some(edges) = number(" cov: ") {
            log.edges = edges;
            log.corpus = number(" corp: ").unwrap_or(log.corpus);
            // A run with a finding may end without the final statistics.
            let started = line.trim_start_matches('#').split_whitespace().next();
            let started = started.and_then(|count| count.parse().ok());
            log.executions = log.executions.max(started.unwrap_or(0));
        } else if let Some(file) = after("Test unit written to ") {
            log.finding_file = Some(file.into());
        }
    }
    log
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn report(outcomes: &[Outcome]) -> anyhow::Result<()> {
    println!(
        "{:20} {:>14} {:>9} {:>7} {:>7} {:>8}  findings",
        "target", "executions", "exec/s", "edges", "inputs", "seconds"
    );
    for outcome in outcomes {
        let Outcome {
            target,
            log,
            seconds,
            finding,
        } = outcome;
        println!(
            "{target:20} {:>14} {:>9} {:>7} {:>7} {seconds:>8}  {}",
            grouped(log.executions),
            grouped(log.executions / seconds),
            grouped(log.edges),
            grouped(log.corpus),
            u8::from(finding.is_some())
        );
    }
    let found: Vec<_> = outcomes
        .iter()
        .filter_map(|it| Some((&it.target, it.finding.as_ref()?)))
        .collect();
    for (target, file) in &found {
        let shown = file.display();
        println!("\n{target}: a property does not hold for {shown}; reproduce with");
        println!("    cargo run -p hostile-bytes -- replay {target} {shown}");
    }
    match found.len() {
        0 => Ok(()),
        count => bail!("{count} of {} targets have findings", outcomes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_statistics_are_parsed() {
        let calm = "#2\tINITED cov: 90 ft: 90 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                    #1048576\tpulse  cov: 412 ft: 900 corp: 77/3Kb lim: 4096 exec/s: 5 rss: 60Mb\n\
                    Done 1500000 runs in 11 second(s)\n\
                    stat::number_of_executed_units: 1500000\n";
        let expected = FuzzLog {
            executions: 1_500_000,
            edges: 412,
            corpus: 77,
            finding_file: None,
        };
        assert_eq!(read_log(calm), expected);
        let found = "#99\tNEW    cov: 7 ft: 9 corp: 3/3b lim: 4 exec/s: 0 rss: 40Mb L: 1/1\n\
                     artifact_prefix='f/'; Test unit written to f/crash-ab12\n";
        let expected = FuzzLog {
            executions: 99,
            edges: 7,
            corpus: 3,
            finding_file: Some("f/crash-ab12".into()),
        };
        assert_eq!(read_log(found), expected);
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
    }
}
