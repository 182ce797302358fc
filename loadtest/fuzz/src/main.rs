//! The targets on a command line: their names, their seeds as files, one input again.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use hostile_bytes::{TARGETS, Target};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

/// Every parser of outside bytes, with what must hold for it.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print each target's name, a tab, and what it reads.
    List,
    /// Write each target's seeds to a folder of its own in FOLDER.
    Seeds {
        /// Made when absent.
        folder: PathBuf,
    },
    /// Run a target once for each file; a panic says what does not hold.
    Replay {
        /// One that `list` prints.
        target: String,
        /// Inputs, such as a fuzzer found.
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
        Command::Seeds { folder } => seeds(&folder),
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

fn seeds(folder: &Path) -> io::Result<()> {
    for target in TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}

fn replay(target: &str, files: &[PathBuf]) -> io::Result<()> {
    let target = Target::named(target).ok_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        let names = names.join(", ");
        io::Error::other(format!("there is no target {target}; there are {names}"))
    })?;
    for file in files {
        (target.run)(&fs::read(file)?);
        println!("{}: everything holds", file.display());
    }
    Ok(())
}
