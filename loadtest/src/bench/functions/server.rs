//! The measured servers: two edges with functions, one of which reuses instances, and the postback function
//! compiled natively. Afterwards each server's journal must contain the reports that it accepted.

use super::super::baseline::native_postback;
use super::super::journal::JournalContents;
use super::super::machine::{self, Cores};
use super::requests;
use crate::function_files::write_secret;
use crate::links;
use crate::process::Process;
use crate::stack::{development_certificates, free_port, program};
use crate::verify;
use anyhow::{Context as _, ensure};
use event_shipping::tls::Subject;
use serde::Serialize;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Components are compiled at the first start.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Limits of a call. A hundred calls that never return share one core and must be stopped by the CPU limit, not by
/// the time limit.
const LIMITS: &str = "cpu = \"50ms\"\nwall = \"20s\"";
const FUNCTIONS: &str = "wasm32-wasip2/function";

/// The kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FunctionsServerKind {
    /// An edge with default settings: each call has its own instance.
    Fresh,
    /// An edge that reuses instances.
    Reused,
    /// No WebAssembly: postbacks are evaluated natively.
    Native,
}

impl fmt::Display for FunctionsServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fresh => "edge",
            Self::Reused => "edge, reused instances",
            Self::Native => "native",
        })
    }
}

/// A running server and its answered requests.
#[derive(Debug)]
pub(super) struct FunctionsServer {
    pub(super) kind: FunctionsServerKind,
    pub(super) address: SocketAddr,
    /// Postbacks answered with 200.
    pub(super) postbacks: u64,
    /// Answered clicks.
    pub(super) clicks: u64,
    admin: Option<String>,
    process: Process,
    journal: PathBuf,
}

impl FunctionsServer {
    /// Starts `kind` in its own directory in `work`, on the servers' core.
    pub(super) fn start(
        kind: FunctionsServerKind,
        work: &Path,
        cores: Cores,
    ) -> anyhow::Result<Self> {
        let dir = work.join(match kind {
            FunctionsServerKind::Fresh => "fresh",
            FunctionsServerKind::Reused => "reused",
            FunctionsServerKind::Native => "native",
        });
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
        let (mut command, journal) = match kind {
            FunctionsServerKind::Native => native(&dir)?,
            FunctionsServerKind::Fresh => edge(&dir, work, "")?,
            FunctionsServerKind::Reused => edge(&dir, work, "reuse = [\"hello\", \"postback\"]")?,
        };
        let log = dir.join("log");
        let started = || Process::start(&kind.to_string(), &mut command, &log);
        let mut process = cores.on_server(started)?;
        let ready = process.ready_line(READY_TIMEOUT)?;
        let address = ready["listening"].as_str().context("no address")?;
        Ok(Self {
            kind,
            address: address.parse()?,
            postbacks: 0,
            clicks: 0,
            admin: ready["admin"].as_str().map(|it| format!("http://{it}")),
            process,
            journal,
        })
    }

    /// CPU time of all threads so far.
    pub(super) fn cpu_time(&self) -> anyhow::Result<Duration> {
        machine::cpu_time(&[self.process.pid()])
    }

    /// Number of failed calls so far, including those that were stopped.
    pub(super) fn failed(&self) -> anyhow::Result<f64> {
        let admin = self.admin.as_deref().context("only edges count failures")?;
        // The metric does not exist before the first failure.
        Ok(verify::counter(admin, "function_errors_total").unwrap_or_default())
    }

    /// Stops the server and compares its journal with the answered requests.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        match self.kind {
            // Answered postbacks are durable, so it may be killed.
            FunctionsServerKind::Native => self.process.kill()?,
            FunctionsServerKind::Fresh | FunctionsServerKind::Reused => {
                self.process.stop(STOP_TIMEOUT)?
            }
        }
        let contents = JournalContents::read(&self.journal)?;
        let (sales, clicks) = (
            contents.transactions.len() as u64,
            contents.ids.len() as u64,
        );
        ensure!(
            (sales, clicks) == (self.postbacks, self.clicks) && contents.events == sales + clicks,
            "{}: {} postbacks and {} clicks were answered, but of {} events in the journal {sales} are \
             conversions and {clicks} clicks",
            self.kind,
            self.postbacks,
            self.clicks,
            contents.events
        );
        Ok(())
    }
}

fn native(dir: &Path) -> anyhow::Result<(Command, PathBuf)> {
    fs::write(dir.join(native_postback::ADVERTISER), requests::entry()?)?;
    fs::write(dir.join(native_postback::KEYS), requests::click_id_keys())?;
    let mut command = Command::new(program("loadtest")?);
    command
        .args(["baseline", "native-postback", "--dir"])
        .arg(dir);
    Ok((command, dir.join(native_postback::JOURNAL)))
}

fn edge(dir: &Path, work: &Path, more: &str) -> anyhow::Result<(Command, PathBuf)> {
    let at = |name: &str| dir.join(name);
    fs::write(at("links.toml"), links::sample_file())?;
    fs::write(at("spin.toml"), manifest()?)?;
    write_secret(&at("secrets.toml"), &requests::secrets())?;
    write_secret(&at("advertisers.toml"), &requests::advertisers())?;
    let data = at("data");
    fs::create_dir_all(&data)?;
    // One edge compiles the functions for all.
    let (compiled, shared) = (data.join("compiled-functions"), work.join("compiled"));
    fs::create_dir_all(&shared)?;
    std::os::unix::fs::symlink(shared, compiled)?;
    let text = format!(
        "node = 1\ndata_dir = {data:?}\nworkers = 1\nsecrets = {:?}\n\
         [http]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
         trusted_proxies = [\"127.0.0.0/8\"]\n[links]\nfile = {:?}\n\
         [aggregator]\naddress = \"127.0.0.1:{}\"\n\
         [functions]\nmanifest = {:?}\nadvertisers = {:?}\n{more}\n\
         [functions.limits]\n{LIMITS}\n",
        at("secrets.toml"),
        at("links.toml"),
        free_port()?,
        at("spin.toml"),
        at("advertisers.toml"),
    );
    development_certificates(&data.join("tls"), &Subject::Edge(vec![1]))?;
    fs::write(at("edge.toml"), text)?;
    let mut command = Command::new(program("edge-tracker")?);
    command.args(["serve", "--config"]).arg(at("edge.toml"));
    Ok((command, data.join("journal")))
}

/// The deployed postback function, and the test guest twice: well-behaved and not.
fn manifest() -> anyhow::Result<String> {
    let (guest, postback) = (component("function_guest")?, component("postback")?);
    Ok(format!(
        r#"spin_manifest_version = 2
[application]
name = "measured"
[variables]
tracker_token = {{ required = true, secret = true }}
click_id_keys = {{ required = true, secret = true }}
[[trigger.http]]
route = "/hello"
component = "hello"
[[trigger.http]]
route = "/spin"
component = "stray"
[[trigger.http]]
route = "/postback/..."
component = "postback"
[component.hello]
source = {guest:?}
[component.stray]
source = {guest:?}
[component.postback]
source = {postback:?}
allowed_outbound_hosts = ["http://tracker.internal"]
key_value_stores = ["advertisers", "links"]
[component.postback.variables]
tracker_token = "{{{{ tracker_token }}}}"
tracker_url = "http://tracker.internal"
click_id_keys = "{{{{ click_id_keys }}}}"
"#
    ))
}

/// A component's file, in the target directory of this program.
fn component(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe().context("the path of this executable is unknown")?;
    let file = Path::new(FUNCTIONS).join(format!("{name}.wasm"));
    here.ancestors()
        .map(|dir| dir.join(&file))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built; run: cargo xtask functions"))
}
