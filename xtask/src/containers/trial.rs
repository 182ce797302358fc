//! Tries the images: the demo's stack with kills, its edges and its aggregator in containers; then the all-in-one image
//! under traffic and kills.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{podman, tag};
use crate::setup;
use crate::step::{run, step};

const KILLS: u64 = 4;
/// Requests per second to the all-in-one container: 10,000 take half a minute, with kills in between.
const RATE: &str = "400";
/// The time of traffic before each kill.
const TRAFFIC_BEFORE_KILL: Duration = Duration::from_secs(4);
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The name of the all-in-one container and of its volume.
const NAME: &str = "fanzfiliate-edge-trial";
/// The most that the machines of a CI allow.
const LIMITS: [&str; 2] = ["--ulimit=nofile=20000:20000", "--ulimit=nproc=1000:1000"];

pub(super) fn run_all(programs: &Path, directory: &Path) -> anyhow::Result<()> {
    step(
        "the demo with edges and aggregator in containers, killed six times each",
        || demo(programs, &directory.join("programs")),
    )?;
    step("the all-in-one container, killed four times", || {
        let outcome = all_in_one(programs);
        remove_trial()?;
        outcome
    })
}

/// Runs the demo with programs that start containers instead.
fn demo(programs: &Path, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)?;
    // The demo uses the programs beside its own executable.
    for name in ["loadtest", "clickhouse-embedded"] {
        fs::copy(programs.join(name), directory.join(name))?;
    }
    for (program, image) in [("edge-tracker", "edge"), ("aggregator", "aggregator")] {
        let file = directory.join(program);
        fs::write(&file, start_script(image))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    let mut demo = Command::new(directory.join("loadtest"));
    demo.args(["demo", "--exit", "--kill"]);
    run(demo.args(setup::with_geo(Vec::new())?))
}

/// A script that runs an image's program with the script's arguments. The container of an earlier start with the same
/// arguments is killed first. SIGTERM is passed on; SIGKILL ends the script, and the container at the next start.
fn start_script(image: &str) -> String {
    let tag = tag(image);
    let limits = LIMITS.join(" ");
    let root = crate::root();
    let root = root.display();
    format!(
        "#!/bin/sh\n\
         name=fanzfiliate-edge-$(printf '%s' \"$*\" | sha256sum | cut -c1-16)\n\
         podman() {{ command podman --runtime runc --cgroup-manager cgroupfs \"$@\"; }}\n\
         podman kill --signal KILL \"$name\" >/dev/null 2>&1\n\
         podman rm --force --time 0 \"$name\" >/dev/null 2>&1\n\
         exec podman --runtime runc --cgroup-manager cgroupfs run --rm --name \"$name\" --network host --read-only \\\n\
         --user 0 --cap-drop ALL {limits} --volume /tmp:/tmp --volume {root}:{root}:ro \\\n\
         --volume \"$HOME/.cache:$HOME/.cache:ro\" {tag} \"$@\"\n"
    )
}

/// Replays traffic through the all-in-one container, kills it, and compares every answered request with ClickHouse.
fn all_in_one(programs: &Path) -> anyhow::Result<()> {
    remove_trial()?;
    start_all_in_one()?;
    let mut mountpoint = podman();
    mountpoint.args(["volume", "inspect", "--format", "{{.Mountpoint}}", NAME]);
    let mountpoint = mountpoint.output()?.stdout;
    let data = String::from_utf8_lossy(&mountpoint).trim().to_owned();
    let mut replay = Command::new(programs.join("loadtest"));
    replay.args([
        "replay",
        "--target",
        "http://127.0.0.1:8080",
        "--rate",
        RATE,
    ]);
    let links = crate::root().join("deploy/config/links.toml");
    let credentials = Path::new(&data).join("clickhouse/credentials.json");
    replay.arg("--links").arg(links);
    let mut replay = replay.arg("--credentials").arg(credentials).spawn()?;
    for _ in 0..KILLS {
        thread::sleep(TRAFFIC_BEFORE_KILL);
        run(podman().args(["kill", "--signal", "KILL", NAME]))?;
        start_all_in_one()?;
    }
    let status = replay.wait()?;
    ensure!(status.success(), "the replay exited with {status}");
    Ok(())
}

fn start_all_in_one() -> anyhow::Result<()> {
    let mut start = podman();
    start.args([
        "run",
        "--detach",
        "--replace",
        "--name",
        NAME,
        "--network",
        "host",
        "--read-only",
    ]);
    start.args(["--cap-drop", "ALL"]).args(LIMITS);
    start.arg("--volume").arg(format!("{NAME}:/data"));
    run(start.arg(tag("all-in-one")))?;
    let deadline = Instant::now() + READY_TIMEOUT;
    let edge = "/etc/fanzfiliate-edge/edge.toml";
    let is_ready = || -> anyhow::Result<bool> {
        let mut health = podman();
        health.args([
            "exec",
            NAME,
            "/bin/edge-tracker",
            "health",
            "--config",
            edge,
        ]);
        Ok(health.output()?.status.success())
    };
    while !is_ready()? {
        ensure!(
            Instant::now() < deadline,
            "the container is not ready; see `podman logs {NAME}`"
        );
    }
    Ok(())
}

fn remove_trial() -> anyhow::Result<()> {
    run(podman().args(["rm", "--force", "--ignore", "--time", "0", NAME]))?;
    run(podman().args(["volume", "rm", "--force", NAME]))
}
