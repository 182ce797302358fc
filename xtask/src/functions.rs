//! Builds and lints the functions for WebAssembly: with rustup's target if available, otherwise with the
//! distribution's compiler, which builds the target's standard library from source.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::step::{cargo, on_path, run, step};
use crate::{setup, target_dir};

const TARGET: &str = "wasm32-wasip2";
/// The components that an edge runs.
pub(crate) const COMPONENTS: [&str; 2] = ["postback.wasm", "kyc_webhook.wasm"];
/// All functions, including the guest of the host's tests.
const PACKAGES: [&str; 3] = ["postback", "kyc-webhook", "function-guest"];
/// Debian packages: a compiler with its source, a linker and a C library for WebAssembly.
const DEBIAN: [&str; 8] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "libstd-rust-web-dev",
    "rust-web-llvm",
    "wasi-libc",
    "lld-19",
    "libclang-rt-19-dev-wasm32",
];

/// Builds every function into `target/wasm32-wasip2/function`.
pub(crate) fn build() -> anyhow::Result<()> {
    if rustup_has_it() {
        return step("build the functions", || {
            run(cargo(["build", "--profile", "function", "--target", TARGET]).args(packages()))
        });
    }
    eprintln!(
        "==> rustup can't install {TARGET}; building it from source with the distribution's compiler"
    );
    build_with_debian()
}

/// The directory of the built components.
pub(crate) fn output_dir() -> PathBuf {
    target_dir().join(TARGET).join("function")
}

/// `spin.toml` with components in its own directory.
pub(crate) fn packaged_manifest() -> anyhow::Result<String> {
    let manifest = std::fs::read_to_string(crate::root().join("wasm-functions/spin.toml"))?;
    let built = format!("../target/{TARGET}/function/");
    for component in COMPONENTS {
        let path = format!("{built}{component}");
        ensure!(manifest.contains(&path), "spin.toml does not name {path}");
    }
    Ok(manifest.replace(&built, ""))
}

/// Lints code that only exists for WebAssembly; without rustup's target there is no linter for it.
pub(crate) fn lint() -> anyhow::Result<()> {
    if !rustup_has_it() {
        eprintln!("==> clippy, functions: NOT CHECKED, rustup can't install {TARGET}");
        return Ok(());
    }
    step("clippy, functions", || {
        let mut clippy = cargo(["clippy", "--profile", "function", "--target", TARGET]);
        clippy.args(packages()).arg("--package=functions-shared");
        run(clippy.args(["--", "-D", "warnings"]))
    })
}

fn packages() -> impl Iterator<Item = String> {
    PACKAGES.iter().map(|name| format!("--package={name}"))
}

/// Whether the target is installed, or could be installed.
fn rustup_has_it() -> bool {
    let rustup = |words: &[&str]| Command::new("rustup").args(words).output();
    let installed = rustup(&["target", "list", "--installed"]);
    let listed = |output: std::process::Output| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .any(|line| line == TARGET)
    };
    if installed.is_ok_and(listed) {
        return true;
    }
    eprintln!("==> install {TARGET}: functions are compiled to it");
    rustup(&["target", "add", TARGET]).is_ok_and(|output| output.status.success())
}

fn build_with_debian() -> anyhow::Result<()> {
    let compiler = Path::new("/usr/bin/rustc");
    let sources = Path::new("/usr/lib/wasm32-wasi");
    if !compiler.is_file() || !sources.is_dir() || !on_path("wasm-ld-19") {
        setup::install(
            "a compiler for WebAssembly",
            &DEBIAN,
            "functions are compiled to it",
        )?;
    }
    step(
        "build the functions and the standard library for them",
        || {
            let linker = linker_dir()?;
            let path = std::env::var_os("PATH").unwrap_or_default();
            let path = std::iter::once(linker).chain(std::env::split_paths(&path));
            let mut build = Command::new("/usr/bin/cargo");
            crate::step::forget_this_package(&mut build);
            build
                .current_dir(crate::root())
                .args(["build", "--profile", "function", "--target", TARGET])
                .arg("-Zbuild-std=std,panic_abort")
                .args(packages())
                .env("PATH", std::env::join_paths(path)?)
                .env("RUSTC", compiler)
                // Building the standard library is unstable, and this is a stable compiler.
                .env("RUSTC_BOOTSTRAP", "1")
                .env(
                    "RUSTFLAGS",
                    format!("-Lnative={} -Clink-self-contained=no", sources.display()),
                );
            run(&mut build)
        },
    )
}

/// A directory in which the linker has the name that the compiler expects.
fn linker_dir() -> anyhow::Result<PathBuf> {
    let dir = target_dir().join("wasm-linker");
    std::fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
    let link = dir.join("wasm-ld");
    if !link.exists() {
        std::os::unix::fs::symlink("/usr/bin/wasm-ld-19", &link)
            .with_context(|| format!("failed to create {}", link.display()))?;
    }
    Ok(dir)
}
