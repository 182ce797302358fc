//! Errors as operators read them.

use std::error::Error;

/// An error with its causes, in one text. A cause that the message contains already is not repeated.
#[must_use]
pub fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use thiserror::Error;

    #[derive(Debug, Error)]
    #[error("the disk is full")]
    struct DiskFull;

    #[derive(Debug, Error)]
    enum StoreError {
        #[error("store: {0}")]
        Repeated(#[source] DiskFull),
        #[error("failed to write the store")]
        Separate(#[source] DiskFull),
    }

    #[test]
    fn each_cause_is_shown_once() {
        let cases = [
            (StoreError::Repeated(DiskFull), "store: the disk is full"),
            (
                StoreError::Separate(DiskFull),
                "failed to write the store: the disk is full",
            ),
        ];
        for (error, shown) in cases {
            assert_eq!(explain(&error), shown);
        }
    }
}
