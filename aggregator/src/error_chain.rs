//! Errors as operators read them, cut before they could grow into copies of the data.

use std::error::Error;

/// Characters of an error that are shown.
const LONGEST: usize = 500;

/// An error with its causes, cut to its beginning.
pub(crate) fn explain(error: &dyn Error) -> String {
    let text = daemon::error_chain::explain(error);
    text.chars().take(LONGEST).collect()
}
