//! Fetches what a fresh machine lacks, each thing pinned by its checksum. Nothing is installed
//! without saying what and why.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha512};

use crate::step::{on_path, run, step};

/// A file out of an npm package.
struct Pinned {
    what: &'static str,
    package: &'static str,
    integrity: &'static str,
    /// How the wanted file's name ends.
    suffix: &'static str,
}

const ENGINE: Pinned = Pinned {
    what: "ClickHouse as a library (178 MB download, 566 MB unpacked)",
    package: "@chdb/lib-linux-x64-gnu@26.7.3-stable.1",
    integrity: "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
    suffix: "libchdb.so",
};

const GEO: Pinned = Pinned {
    what: "a country file, CC0 (a stand-in: bring your own MaxMind-format file for real use)",
    package: "@ip-location-db/geo-whois-asn-country-mmdb@2.3.2026061719",
    integrity: "sha512-xemBDNQl4mCYDuVbqe3jKGKsVDykZGkfvebhtOh/3VGLadq8vsp7t7ontpMUt3hH7sAGT0eLDyJ99SV+0waxZg==",
    suffix: ".mmdb",
};

/// Where the country file lies.
fn geo_file() -> anyhow::Result<PathBuf> {
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

/// Everything; quick when nothing lacks.
pub(crate) fn run_all() -> anyhow::Result<()> {
    let engine = cache()?.join("clickhouse-26.7.3/libchdb.so");
    let wants_engine = !on_path("clickhouse") && !engine.is_file();
    let geo = geo_file()?;
    if !["cc", "gcc", "clang"].into_iter().any(on_path) {
        install(
            "gcc",
            &["gcc", "libc6-dev"],
            "some dependencies compile C code",
        )?;
    }
    if (wants_engine || !geo.is_file()) && !on_path("npm") {
        install(
            "npm",
            &["npm"],
            "the engine and the country file are npm packages",
        )?;
    }
    if wants_engine {
        step(&format!("fetch {}", ENGINE.what), || {
            fetch(&ENGINE, &engine)
        })?;
    }
    if !geo.is_file() {
        step(&format!("fetch {}", GEO.what), || fetch(&GEO, &geo))?;
    }
    Ok(())
}

/// What tests need beside: PostgreSQL, which the aggregator's store is tried on as on SQLite; nginx and HAProxy,
/// which are documented in front of an edge; openssl, of which the commands for certificates are documented; and what single tests have nothing to try without: clocks that jump,
/// and a browser.
pub(crate) fn for_tests() -> anyhow::Result<()> {
    if !on_path("postgres") && !Path::new("/usr/lib/postgresql").is_dir() {
        let why = "the aggregator's store is tried on it, in a server of the tests' own";
        install("PostgreSQL", &["postgresql"], why)?;
    }
    if !on_path("nginx") || !on_path("haproxy") {
        let why = "the documented configurations of proxies are tried in front of an edge";
        install("nginx and HAProxy", &["nginx", "haproxy"], why)?;
    }
    if !on_path("openssl") {
        let why = "the documented commands for certificates are tried with it";
        install("openssl", &["openssl"], why)?;
    }
    if let Err(error) = faketime() {
        eprintln!("==> clocks that jump: NOT TRIED, {error:#}");
    }
    if let Err(error) = browser() {
        eprintln!("==> what a browser does with prefetched links: NOT TRIED, {error:#}");
    }
    Ok(())
}

fn browser() -> anyhow::Result<()> {
    if on_path("chromium") {
        return Ok(());
    }
    let why = "a test looks at what a real browser does with links that it fetches ahead";
    install("Chromium", &["chromium"], why)
}

/// What faults of clocks need.
pub(crate) fn faketime() -> anyhow::Result<()> {
    if on_path("faketime") {
        return Ok(());
    }
    let why = "it sets the clocks of single processes, which must stand it";
    install("libfaketime", &["faketime"], why)
}

/// Installs Debian packages where that is possible, and says otherwise how to.
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
            .with_context(|| format!("try it by hand: {by_hand}"))
    })
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// Downloads beside the destination and renames, so that half a file is never taken for a whole.
fn fetch(pinned: &Pinned, destination: &Path) -> anyhow::Result<()> {
    let folder = destination
        .parent()
        .context("the cache folder has a parent")?;
    let work = folder.join(format!(".fetch-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let done = fetch_into(pinned, &work, destination);
    // What is left of a failed download is only in the way.
    let _ = fs::remove_dir_all(&work);
    done
}

fn fetch_into(pinned: &Pinned, work: &Path, destination: &Path) -> anyhow::Result<()> {
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent", "--pack-destination"])
        .arg(work)
        .arg(pinned.package);
    run(pack.current_dir(work))?;
    let tarball = find(work, ".tgz")?;
    let found = integrity(&tarball)?;
    ensure!(
        found == pinned.integrity,
        "{} is not what was pinned: {found} instead of {}; nothing was unpacked",
        pinned.package,
        pinned.integrity
    );
    let unpacked = work.join("unpacked");
    fs::create_dir(&unpacked)?;
    run(Command::new("tar")
        .arg("-xzf")
        .arg(&tarball)
        .arg("-C")
        .arg(&unpacked))?;
    let file = find(&unpacked, pinned.suffix)?;
    fs::rename(&file, destination)
        .with_context(|| format!("cannot move the file to {}", destination.display()))
}

/// The first file below `folder` whose name ends so.
fn find(folder: &Path, suffix: &str) -> anyhow::Result<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                return Ok(path);
            }
        }
    }
    bail!("the package holds no file ending in {suffix}")
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
