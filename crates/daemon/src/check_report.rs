//! The results of checking settings and the files they name: all errors, not only the first.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;
use thiserror::Error;

/// The results of a check, one line each.
#[derive(Debug, Default)]
pub struct CheckReport {
    usable: Vec<String>,
    errors: Vec<String>,
}

/// The check failed.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The number of errors found.
    #[error("mistakes found: {0}")]
    Mistakes(usize),
    /// The report can't be written.
    #[error("output is closed: {0}")]
    Output(#[from] io::Error),
}

impl CheckReport {
    /// Records the result of checking one item.
    pub fn record<E: Display>(&mut self, result: Result<String, E>) {
        match result {
            Ok(line) => self.usable.push(line),
            Err(error) => self.errors.push(error.to_string()),
        }
    }

    /// Writes usable items to standard output and errors to standard error.
    ///
    /// # Errors
    /// When the report has errors or can't be written.
    pub fn report(&self) -> Result<(), CheckError> {
        let mut stdout = io::stdout().lock();
        for line in &self.usable {
            writeln!(stdout, "{line}")?;
        }
        let mut stderr = io::stderr().lock();
        for line in &self.errors {
            writeln!(stderr, "{line}")?;
        }
        match self.errors.len() {
            0 => Ok(()),
            errors => Err(CheckError::Mistakes(errors)),
        }
    }
}

/// The line for a usable file.
#[must_use]
pub fn usable(path: &Path, content: impl Display) -> String {
    format!("{}: fine, {content}", path.display())
}
