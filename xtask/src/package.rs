//! Release packages in `dist/`: a tarball and Debian packages of the programs with functions, example settings, units,
//! man pages, completions, licences and bills of materials.

mod bare_root;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::step::{cargo, run, step};
use crate::{functions, setup, target_dir};

/// What operators run.
const PROGRAMS: [&str; 3] = ["edge-tracker", "aggregator", "clickhouse-embedded"];
/// The programs with a Debian package.
const DEBIAN_PACKAGES: [&str; 2] = ["edge-tracker", "aggregator"];
/// Cargo's tools with their features and the reasons to install them.
const TOOLS: [(&str, &str, &str); 3] = [
    (
        "cargo-about",
        "cli",
        "it collects the licences of all libraries",
    ),
    ("cargo-cyclonedx", "", "it writes the bills of materials"),
    ("cargo-deb", "", "it builds the Debian packages"),
];
/// Files and directories of the repository that a package has under the same name.
const DOCUMENTS: [&str; 4] = ["LICENSE", "README.md", "CHANGELOG.md", "docs"];

/// How packages are built.
#[derive(clap::Args)]
pub(crate) struct PackageOptions {
    /// The profile of the programs: `demo` builds in a fraction of the time, for a trial of the packages.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Install both packages into a bare Debian root and follow the README's first link there.
    #[arg(long)]
    verify: bool,
}

/// Builds the packages.
pub(crate) fn build(options: &PackageOptions) -> anyhow::Result<()> {
    setup::run_all()?;
    for (tool, features, why) in TOOLS {
        setup::cargo_install(tool, features, why)?;
    }
    functions::build()?;
    crate::build_product(&options.profile)?;
    let package = Package::new()?;
    package.fill_tree(&options.profile)?;
    package.write_tarball()?;
    package.write_debian_packages(&options.profile)?;
    package.write_checksums()?;
    if options.verify {
        bare_root::verify(&package)?;
    }
    package.print_files()
}

/// The files in `dist/`.
struct Package {
    dist: PathBuf,
    /// `fanzfiliate-edge-VERSION-ARCH`.
    name: String,
    /// The content of the tarball, from which the Debian packages are made as well.
    tree: PathBuf,
}

impl Package {
    fn new() -> anyhow::Result<Self> {
        let dist = crate::root().join("dist");
        let tree = dist.join("tree");
        if dist.exists() {
            fs::remove_dir_all(&dist)?;
        }
        fs::create_dir_all(&tree)?;
        let version = env!("CARGO_PKG_VERSION");
        let name = format!("fanzfiliate-edge-{version}-{}", std::env::consts::ARCH);
        Ok(Self { dist, name, tree })
    }

    fn tarball(&self) -> PathBuf {
        self.dist.join(format!("{}.tar.gz", self.name))
    }

    fn fill_tree(&self, profile: &str) -> anyhow::Result<()> {
        step("programs without debug information", || {
            self.add_programs(profile)
        })?;
        self.add_functions()?;
        for name in DOCUMENTS {
            copy(&crate::root().join(name), &self.tree.join(name))?;
        }
        let deploy = crate::root().join("deploy");
        for name in ["config", "systemd"] {
            copy(&deploy.join(name), &self.tree.join(name))?;
        }
        // Each Debian package has a file of its own name that creates the group.
        let group = deploy.join("systemd/fanzfiliate-edge.sysusers.conf");
        for package in DEBIAN_PACKAGES {
            let name = format!("sysusers/fanzfiliate-{package}.conf");
            fs::create_dir_all(self.tree.join("sysusers"))?;
            copy(&group, &self.tree.join(name))?;
        }
        step("licences of all libraries (some minutes)", || {
            self.add_licences()
        })?;
        step("bills of materials (CycloneDX)", || {
            self.add_bills_of_materials()
        })?;
        // The programs write files for their own user only.
        run(Command::new("chmod")
            .args(["-R", "u=rwX,go=rX"])
            .arg(&self.tree))
    }

    fn add_programs(&self, profile: &str) -> anyhow::Result<()> {
        let bin = self.tree.join("bin");
        fs::create_dir(&bin)?;
        for program in PROGRAMS {
            let stripped = bin.join(program);
            let mut strip = Command::new("strip");
            strip.arg("-o").arg(&stripped);
            run(strip.arg(target_dir().join(profile).join(program)))?;
            run(Command::new(stripped)
                .arg("manual")
                .arg("--to")
                .arg(&self.tree))?;
        }
        Ok(())
    }

    /// Copies the components, and the manifest with their paths in the package.
    fn add_functions(&self) -> anyhow::Result<()> {
        let directory = self.tree.join("functions");
        fs::create_dir(&directory)?;
        for component in functions::COMPONENTS {
            copy(
                &functions::output_dir().join(component),
                &directory.join(component),
            )?;
        }
        fs::write(directory.join("spin.toml"), functions::packaged_manifest()?)?;
        Ok(())
    }

    /// Collects the licences of all libraries of the workspace, the developers' tools included. The texts come from the
    /// crates themselves: a build asks no service.
    fn add_licences(&self) -> anyhow::Result<()> {
        let settings = crate::root().join("deploy/package");
        let mut about = cargo([
            "about",
            "generate",
            "--workspace",
            "--locked",
            "--offline",
            "--fail",
        ]);
        about.arg("--config").arg(settings.join("about.toml"));
        about
            .arg("--output-file")
            .arg(self.tree.join("THIRD-PARTY-LICENCES.txt"));
        run(about.arg(settings.join("licences.hbs")))
    }

    fn add_bills_of_materials(&self) -> anyhow::Result<()> {
        let directory = self.tree.join("sbom");
        fs::create_dir(&directory)?;
        for program in PROGRAMS {
            let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
            let mut cyclonedx = cargo([
                "cyclonedx",
                "--format",
                "json",
                "--quiet",
                "--target",
                &target,
            ]);
            cyclonedx.args(["--override-filename", "bill-of-materials"]);
            run(cyclonedx.arg("--manifest-path").arg(manifest_of(program)))?;
            // Written beside the manifest of each package of the workspace that the program uses.
            for bill in bills_of_materials()? {
                let is_of_the_program = bill.parent().is_some_and(|it| it.ends_with(program));
                if is_of_the_program {
                    fs::copy(&bill, directory.join(format!("{program}.cdx.json")))?;
                }
                fs::remove_file(bill)?;
            }
        }
        Ok(())
    }

    /// Writes the tarball; equal content gives equal bytes.
    fn write_tarball(&self) -> anyhow::Result<()> {
        step("tarball", || {
            let mut tar = Command::new("tar");
            tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
            tar.arg(format!("--mtime=@{}", commit_time()?));
            tar.arg(format!("--transform=s,^\\.,{},", self.name));
            tar.arg("--use-compress-program=gzip -9n");
            tar.arg("-cf").arg(self.tarball());
            run(tar.arg("-C").arg(&self.tree).arg("."))
        })
    }

    fn write_debian_packages(&self, profile: &str) -> anyhow::Result<()> {
        for package in DEBIAN_PACKAGES {
            step(&format!("Debian package of {package}"), || {
                let mut deb = cargo(["deb", "--no-build", "--locked", "--quiet"]);
                deb.args(["--profile", profile, "-p", package]);
                run(deb.arg("--output").arg(&self.dist))
            })?;
        }
        Ok(())
    }

    fn write_checksums(&self) -> anyhow::Result<()> {
        let names = self.files()?;
        let sums = Command::new("sha256sum")
            .args(&names)
            .current_dir(&self.dist)
            .output();
        let sums = sums.context("failed to start sha256sum")?;
        ensure!(sums.status.success(), "sha256sum failed");
        fs::write(self.dist.join("SHA256SUMS"), sums.stdout)?;
        Ok(())
    }

    /// The names of all files in `dist/`, sorted.
    fn files(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dist)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn print_files(&self) -> anyhow::Result<()> {
        for name in self.files()? {
            let bytes = fs::metadata(self.dist.join(&name))?.len();
            println!("{:>10.1} MB  dist/{name}", bytes as f64 / 1e6);
        }
        Ok(())
    }
}

fn manifest_of(program: &str) -> PathBuf {
    let root = crate::root();
    let at_top = root.join(program).join("Cargo.toml");
    if at_top.is_file() {
        return at_top;
    }
    root.join("crates").join(program).join("Cargo.toml")
}

/// The files that cargo-cyclonedx has just written.
fn bills_of_materials() -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![crate::root()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            let is_built = [Some("target"), Some("dist"), Some(".git")]
                .contains(&path.file_name().and_then(OsStr::to_str));
            if entry.file_type()?.is_dir() && !is_built {
                directories.push(path);
            } else if path.file_name() == Some(OsStr::new("bill-of-materials.json")) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// The time of the last commit, in seconds since 1970.
fn commit_time() -> anyhow::Result<String> {
    let mut log = Command::new("git");
    log.args(["log", "-1", "--format=%ct"])
        .current_dir(crate::root());
    let log = log
        .output()
        .context("git states the time of the tarball's files")?;
    Ok(String::from_utf8_lossy(&log.stdout).trim().to_owned())
}

/// Copies a file or a directory with its content.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut copy = Command::new("cp");
    run(copy.arg("--recursive").arg(from).arg(to))
        .with_context(|| format!("failed to copy {}", from.display()))
}
