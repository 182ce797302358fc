//! What is measured, each kind as a command of its own. How something is measured belongs below.

mod budgets;
mod pieces;

use std::ffi::OsString;

use clap::Subcommand;

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
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
            Self::Pieces { args } => pieces::run(&args),
        }
    }
}
