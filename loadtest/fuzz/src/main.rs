//! Command line of the targets: list them, write their seeds, replay inputs.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use hostile_bytes::{TARGETS, Target};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

/// Fuzz targets for all parsers of external bytes.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print each target's name, a tab, and a description of its input.
    List,
    /// Write each target's seeds to a directory of its own in DIR.
    Seeds {
        /// Created if absent.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Run a target on each file; a panic names the violated property.
    Replay {
        /// A target that `list` prints.
        target: String,
        /// Inputs, such as a fuzzer's findings.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::List => {
            for target in TARGETS {
                println!("{}\t{}", target.name, target.reads);
            }
            Ok(())
        }
        Command::Seeds { dir } => seeds(&dir),
        Command::Replay { target, files } => replay(&target, &files),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hostile-bytes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn seeds(dir: &Path) -> io::Result<()> {
    for target in TARGETS {
        let dir = dir.join(target.name);
        fs::create_dir_all(&dir)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(dir.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}

fn replay(target: &str, files: &[PathBuf]) -> io::Result<()> {
    let target = Target::named(target).ok_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        let names = names.join(", ");
        io::Error::other(format!("unknown target {target}; expected one of {names}"))
    })?;
    for file in files {
        (target.run)(&fs::read(file)?);
        println!("{}: all properties hold", file.display());
    }
    Ok(())
}
