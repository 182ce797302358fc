//! Checks of the files in `deploy/`, with the tools that will read them.

mod watching;

/// Runs all checks.
pub(crate) fn check() -> anyhow::Result<()> {
    watching::check()
}
