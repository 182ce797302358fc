//! Container files: hadolint.

use super::tools::{Tools, files};
use super::{Checked, output};

const DIR: &str = "deploy";
const NAME: &str = "Containerfile";

/// Lints every container file in `deploy/`.
pub(super) fn check(tools: &Tools) -> anyhow::Result<Vec<Checked>> {
    let mut checked = Vec::new();
    for file in files(&crate::root().join(DIR), NAME)? {
        output(tools.command("hadolint").arg(&file))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        checked.push(Checked::new(
            format!("{DIR}/{name}"),
            "hadolint",
            "no findings",
        ));
    }
    Ok(checked)
}
