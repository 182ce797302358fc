//! Starts the real processes (ClickHouse, aggregator, edges) in one data directory, with generated settings. Each
//! process keeps its ports across restarts. No traffic is sent from here.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use event_shipping::tls::{self, Subject};

use crate::function_files::{FunctionFiles, write_secret};
use crate::links;
use crate::process::Process;

const READY_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A process of the stack and everything needed to restart it.
#[derive(Debug)]
pub struct ManagedProcess {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    /// Another program and its arguments that start this one.
    starter: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    ready: Ready,
    process: Option<Process>,
}

/// How a stack differs from the default one.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// UDP port where edges reach the aggregator; the aggregator's own port if absent.
    pub shipping: Option<u16>,
    /// TCP port where the aggregator reaches ClickHouse; ClickHouse's own port if absent.
    pub engine: Option<u16>,
    /// Whether edges run the WebAssembly functions, which must be built.
    pub functions: bool,
    /// Advertisers and variables of the functions; the demo's if absent.
    pub function_files: Option<FunctionFiles>,
    /// Whether edges get their links from the control plane; from `links.toml` otherwise.
    pub control_plane: bool,
    /// Additional sections of the edges' settings.
    pub edge_settings: String,
    /// Additional sections of the aggregator's settings.
    pub aggregator_settings: String,
    /// Environment variables of edges and aggregator.
    pub environment: Vec<(String, String)>,
    /// Network locations of the edges, in order; edges without an entry use loopback.
    pub hosts: Vec<EdgeHost>,
}

/// The network location of an edge.
#[derive(Debug, Clone)]
pub struct EdgeHost {
    /// Command that starts a program at this location; the program's name and arguments follow.
    pub starter: Vec<String>,
    /// The edge's own address.
    pub address: Ipv4Addr,
    /// The aggregator's address as seen from this location.
    pub aggregator_address: Ipv4Addr,
}

impl Default for EdgeHost {
    fn default() -> Self {
        Self {
            starter: Vec::new(),
            address: Ipv4Addr::LOCALHOST,
            aggregator_address: Ipv4Addr::LOCALHOST,
        }
    }
}

#[derive(Debug, Clone)]
enum Ready {
    /// Ready when a JSON line appears on standard output.
    StdoutLine,
    /// Ready when this URL returns `200`.
    Http(String),
}

impl ManagedProcess {
    /// Kills the process (SIGKILL).
    ///
    /// # Errors
    /// If the signal can't be sent.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process
            .take()
            .map_or(Ok(()), |mut process| process.kill())
    }

    /// The process id, while the process runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Sends the stop signal and waits for the exit.
    ///
    /// # Errors
    /// If the process does not stop in time or exits with an error.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process
            .take()
            .map_or(Ok(()), |mut process| process.stop(STOP_TIMEOUT))
    }

    /// Starts the process with the same settings and waits until it is ready; a running one is killed first.
    ///
    /// # Errors
    /// If the process is not ready in time; the message includes the tail of its log.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        if let Some(process) = &mut self.process {
            match &self.ready {
                Ready::StdoutLine => drop(process.ready_line(READY_TIMEOUT)?),
                Ready::Http(url) => wait_for(url, &self.log)?,
            }
        }
        Ok(())
    }

    /// Starts the process with the same settings and does not wait.
    ///
    /// # Errors
    /// If the process can't be started.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        let mut command = match self.starter.split_first() {
            Some((starter, rest)) => {
                let mut command = Command::new(starter);
                command.args(rest).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::start(&self.name, &mut command, &self.log)?);
        Ok(())
    }

    /// The settings file. ClickHouse has none.
    ///
    /// # Errors
    /// If the process was started without `--config`.
    pub fn settings_file(&self) -> anyhow::Result<PathBuf> {
        let after = self.arguments.iter().position(|it| it == "--config");
        let file = after.and_then(|at| self.arguments.get(at + 1));
        file.map(PathBuf::from)
            .with_context(|| format!("{} has no settings file", self.name))
    }

    /// Uses `file` as the settings file from the next start on.
    pub fn read_settings_from(&mut self, file: &Path) {
        let after = self.arguments.iter().position(|it| it == "--config");
        if let Some(argument) = after.and_then(|at| self.arguments.get_mut(at + 1)) {
            *argument = file.display().to_string();
        }
    }

    /// Runs another command of the same program with the same settings and waits for its exit.
    ///
    /// # Errors
    /// If the command fails; the message includes its standard error.
    pub fn run_command(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = self
            .command(arguments)?
            .output()
            .with_context(|| format!("cannot run {}", self.name))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{} {}: {errors}", self.name, arguments.join(" "));
        }
        Ok(())
    }

    /// Another command of the same program with the same settings, to be run.
    ///
    /// # Errors
    /// If the process was started without `--config`.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .arg("--config")
            .arg(self.settings_file()?)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Uses the program of the same name in `dir` from the next start on.
    pub fn use_programs_from(&mut self, dir: &Path) {
        if let Some(name) = self.program.file_name() {
            self.program = dir.join(name);
        }
    }
}

/// Engine, aggregator and edges.
#[derive(Debug)]
pub struct Stack {
    // Dropped in this order: edges before the processes that they depend on.
    /// All edges, in order of their node numbers.
    pub edges: Vec<ManagedProcess>,
    /// The only aggregator.
    pub aggregator: ManagedProcess,
    /// ClickHouse.
    pub engine: ManagedProcess,
    /// `http://host:port` of each edge.
    pub edge_urls: Vec<String>,
    /// Admin URL of each edge, `http://host:port`.
    pub edge_admin_urls: Vec<String>,
    /// The aggregator's admin URL.
    pub aggregator_admin_url: String,
    /// The aggregator's QUIC address.
    pub aggregator_address: SocketAddr,
    /// Certificates: `aggregator`, `edge-<node>` and, in a directory of its own, `authority`.
    pub tls: PathBuf,
    /// ClickHouse's HTTP address.
    pub clickhouse_url: String,
    /// The file with ClickHouse's users and passwords.
    pub credentials: PathBuf,
}

impl Stack {
    /// Starts all processes in `dir` and calls `progress` before each step.
    ///
    /// # Errors
    /// If a program is missing (the message names the build command) or not ready in time.
    pub fn start(
        dir: &Path,
        edges: u16,
        geo: Option<&Path>,
        progress: impl FnMut(&str),
    ) -> anyhow::Result<Self> {
        Self::start_with(dir, edges, geo, &StackOptions::default(), progress)
    }

    /// As [`Stack::start`], with options.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub fn start_with(
        dir: &Path,
        edges: u16,
        geo: Option<&Path>,
        options: &StackOptions,
        mut progress: impl FnMut(&str),
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        fs::write(dir.join("links.toml"), links::sample_file())?;
        let (clickhouse, shipping, admin) = (free_port()?, free_port()?, free_port()?);
        progress("ClickHouse");
        let engine = start_engine(&dir, clickhouse)?;
        progress("aggregator");
        let engine_port = options.engine.unwrap_or(clickhouse);
        let text = aggregator_settings(&dir, engine_port, shipping, admin);
        let mut text = text + &options.aggregator_settings;
        let links = if options.control_plane {
            text.push_str("[control_plane]\n");
            "source = \"control_plane\"".to_owned()
        } else {
            format!("file = {:?}", dir.join("links.toml"))
        };
        let functions = if options.functions {
            let files = options.function_files.clone();
            let files = files.unwrap_or_else(FunctionFiles::demo);
            text.push_str(&reports_settings(&dir));
            functions_settings(&dir, &files)?
        } else {
            String::new()
        };
        let here = EdgeHost::default();
        let environment = &options.environment;
        development_certificates(&dir.join("tls/aggregator"), &Subject::Aggregator)?;
        let aggregator = serve(&dir, "aggregator", "aggregator", &text, environment, &here)?;
        let shipping_port = options.shipping.unwrap_or(shipping);
        let mut stack = Self {
            edges: Vec::new(),
            aggregator,
            engine,
            edge_urls: Vec::new(),
            edge_admin_urls: Vec::new(),
            aggregator_admin_url: url(admin),
            aggregator_address: (Ipv4Addr::LOCALHOST, shipping).into(),
            tls: dir.join("tls"),
            clickhouse_url: url(clickhouse),
            credentials: dir.join("clickhouse/credentials.json"),
        };
        for node in 1..=edges {
            progress(&format!("edge {node}"));
            let (http, admin) = (free_port()?, free_port()?);
            let host = options.hosts.get(usize::from(node) - 1).unwrap_or(&here);
            let mut text =
                edge_settings(&dir, node, [http, admin, shipping_port], &links, geo, host);
            text.push_str(&functions);
            text.push_str(&options.edge_settings);
            let name = format!("edge-{node}");
            let subject = Subject::Edge(vec![node]);
            development_certificates(&dir.join("tls").join(&name), &subject)?;
            let edge = serve(&dir, "edge-tracker", &name, &text, environment, host)?;
            stack.edges.push(edge);
            stack
                .edge_urls
                .push(format!("http://{}:{http}", host.address));
            stack
                .edge_admin_urls
                .push(format!("http://{}:{admin}", host.address));
        }
        Ok(stack)
    }

    /// The data directory of the stack.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.tls.parent().unwrap_or(&self.tls)
    }

    /// Stops all processes, edges first, and waits for each.
    ///
    /// # Errors
    /// If a process does not stop in time or exits with an error.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.stop_edges_and_aggregator()?;
        self.engine.stop()
    }

    /// As [`Stack::stop`], but ClickHouse keeps running.
    ///
    /// # Errors
    /// As [`Stack::stop`].
    pub fn stop_edges_and_aggregator(&mut self) -> anyhow::Result<()> {
        for edge in &mut self.edges {
            edge.stop()?;
        }
        self.aggregator.stop()
    }
}

/// Waits until the aggregator with data in `dir` reports at `admin` that the tables exist.
pub(crate) fn wait_for_tables(admin: &str, dir: &Path) -> anyhow::Result<()> {
    wait_for(&format!("{admin}/readyz"), &dir.join("aggregator.log"))
}

/// Starts ClickHouse with its data in `dir`.
pub(crate) fn start_engine(dir: &Path, port: u16) -> anyhow::Result<ManagedProcess> {
    let data = dir.join("clickhouse").display().to_string();
    let mut engine = ManagedProcess {
        name: "clickhouse".into(),
        program: program("clickhouse-embedded")?,
        arguments: ["serve", "--data", &data, "--http-port", &port.to_string()]
            .map(Into::into)
            .into(),
        starter: Vec::new(),
        environment: Vec::new(),
        log: dir.join("clickhouse.log"),
        ready: Ready::Http(format!("{}/ping", url(port))),
        process: None,
    };
    engine.restart()?;
    Ok(engine)
}

/// Starts an aggregator that creates the tables in the ClickHouse at port `engine`.
pub(crate) fn start_aggregator(
    dir: &Path,
    engine: u16,
    listen: u16,
    admin: u16,
) -> anyhow::Result<ManagedProcess> {
    let text = aggregator_settings(dir, engine, listen, admin);
    let here = EdgeHost::default();
    development_certificates(&dir.join("tls/aggregator"), &Subject::Aggregator)?;
    serve(dir, "aggregator", "aggregator", &text, &[], &here)
}

fn aggregator_settings(dir: &Path, engine: u16, listen: u16, admin: u16) -> String {
    let at = |name: &str| format!("{:?}", dir.join(name));
    format!(
        "data_dir = {}\nlisten = \"127.0.0.1:{listen}\"\nadmin_listen = \"127.0.0.1:{admin}\"\n\
         [tls]\ndir = {}\n[clickhouse]\nurl = \"{}\"\ndatabase = \"tracking\"\ncredentials = {}\n",
        at("aggregator"),
        at("tls/aggregator"),
        url(engine),
        at("clickhouse/credentials.json"),
    )
}

/// Settings of an edge that delays responses under load rather than returning 503: all processes share the cores of
/// one machine, and CPU time taken by another process is not overload.
fn edge_settings(
    dir: &Path,
    node: u16,
    ports: [u16; 3],
    links: &str,
    geo: Option<&Path>,
    host: &EdgeHost,
) -> String {
    let at = |name: &str| format!("{:?}", dir.join(name));
    let [http, admin, shipping] = ports;
    let (own, aggregator) = (host.address, host.aggregator_address);
    let geo = geo
        .map(|file| format!("[geo]\ncountry = {file:?}\n"))
        .unwrap_or_default();
    format!(
        "node = {node}\ndata_dir = {}\nworkers = 1\nsecrets = {}\n\
         [http]\nlisten = \"{own}:{http}\"\nadmin_listen = \"{own}:{admin}\"\n\
         trusted_proxies = [\"127.0.0.0/8\", \"{own}/30\"]\nshed_lag = \"10s\"\n\
         [links]\n{links}\n{geo}[tls]\ndir = {}\n\
         [aggregator]\naddress = \"{aggregator}:{shipping}\"\n",
        at(&format!("edge-{node}")),
        at("secrets.toml"),
        at(&format!("tls/edge-{node}")),
    )
}

/// The aggregator validates reports with the edges' files. A test reports more per minute than a production node
/// may.
fn reports_settings(dir: &Path) -> String {
    let at = |name: &str| format!("{:?}", dir.join(name));
    format!(
        "[reports]\nadvertisers = {}\nvariables = {}\nsecrets = {}\nlinks = {}\n\
         unsigned_per_minute = 100000000\nunsigned_amount_per_day = 9000000000000000000\n",
        at("advertisers.toml"),
        at("variables.toml"),
        at("secrets.toml"),
        at("links.toml"),
    )
}

/// Settings of the functions with the deployed manifest; writes `files` to `dir`.
fn functions_settings(dir: &Path, files: &FunctionFiles) -> anyhow::Result<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = here.join("../wasm-functions/spin.toml").canonicalize()?;
    let (advertisers, variables) = (dir.join("advertisers.toml"), dir.join("variables.toml"));
    write_secret(&advertisers, &files.advertisers)?;
    write_secret(&variables, &files.variables)?;
    Ok(format!(
        "[functions]\nmanifest = {manifest:?}\nadvertisers = {advertisers:?}\nvariables = {variables:?}\n\
         failures_per_minute = 1000000000\n"
    ))
}

fn serve(
    dir: &Path,
    binary: &str,
    name: &str,
    settings: &str,
    environment: &[(String, String)],
    host: &EdgeHost,
) -> anyhow::Result<ManagedProcess> {
    let file = dir.join(format!("{name}.toml"));
    fs::write(&file, settings).with_context(|| format!("cannot write {}", file.display()))?;
    let mut process = ManagedProcess {
        name: name.to_owned(),
        program: program(binary)?,
        arguments: vec![
            "serve".into(),
            "--config".into(),
            file.display().to_string(),
        ],
        starter: host.starter.clone(),
        environment: environment.to_vec(),
        log: dir.join(format!("{name}.log")),
        ready: Ready::StdoutLine,
        process: None,
    };
    process.restart()?;
    Ok(process)
}

/// Issues a certificate in `dir` by the authority in the directory beside it. Programs of earlier builds can read
/// it.
pub(crate) fn development_certificates(dir: &Path, subject: &Subject) -> anyhow::Result<()> {
    tls::load_or_create(dir, subject)?;
    Ok(())
}

/// Finds a program in the directory of this executable, or one level up if this one is a test.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe().context("the path of this executable is unknown")?;
    here.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built; run: cargo build --workspace --bins"))
}

/// A port that no other process uses. It is written to the settings, so that a restart keeps it.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    clickhouse_embedded::free_port().context("no free port")
}

pub(crate) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn wait_for(url: &str, log: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    while Instant::now() < deadline {
        if ureq::get(url).call().is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!(
        "{url} did not answer within {READY_TIMEOUT:?}; see {}",
        log.display()
    )
}
