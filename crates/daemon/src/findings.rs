//! What a check of settings and the files that they name found: all of it, not only the first mistake.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;
use thiserror::Error;

/// What was found, each in a line.
#[derive(Debug, Default)]
pub struct Findings {
    fine: Vec<String>,
    wrong: Vec<String>,
}

/// Something can't be used.
#[derive(Debug, Error)]
pub enum CheckError {
    /// So much.
    #[error("mistakes found: {0}")]
    Mistakes(usize),
    /// The findings can't be shown.
    #[error("output is closed: {0}")]
    Output(#[from] io::Error),
}

impl Findings {
    /// Notes how the check of one thing went.
    pub fn note<E: Display>(&mut self, outcome: Result<String, E>) {
        match outcome {
            Ok(fine) => self.fine.push(fine),
            Err(error) => self.wrong.push(error.to_string()),
        }
    }

    /// Writes what can be used to standard output, and what can't to standard error.
    ///
    /// # Errors
    /// When anything can't be used.
    pub fn report(&self) -> Result<(), CheckError> {
        let mut stdout = io::stdout().lock();
        for line in &self.fine {
            writeln!(stdout, "{line}")?;
        }
        let mut stderr = io::stderr().lock();
        for line in &self.wrong {
            writeln!(stderr, "{line}")?;
        }
        match self.wrong.len() {
            0 => Ok(()),
            mistakes => Err(CheckError::Mistakes(mistakes)),
        }
    }
}

/// The line of a file that can be used.
#[must_use]
pub fn fine(path: &Path, what: impl Display) -> String {
    format!("{}: fine, {what}", path.display())
}
