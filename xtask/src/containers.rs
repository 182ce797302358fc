//! Container images: builds them from this machine's programs, and tries them under traffic and kills.

mod trial;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::step::{on_path, run, step};
use crate::{functions, setup, target_dir};

/// The images: targets of `deploy/Containerfile`, with their programs.
const IMAGES: [(&str, &[&str]); 3] = [
    ("edge", &["edge-tracker"]),
    ("aggregator", &["aggregator"]),
    (
        "all-in-one",
        &[
            "all-in-one",
            "clickhouse-embedded",
            "aggregator",
            "edge-tracker",
        ],
    ),
];
/// The largest image of an edge, in bytes.
const MAX_EDGE_BYTES: u64 = 40_000_000;
const SETTINGS: &str = "etc/fanzfiliate-edge";

/// How images are built.
#[derive(clap::Args)]
pub(crate) struct ContainersOptions {
    /// Write the root directories of the images to DIR and build no image, as the Containerfile's first stage does.
    #[arg(long, value_name = "DIR")]
    roots: Option<PathBuf>,
    /// The profile of the programs: `demo` builds in a fraction of the time, for a trial of the images.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// Builds the images and tries them.
pub(crate) fn run_all(options: &ContainersOptions) -> anyhow::Result<()> {
    setup::run_all()?;
    functions::build()?;
    crate::build_product(&options.profile)?;
    let programs = target_dir().join(&options.profile);
    if let Some(roots) = &options.roots {
        return write_roots(&programs, roots);
    }
    if !on_path("podman") || !on_path("runc") {
        setup::install(
            "podman",
            &["podman", "buildah", "runc"],
            "it builds and runs the images",
        )?;
    }
    let directory = target_dir().join("containers");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    step("root directories of the images", || {
        write_roots(&programs, &directory.join("roots"))
    })?;
    for (image, _) in IMAGES {
        step(&format!("image {image}"), || build_image(image, &directory))?;
    }
    check_size()?;
    // The demo's own programs have other features, and a directory of their own.
    crate::build_programs("demo", "build the demo")?;
    trial::run_all(&target_dir().join("demo"), &directory)
}

/// The local name of an image.
fn tag(image: &str) -> String {
    format!("localhost/fanzfiliate-edge/{image}")
}

fn podman() -> Command {
    let mut podman = Command::new("podman");
    // What works without systemd and on kernels with both versions of control groups.
    podman.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
    podman
}

/// Builds an image from the Containerfile, whose first stage is replaced by this machine's programs.
fn build_image(image: &str, directory: &Path) -> anyhow::Result<()> {
    let mut build = podman();
    build.args(["build", "--quiet", "--format", "docker", "--target", image]);
    build.arg("--tag").arg(tag(image));
    let context = format!("build={}", directory.display());
    build.args(["--build-context", &context]);
    build
        .arg("--file")
        .arg(crate::root().join("deploy/Containerfile"));
    run(build.arg(directory))
}

fn check_size() -> anyhow::Result<()> {
    let mut inspect = podman();
    inspect.args(["image", "inspect", "--format", "{{.Size}}", &tag("edge")]);
    let output = inspect.output()?;
    let bytes: u64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    ensure!(
        bytes <= MAX_EDGE_BYTES,
        "the edge's image has {bytes} bytes, more than {MAX_EDGE_BYTES}"
    );
    eprintln!("    the edge's image has {:.1} MB", bytes as f64 / 1e6);
    Ok(())
}

fn write_roots(programs: &Path, roots: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(roots.join("data"))?;
    for (image, names) in IMAGES {
        let root = roots.join(image);
        fs::create_dir_all(root.join("bin"))?;
        for name in names {
            let file = root.join("bin").join(name);
            run(Command::new("strip")
                .arg("-o")
                .arg(&file)
                .arg(programs.join(name)))?;
            copy_libraries(&file, &root)?;
        }
        if names.contains(&"edge-tracker") {
            copy_functions(&root.join("usr/share/fanzfiliate-edge/functions"))?;
        }
    }
    let all_in_one = roots.join("all-in-one");
    copy(
        &setup::engine_library()?,
        &all_in_one.join("lib/libchdb.so"),
    )?;
    copy_libraries(&all_in_one.join("lib/libchdb.so"), &all_in_one)?;
    let settings = all_in_one.join(SETTINGS);
    let deploy = crate::root().join("deploy");
    for name in ["aggregator.toml", "edge.toml"] {
        copy(
            &deploy.join("all-in-one/settings").join(name),
            &settings.join(name),
        )?;
    }
    copy(
        &deploy.join("config/links.toml"),
        &settings.join("links.toml"),
    )
}

/// Copies the shared libraries of a program, the dynamic linker included, to the same paths in `root`.
fn copy_libraries(program: &Path, root: &Path) -> anyhow::Result<()> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("failed to start ldd")?;
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = output
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for path in paths {
        copy(Path::new(path), &root.join(path.trim_start_matches('/')))?;
    }
    Ok(())
}

fn copy_functions(to: &Path) -> anyhow::Result<()> {
    for component in functions::COMPONENTS {
        copy(
            &functions::output_dir().join(component),
            &to.join(component),
        )?;
    }
    fs::write(to.join("spin.toml"), functions::packaged_manifest()?)?;
    Ok(())
}

/// Copies a file, following links, to a path whose directories are created. Everybody may read it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::copy(from, to).with_context(|| format!("failed to copy {}", from.display()))?;
    let is_executable = fs::metadata(from)?.permissions().mode() & 0o111 != 0;
    let mode = if is_executable { 0o755 } else { 0o644 };
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}
