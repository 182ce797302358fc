//! Errors as operators read them.

use std::error::Error;

/// Characters of an error that are shown.
const LONGEST: usize = 500;

/// An error with its causes, cut before it could grow into a copy of the data.
pub(crate) fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.chars().take(LONGEST).collect()
}
