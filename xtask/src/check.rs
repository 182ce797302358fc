//! All checks that do not run the product. CI calls the same command.

use std::process::Command;

use crate::step::{cargo, on_path, run, step};
use crate::{deploy, docs, functions, fuzz, tidy};

/// Runs all checks; the first failure ends the run.
pub(crate) fn run_all() -> anyhow::Result<()> {
    step("house rules", || tidy::check(&crate::root()))?;
    step("format", || {
        run(&mut cargo(["fmt", "--all", "--check"]))?;
        // Outside of the workspace, because it needs another compiler; the code it runs is inside.
        let mut fuzzer = cargo(["fmt", "--check", "--manifest-path"]);
        run(fuzzer.arg(crate::root().join(fuzz::FUZZ_DIR).join("Cargo.toml")))
    })?;
    step("clippy", || {
        run(&mut cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    functions::lint()?;
    step("generated documents", docs::check)?;
    step("documentation", || {
        let mut doc = cargo(["doc", "--workspace", "--no-deps"]);
        run(doc.env("RUSTDOCFLAGS", "-Dwarnings"))
    })?;
    deploy::check_all()?;
    deny()
}

fn deny() -> anyhow::Result<()> {
    if !on_path("cargo-deny") {
        step(
            "install cargo-deny: it checks licences and dependencies (some minutes, once)",
            || run(&mut cargo(["install", "--locked", "cargo-deny"])),
        )?;
    }
    step("licences, bans, sources", || {
        run(&mut cargo(["deny", "check", "licenses", "bans", "sources"]))
    })?;
    if advisories_are_reachable() {
        return step("advisories", || {
            run(&mut cargo(["deny", "check", "advisories"]))
        });
    }
    eprintln!("==> advisories: NOT CHECKED, the advisory database cannot be reached from here");
    Ok(())
}

fn advisories_are_reachable() -> bool {
    let mut list = Command::new("timeout");
    list.args([
        "20",
        "git",
        "ls-remote",
        "--quiet",
        "https://github.com/rustsec/advisory-db",
        "HEAD",
    ]);
    list.env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .is_ok_and(|out| out.status.success())
}
