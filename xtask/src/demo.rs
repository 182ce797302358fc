//! Builds and runs `loadtest demo`. Its options are parsed here as well, so that a mistake shows before the build.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::{build_programs, functions, setup, target_dir};

/// Options of `loadtest demo`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Exit when everything is shown, instead of running until Ctrl-C.
    #[arg(long)]
    exit: bool,
    /// Kill edges and the aggregator (SIGKILL) while sales are reported.
    #[arg(long)]
    kill: bool,
    /// Replay this log (combined format or nginx's JSON) instead of sample traffic.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Requests per second [default: 2000].
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// A MaxMind file of countries by IP address [default: the file that set-up installs].
    #[arg(long, value_name = "FILE")]
    geo: Option<PathBuf>,
}

impl Options {
    /// Replaces this process with `loadtest demo`.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        for file in [&self.replay, &self.geo].into_iter().flatten() {
            ensure!(file.is_file(), "{} does not exist", file.display());
        }
        ensure!(self.rate != Some(0), "--rate must be above 0");
        setup::run_all()?;
        functions::build()?;
        build_programs("demo", "build (the first time takes some minutes)")?;
        let geo = self.geo.map_or_else(setup::geo_file, Ok)?;
        let mut demo = Command::new(target_dir().join("demo/loadtest"));
        demo.arg("demo").arg("--geo").arg(geo);
        demo.args(self.exit.then_some("--exit"));
        demo.args(self.kill.then_some("--kill"));
        if let Some(log) = self.replay {
            demo.arg("--replay").arg(log);
        }
        if let Some(rate) = self.rate {
            demo.arg("--rate").arg(rate.to_string());
        }
        // Replaces this process, so that Ctrl-C and the exit code are the demo's own.
        Err(demo.exec()).context("failed to start the demo")
    }
}
