//! Man pages and shell completions of a program, made from its command line for packages.

use clap::Command;
use clap_complete::Shell;
use std::fs;
use std::io;
use std::path::Path;

const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash"),
    (Shell::Fish, "fish"),
    (Shell::Zsh, "zsh"),
];

/// Writes `man/` and `completions/SHELL/` below `to`, which is created if it is missing.
///
/// # Errors
/// When a file can't be written.
pub fn write(mut command: Command, to: &Path) -> io::Result<()> {
    let program = command.get_name().to_owned();
    for (shell, name) in SHELLS {
        let dir = to.join("completions").join(name);
        fs::create_dir_all(&dir)?;
        clap_complete::generate_to(shell, &mut command, &program, &dir)?;
    }
    let dir = to.join("man");
    fs::create_dir_all(&dir)?;
    clap_mangen::generate_to(command, &dir)
}
