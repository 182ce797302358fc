//! Installs the packages into a bare Debian root and follows the README's first link there, with nothing of the build
//! machine but ClickHouse, which runs beside it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::Package;
use crate::step::{on_path, run, step};
use crate::{setup, target_dir};

/// The oldest release whose C library the programs accept, if they are built on it.
const DEBIAN_RELEASE: &str = "bookworm";
/// What `apt` would install together with the packages.
const DEPENDENCY: &str = "--include=systemd-standalone-sysusers";
/// The time in which a click must become a row.
const ROW_TIMEOUT: Duration = Duration::from_secs(30);
/// The time in which a started program must be healthy.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Programs in the README, as the demo has built them.
const BUILT: &str = "target/demo/";

/// Follows the README's first link with the Debian packages, then with the tarball.
pub(super) fn verify(package: &Package) -> anyhow::Result<()> {
    let image = bare_image()?;
    step(
        "README's first link with the Debian packages, on a bare Debian",
        || {
            let root = BareRoot::unpack(&image)?;
            for name in package
                .files()?
                .iter()
                .filter(|name| name.ends_with(".deb"))
            {
                fs::copy(package.dist.join(name), root.path().join(name))?;
                root.run("dpkg", &["--install", &format!("/{name}")])?;
            }
            first_link(package, &root, "/usr/bin/")
        },
    )?;
    step(
        "README's first link with the tarball, on a bare Debian",
        || {
            let root = BareRoot::unpack(&image)?;
            let mut tar = Command::new("tar");
            tar.arg("-xzf")
                .arg(package.tarball())
                .arg("-C")
                .arg(root.path().join("opt"));
            run(&mut tar)?;
            first_link(package, &root, &format!("/opt/{}/bin/", package.name))
        },
    )
}

/// A tar file of Debian's essential packages, and what the packages depend on.
fn bare_image() -> anyhow::Result<PathBuf> {
    let image = target_dir()
        .join("bare-root")
        .join(format!("{DEBIAN_RELEASE}.tar"));
    if image.is_file() {
        return Ok(image);
    }
    if !on_path("mmdebstrap") {
        setup::install(
            "mmdebstrap",
            &["mmdebstrap"],
            "the packages are tried on a bare Debian",
        )?;
    }
    fs::create_dir_all(target_dir().join("bare-root"))?;
    let unfinished = image.with_extension("unfinished.tar");
    step("a bare Debian", || {
        let mut bootstrap = Command::new("mmdebstrap");
        bootstrap.args(["--variant=essential", "--quiet", DEPENDENCY, DEBIAN_RELEASE]);
        run(bootstrap.arg(&unfinished))
    })?;
    fs::rename(unfinished, &image)?;
    Ok(image)
}

/// A root directory that is deleted at the end.
struct BareRoot(PathBuf);

impl BareRoot {
    fn unpack(image: &Path) -> anyhow::Result<Self> {
        let path = target_dir()
            .join("bare-root")
            .join(format!("root-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        let root = Self(path);
        run(Command::new("tar")
            .arg("-xf")
            .arg(image)
            .arg("-C")
            .arg(root.path()))?;
        Ok(root)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    /// A program in the root, with no variable of this environment.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("/usr/sbin/chroot");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg(self.path()).arg(program).args(args);
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<()> {
        run(&mut self.command(program, args))
    }
}

impl Drop for BareRoot {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.path());
    }
}

/// A process that is killed at the end.
struct Running(Child);

impl Running {
    /// Starts a program and waits for the line of JSON that it prints when it is ready.
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut running = Self(command.stdout(Stdio::piped()).spawn()?);
        let stdout = running
            .0
            .stdout
            .take()
            .context("standard output is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(
            line.starts_with('{'),
            "{command:?} ended before it was ready"
        );
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does what the README's section says, with programs from `bin`, and waits for the row.
fn first_link(package: &Package, root: &BareRoot, bin: &str) -> anyhow::Result<()> {
    let readme = Section::first_link()?;
    let home = root.path();
    let engine = readme.command("clickhouse-embedded")?;
    // ClickHouse is no part of the packages: it runs beside the bare root, with its data in it.
    let mut clickhouse = Command::new(package.tree.join("bin/clickhouse-embedded"));
    clickhouse.args(&engine[1..]).current_dir(home);
    let _engine = Running(clickhouse.spawn()?);
    let mut ping = Command::new("curl");
    ping.args(["--silent", "--retry", "30", "--retry-connrefused"]);
    run(ping.arg("http://127.0.0.1:8123/ping"))?;
    for name in ["aggregator.toml", "links.toml", "edge.toml"] {
        fs::write(home.join(name), readme.file(name)?)?;
    }
    let mut running = Vec::new();
    for program in ["aggregator", "edge-tracker"] {
        let words = readme.command(program)?;
        let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        running.push(Running::start(
            root.command(&format!("{bin}{program}"), &args),
        )?);
        wait_until_healthy(root, &format!("{bin}{program}"), &args[1..])?;
    }
    for words in readme.clicks() {
        run(Command::new("sh").arg("-c").arg(words))?;
    }
    wait_for_row(home)
}

/// Asks `program health` with `settings`, the option and the file, until it is.
fn wait_until_healthy(root: &BareRoot, program: &str, settings: &[&str]) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    let mut args = vec!["health"];
    args.extend(settings);
    while !root.command(program, &args).output()?.status.success() {
        ensure!(
            Instant::now() < deadline,
            "{program} is not healthy after {READY_TIMEOUT:?}"
        );
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Asks ClickHouse as the analyst whom `credentials.json` names.
fn wait_for_row(home: &Path) -> anyhow::Result<()> {
    let credentials = fs::read_to_string(home.join("data/clickhouse/credentials.json"))?;
    let credentials: serde_json::Value = serde_json::from_str(&credentials)?;
    let text = |name: &str| {
        credentials["analyst"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let deadline = Instant::now() + ROW_TIMEOUT;
    loop {
        let mut query = Command::new("curl");
        query.args([
            "--silent",
            "http://127.0.0.1:8123/?query=SELECT+count()+FROM+tracking.clicks",
        ]);
        query
            .arg("--user")
            .arg(format!("{}:{}", text("user"), text("password")));
        let rows = String::from_utf8_lossy(&query.output()?.stdout)
            .trim()
            .to_owned();
        if rows == "1" {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("ClickHouse has {rows} rows of the one click after {ROW_TIMEOUT:?}");
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// A section of the README with its files and commands.
struct Section(String);

impl Section {
    fn first_link() -> anyhow::Result<Self> {
        let readme = fs::read_to_string(crate::root().join("README.md"))?;
        let (_, section) = readme
            .split_once("## Your first link")
            .context("README has no first link")?;
        Ok(Self(
            section.split("\n## ").next().unwrap_or(section).to_owned(),
        ))
    }

    /// The block of code that follows "this `NAME`".
    fn file(&self, name: &str) -> anyhow::Result<String> {
        let (_, after) = self
            .0
            .split_once(&format!("this `{name}`"))
            .with_context(|| format!("README has no {name}"))?;
        let (_, block) = after
            .split_once("```toml\n")
            .context("README has no block of TOML")?;
        let (block, _) = block
            .split_once("```")
            .context("README has an open block")?;
        Ok(block.to_owned())
    }

    /// The words of the command that runs `program`.
    fn command(&self, program: &str) -> anyhow::Result<Vec<String>> {
        let start = format!("{BUILT}{program} ");
        let line = self
            .0
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(&start));
        let line = line.with_context(|| format!("README does not run {program}"))?;
        Ok(line.split(' ').map(str::to_owned).collect())
    }

    /// The commands that click and look at the edge. The one that looks into ClickHouse asks for a password.
    fn clicks(&self) -> impl Iterator<Item = &str> {
        self.0
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("curl") && !line.contains("-u analyst"))
    }
}
