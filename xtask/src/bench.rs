//! The benchmarks, each with a command of its own. Measuring is implemented below.

mod budgets;
mod pieces;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use clap::Subcommand;

use crate::{build_release, functions, setup, target_dir};

/// The benchmark to run.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Measure the cost of a click at the edge, compared with nginx (geoip2 and a JSON log) and bare hyper. This is the default of `cargo xtask bench`.
    ///
    /// Arguments are passed on to `loadtest bench-click`: --rounds N, --links N, --visitors N, --before FILE (the
    /// edge-tracker of another build, measured in turn with this one), …
    Click {
        /// Passed on to `loadtest bench-click`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure the cost of a click from the visitor to a row in ClickHouse, compared with nginx whose log is
    /// inserted into the same tables.
    ///
    /// Arguments are passed on to `loadtest bench-pipeline`: --rounds N, --seconds S, …
    Pipeline {
        /// Passed on to `loadtest bench-pipeline`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure the cost of a function call, of postbacks compared with native code, and the effect of functions
    /// that never return on clicks.
    ///
    /// Arguments are passed on to `loadtest bench-functions`: --rounds N, --seconds S, --strict, …
    Functions {
        /// Passed on to `loadtest bench-functions`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure single parts of the product and compare them with xtask/budgets.toml.
    ///
    /// A part above its budget, or without one, fails the command.
    Pieces {
        /// Passed on to criterion: a part of the benchmarks' names, --quick, …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

impl Bench {
    /// Runs the benchmark; fails if a budget is exceeded.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Click { args } => loadtest("bench-click", setup::with_geo(args)?),
            Self::Pipeline { args } => loadtest("bench-pipeline", setup::with_geo(args)?),
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
    Err(bench.args(args).exec()).context("failed to start the benchmark")
}
