//! Compose files: the schema of the compose specification.

use super::tools::{Tools, files};
use super::{Checked, output};

const DIR: &str = "deploy";
const NAME: &str = "compose.yaml";

/// Validates every compose file in `deploy/`.
pub(super) fn check(tools: &Tools) -> anyhow::Result<Vec<Checked>> {
    let mut checked = Vec::new();
    for file in files(&crate::root().join(DIR), NAME)? {
        let mut validate = tools.command("check-jsonschema");
        validate.args(["--builtin-schema", "vendor.compose-spec"]);
        output(validate.arg(&file))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        checked.push(Checked::new(
            format!("{DIR}/{name}"),
            "check-jsonschema",
            "valid",
        ));
    }
    Ok(checked)
}
