//! `cargo xtask`: set-up and developer commands. It runs other tools. Invariant: no product code here.
#![forbid(unsafe_code)]

mod bench;
mod chaos;
mod check;
mod containers;
mod demo;
mod deploy;
mod docs;
mod functions;
mod fuzz;
mod mutants;
mod package;
mod setup;
mod step;
mod tidy;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::step::{cargo, run, step};

/// Set-up and developer commands of FanzFiliate Edge.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install missing requirements: C compiler, npm, ClickHouse as a library, a country file.
    Setup,
    /// Set up, build and run the whole pipeline on sample traffic.
    Demo(demo::Options),
    /// Set up, build every program and run every test.
    Test {
        /// Passed on to `cargo test --workspace`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build the functions (WebAssembly) and install what the build needs.
    Functions,
    /// Write the documents that are generated from the programs: docs/configuration.md, metrics.md, refusals.md.
    Docs,
    /// Check house rules, format, clippy, documentation, licences and dependencies.
    Check,
    /// Check everything in deploy/: Helm chart, systemd units, container and compose files. `check` includes it.
    CheckDeploy,
    /// Inject faults under traffic and compare every answered click with ClickHouse.
    Chaos(chaos::ChaosOptions),
    /// Break the durability code in many ways, one at a time and in a copy, and report which no test notices.
    Mutants(mutants::MutantsOptions),
    /// Build release packages into dist/: a tarball, Debian packages, checksums.
    Package(package::PackageOptions),
    /// Build the container images and try them under traffic and kills.
    Containers(containers::ContainersOptions),
    /// Run benchmarks and compare them with their budgets.
    Bench {
        #[command(subcommand)]
        what: Option<bench::Bench>,
    },
    /// Fuzz every parser of external bytes.
    ///
    /// The corpus is kept in target/fuzz/corpus for the next run. A missing nightly compiler or cargo-fuzz is
    /// installed first.
    Fuzz(fuzz::Fuzz),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Task::Setup => setup::run_all(),
        Task::Demo(options) => options.run(),
        Task::Test { args } => test(args),
        Task::Functions => functions::build(),
        Task::Docs => docs::write(),
        Task::Check => check::run_all(),
        Task::CheckDeploy => deploy::check_all(),
        Task::Chaos(options) => options.run(),
        Task::Mutants(options) => mutants::run_all(&options),
        Task::Package(options) => package::build(&options),
        Task::Containers(options) => containers::run_all(&options),
        Task::Bench { what } => what.unwrap_or_default().run(),
        Task::Fuzz(fuzz) => fuzz.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Builds every program with the release profile.
fn build_release() -> anyhow::Result<()> {
    let name = "build for release (the first time takes ten minutes and more)";
    build_programs("release", name)
}

/// Builds what operators run, without the features that tests turn on.
fn build_product(profile: &str) -> anyhow::Result<()> {
    let name = "build the programs (a release takes half an hour on two cores)";
    step(name, || {
        let mut build = cargo(["build", "--locked", "--profile", profile]);
        for package in [
            "edge-tracker",
            "aggregator",
            "clickhouse-embedded",
            "all-in-one",
        ] {
            build.args(["-p", package]);
        }
        run(&mut build)
    })
}

/// Builds all programs of a demo or a test run.
fn build_programs(profile: &str, name: &str) -> anyhow::Result<()> {
    step(name, || {
        let mut build = cargo(["build", "--profile", profile]);
        for package in [
            "edge-tracker",
            "aggregator",
            "clickhouse-embedded",
            "loadtest",
        ] {
            build.args(["-p", package]);
        }
        run(&mut build)
    })
}

fn test(args: Vec<OsString>) -> anyhow::Result<()> {
    setup::run_all()?;
    setup::for_tests()?;
    functions::build()?;
    // Together with the tests: their additional features would otherwise rebuild dependencies.
    step("build every program and test", || {
        run(&mut cargo([
            "build",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
        ]))
    })?;
    step("examples in the documentation", || {
        run(&mut cargo(["test", "--workspace", "--doc"]))
    })?;
    step("test", || {
        let mut test = cargo(["test", "--workspace", "--lib", "--bins", "--tests"]);
        run(test.args(args))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_options_show_before_the_build() {
        for (line, is_valid) in [
            ("demo --exit --kill --rate 100", true),
            ("demo --exti", false),
            ("demo --rate many", false),
            ("chaos --scenario everything --rounds 20 --seed 7", true),
            ("chaos --scenario kill-edge --kills 40 --from HEAD^", true),
            ("chaos", false),
            ("chaos --scenario kill", false),
            ("chaos --scenario upgrade --rate 0", false),
            ("test clicks -- --nocapture", true),
        ] {
            let words = ["cargo xtask"].into_iter().chain(line.split(' '));
            let parsed = Arguments::try_parse_from(words);
            assert_eq!(parsed.is_ok(), is_valid, "{line}");
        }
    }
}
