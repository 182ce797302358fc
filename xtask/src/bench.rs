//! What is measured, each kind as a command of its own. How something is measured belongs below.

mod budgets;
mod pieces;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use clap::Subcommand;

use crate::{build_release, functions, setup, target_dir};

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Measure what a click costs at the edge, beside nginx with geoip2 and a JSON log, beside bare
    /// hyper and beside sockets alone. This is what `cargo xtask bench` does by itself.
    ///
    /// Arguments are passed on to `loadtest bench-click`: --rounds N, --links N, --visitors N, --before FILE (the
    /// edge-tracker of another build, measured in turn with this one), …
    Click {
        /// Passed on to `loadtest bench-click`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure what a click costs from the visitor to a row in ClickHouse, beside nginx whose log is
    /// inserted into the same tables.
    ///
    /// Arguments are passed on to `loadtest bench-pipeline`: --rounds N, --seconds S, …
    Pipeline {
        /// Passed on to `loadtest bench-pipeline`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure what the same clicks cost aggregator and engine, and how fresh they are, when they
    /// come from one edge and when they come from 200.
    ///
    /// Arguments are passed on to `loadtest bench-edges`: --edges 1,200, --rate N, --seconds S,
    /// --clicks N (as fast as they are taken), …
    Edges {
        /// Passed on to `loadtest bench-edges`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure what a call of a function costs, postbacks beside the same decisions compiled natively,
    /// and what functions that never end do to clicks.
    ///
    /// Arguments are passed on to `loadtest bench-functions`: --rounds N, --seconds S, --connections N,
    /// --postback-connections N, --spinning N, --clicks N, --strict, …
    Functions {
        /// Passed on to `loadtest bench-functions`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure the pieces of the product one by one and hold them against xtask/budgets.toml.
    ///
    /// A piece above its budget, or without one, fails the command.
    Pieces {
        /// Passed on to criterion: a part of the pieces' names, --quick, …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

impl Bench {
    /// Measures and says what came out; fails when a budget does not hold.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Click { args } => loadtest("bench-click", setup::with_geo(args)?),
            Self::Pipeline { args } => loadtest("bench-pipeline", setup::with_geo(args)?),
            Self::Edges { args } => loadtest("bench-edges", args),
            Self::Functions { args } => {
                functions::build()?;
                loadtest("bench-functions", args)
            }
            Self::Pieces { args } => pieces::run(&args),
        }
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::Click { args: Vec::new() }
    }
}

fn loadtest(task: &str, args: Vec<OsString>) -> anyhow::Result<()> {
    setup::run_all()?;
    build_release()?;
    let mut bench = Command::new(target_dir().join("release/loadtest"));
    bench.arg(task).arg("--out").arg(target_dir().join("bench"));
    // Replaces this process, so that Ctrl-C and the exit code are the benchmark's own.
    Err(bench.args(args).exec()).context("cannot start the benchmark")
}
