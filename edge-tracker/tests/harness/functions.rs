//! Functions for an edge of a test: the deployed ones, and compiled code that all edges share.

use std::path::{Path, PathBuf};

/// Writes the manifest of the deployed functions to `dir`, and returns its path.
pub fn deploy(dir: &Path) -> PathBuf {
    deploy_with(dir, &["", ""])
}

/// The same with a manifest in which the first text is replaced by the second.
pub fn deploy_with(dir: &Path, [from, to]: &[&str; 2]) -> PathBuf {
    let deployed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wasm-functions");
    let text = std::fs::read_to_string(deployed.join("spin.toml")).expect("read");
    assert!(text.contains(from), "{from}");
    let sources = format!("source = \"{}/", deployed.display());
    let text = text.replace(from, to).replace("source = \"", &sources);
    let manifest = dir.join("spin.toml");
    std::fs::write(&manifest, text).expect("written");
    share_compiled(dir);
    manifest
}

/// Lets the edge in `dir` use what any edge has compiled: compiling takes longer than most tests.
pub fn share_compiled(dir: &Path) {
    let compiled = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-functions");
    let data = dir.join("data");
    std::fs::create_dir_all(&compiled).expect("directory created");
    std::fs::create_dir_all(&data).expect("directory created");
    std::os::unix::fs::symlink(compiled, data.join("compiled-functions")).expect("linked");
}
