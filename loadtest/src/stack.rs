//! The real processes in a data folder: engine, aggregator, edges, with generated settings. Each
//! keeps its port over a restart. It never sends traffic.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use event_shipping::tls::{self, Subject};

use crate::process::Process;
use crate::{links, sales};

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// One of the stack's processes, with what it takes to start it again.
#[derive(Debug)]
pub struct Member {
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

/// How a stack differs from one that nothing happens to.
#[derive(Debug, Clone, Default)]
pub struct Wiring {
    /// The UDP port where edges find the aggregator, instead of its own.
    pub shipping: Option<u16>,
    /// The TCP port where the aggregator finds ClickHouse, instead of its own.
    pub engine: Option<u16>,
    /// Whether edges run the functions; these have been built.
    pub functions: bool,
    /// Advertisers and variables of the functions, instead of the demo's.
    pub function_files: Option<FunctionFiles>,
    /// Further sections of edges' settings.
    pub edge_settings: String,
    /// Further sections of the aggregator's settings.
    pub aggregator_settings: String,
    /// Environment variables of edges and aggregator.
    pub environment: Vec<(String, String)>,
    /// Where edges are, first to last; on this machine's loopback those that it does not name.
    pub places: Vec<Place>,
}

/// What functions are told, as files.
#[derive(Debug, Clone)]
pub struct FunctionFiles {
    /// `advertisers.toml`.
    pub advertisers: String,
    /// Lines of `name = "value"`.
    pub variables: String,
}

/// Where an edge is.
#[derive(Debug, Clone)]
pub struct Place {
    /// What starts a program there, before its name and arguments.
    pub starter: Vec<String>,
    /// Its own address.
    pub own: Ipv4Addr,
    /// Where it finds the aggregator.
    pub aggregator: Ipv4Addr,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            starter: Vec::new(),
            own: Ipv4Addr::LOCALHOST,
            aggregator: Ipv4Addr::LOCALHOST,
        }
    }
}

#[derive(Debug, Clone)]
enum Ready {
    /// A JSON line on standard output.
    Line,
    /// `200` at this address.
    Ping(String),
}

impl Member {
    /// Ends it as `kill -9` does.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.process
            .take()
            .map_or(Ok(()), |mut process| process.kill9())
    }

    /// Its process's number, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Asks it to stop and waits.
    ///
    /// # Errors
    /// When it does not stop in time or ends with an error.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process
            .take()
            .map_or(Ok(()), |mut process| process.stop(STOP_WITHIN))
    }

    /// Starts it (again) with the same settings and waits until it is ready.
    ///
    /// # Errors
    /// When it is not ready in time; the message has its log's tail.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.begin()?;
        if let Some(process) = &mut self.process {
            match &self.ready {
                Ready::Line => drop(process.ready_line(READY_WITHIN)?),
                Ready::Ping(url) => wait_for(url, &self.log)?,
            }
        }
        Ok(())
    }

    /// Starts it (again) with the same settings and does not wait.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        self.kill9()?;
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

    /// The file of its settings. ClickHouse has none.
    ///
    /// # Errors
    /// When it was started without one.
    pub fn settings_file(&self) -> anyhow::Result<PathBuf> {
        let after = self.arguments.iter().position(|it| it == "--config");
        let file = after.and_then(|at| self.arguments.get(at + 1));
        file.map(PathBuf::from)
            .with_context(|| format!("{} has no settings file", self.name))
    }

    /// From the next start on it reads its settings from `file`.
    pub fn read_settings_from(&mut self, file: &Path) {
        let after = self.arguments.iter().position(|it| it == "--config");
        if let Some(argument) = after.and_then(|at| self.arguments.get_mut(at + 1)) {
            *argument = file.display().to_string();
        }
    }

    /// Runs another command of the same program with the same settings, to its end.
    ///
    /// # Errors
    /// When it fails; the message has what it wrote.
    pub fn run_command(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(&self.program)
            .args(arguments)
            .arg("--config")
            .arg(self.settings_file()?)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .with_context(|| format!("cannot run {}", self.name))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{} {}: {errors}", self.name, arguments.join(" "));
        }
        Ok(())
    }

    /// From the next start on it is the program of that name in `folder`.
    pub fn program_from(&mut self, folder: &Path) {
        if let Some(name) = self.program.file_name() {
            self.program = folder.join(name);
        }
    }
}

/// Engine, aggregator and edges.
#[derive(Debug)]
pub struct Stack {
    // Dropped in this order: edges before what is behind them.
    /// The edges, first to last.
    pub edges: Vec<Member>,
    /// The aggregator.
    pub aggregator: Member,
    /// ClickHouse.
    pub engine: Member,
    /// `http://host:port` of each edge.
    pub edge_urls: Vec<String>,
    /// `http://host:port` of each edge's operators' port.
    pub edge_admin_urls: Vec<String>,
    /// The aggregator's operators' port.
    pub aggregator_admin_url: String,
    /// Where edges connect to the aggregator (QUIC).
    pub aggregator_address: SocketAddr,
    /// Where certificates lie: `aggregator`, `edge-<node>` and, apart from them, `authority`.
    pub tls: PathBuf,
    /// ClickHouse's HTTP address.
    pub clickhouse_url: String,
    /// Where users and passwords of ClickHouse lie.
    pub credentials: PathBuf,
}

impl Stack {
    /// Starts everything in `dir`, telling `progress` each step.
    ///
    /// # Errors
    /// When a program is absent (the message names the build command) or not ready in time.
    pub fn start(
        dir: &Path,
        edges: u16,
        geo: Option<&Path>,
        progress: impl FnMut(&str),
    ) -> anyhow::Result<Self> {
        Self::start_wired(dir, edges, geo, &Wiring::default(), progress)
    }

    /// As [`Stack::start`], with something between the processes.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub fn start_wired(
        dir: &Path,
        edges: u16,
        geo: Option<&Path>,
        wiring: &Wiring,
        mut progress: impl FnMut(&str),
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        fs::write(dir.join("links.toml"), links::sample_file())?;
        let (clickhouse, shipping, admin) = (free_port()?, free_port()?, free_port()?);
        progress("ClickHouse");
        let engine = start_engine(&dir, clickhouse)?;
        progress("aggregator");
        let engine_port = wiring.engine.unwrap_or(clickhouse);
        let text = aggregator_settings(&dir, engine_port, shipping, admin);
        let mut text = text + &wiring.aggregator_settings;
        let functions = if wiring.functions {
            let files = wiring.function_files.clone();
            let files = files.unwrap_or_else(sales::files);
            text.push_str(&reports_settings(&dir));
            functions_settings(&dir, &files)?
        } else {
            String::new()
        };
        let here = Place::default();
        let environment = &wiring.environment;
        development_certificates(&dir.join("tls/aggregator"), &Subject::Aggregator)?;
        let aggregator = serve(&dir, "aggregator", "aggregator", &text, environment, &here)?;
        let shipping_port = wiring.shipping.unwrap_or(shipping);
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
            let place = wiring.places.get(usize::from(node) - 1).unwrap_or(&here);
            let mut text = edge_settings(&dir, node, [http, admin, shipping_port], geo, place);
            text.push_str(&functions);
            text.push_str(&wiring.edge_settings);
            let name = format!("edge-{node}");
            let subject = Subject::Edge(vec![node]);
            development_certificates(&dir.join("tls").join(&name), &subject)?;
            let edge = serve(&dir, "edge-tracker", &name, &text, environment, place)?;
            stack.edges.push(edge);
            stack.edge_urls.push(format!("http://{}:{http}", place.own));
            stack
                .edge_admin_urls
                .push(format!("http://{}:{admin}", place.own));
        }
        Ok(stack)
    }

    /// The directory of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.tls.parent().unwrap_or(&self.tls)
    }

    /// Asks all to stop, edges before what is behind them, and waits for each.
    ///
    /// # Errors
    /// When one does not stop in time or ends with an error.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.stop_edges_and_aggregator()?;
        self.engine.stop()
    }

    /// As [`Stack::stop`], but leaves ClickHouse.
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

/// Waits until the aggregator of `dir`, asked at `admin`, has made the tables.
pub(crate) fn wait_for_tables(admin: &str, dir: &Path) -> anyhow::Result<()> {
    wait_for(&format!("{admin}/readyz"), &dir.join("aggregator.log"))
}

/// ClickHouse with its data in `dir`.
pub(crate) fn start_engine(dir: &Path, port: u16) -> anyhow::Result<Member> {
    let data = dir.join("clickhouse").display().to_string();
    let mut engine = Member {
        name: "clickhouse".into(),
        program: program("clickhouse-embedded")?,
        arguments: ["serve", "--data", &data, "--http-port", &port.to_string()]
            .map(Into::into)
            .into(),
        starter: Vec::new(),
        environment: Vec::new(),
        log: dir.join("clickhouse.log"),
        ready: Ready::Ping(format!("{}/ping", url(port))),
        process: None,
    };
    engine.restart()?;
    Ok(engine)
}

/// An aggregator for that engine, which makes the tables.
pub(crate) fn start_aggregator(
    dir: &Path,
    engine: u16,
    listen: u16,
    admin: u16,
) -> anyhow::Result<Member> {
    let text = aggregator_settings(dir, engine, listen, admin);
    let here = Place::default();
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

/// An edge that answers late rather than with 503: all that is here shares the cores of one machine, and
/// what another process takes of them is not overload.
fn edge_settings(
    dir: &Path,
    node: u16,
    ports: [u16; 3],
    geo: Option<&Path>,
    place: &Place,
) -> String {
    let at = |name: &str| format!("{:?}", dir.join(name));
    let [http, admin, shipping] = ports;
    let (own, aggregator) = (place.own, place.aggregator);
    let geo = geo
        .map(|file| format!("[geo]\ncountry = {file:?}\n"))
        .unwrap_or_default();
    format!(
        "node = {node}\ndata_dir = {}\nworkers = 1\nsecrets = {}\n\
         [http]\nlisten = \"{own}:{http}\"\nadmin_listen = \"{own}:{admin}\"\n\
         trusted_proxies = [\"127.0.0.0/8\", \"{own}/30\"]\nshed_lag = \"10s\"\n\
         [links]\nfile = {}\n{geo}[tls]\ndir = {}\n\
         [aggregator]\naddress = \"{aggregator}:{shipping}\"\n",
        at(&format!("edge-{node}")),
        at("secrets.toml"),
        at("links.toml"),
        at(&format!("tls/edge-{node}")),
    )
}

/// Reports are verified again by the edges' files. A trial reports more in a minute than a node of a fleet may.
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

/// The functions as they are deployed, and what they are told.
fn functions_settings(dir: &Path, files: &FunctionFiles) -> anyhow::Result<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = here.join("../wasm-functions/spin.toml").canonicalize()?;
    let (advertisers, variables) = (dir.join("advertisers.toml"), dir.join("variables.toml"));
    sales::write_secret(&advertisers, &files.advertisers)?;
    sales::write_secret(&variables, &files.variables)?;
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
    place: &Place,
) -> anyhow::Result<Member> {
    let file = dir.join(format!("{name}.toml"));
    fs::write(&file, settings).with_context(|| format!("cannot write {}", file.display()))?;
    let mut member = Member {
        name: name.to_owned(),
        program: program(binary)?,
        arguments: vec![
            "serve".into(),
            "--config".into(),
            file.display().to_string(),
        ],
        starter: place.starter.clone(),
        environment: environment.to_vec(),
        log: dir.join(format!("{name}.log")),
        ready: Ready::Line,
        process: None,
    };
    member.restart()?;
    Ok(member)
}

/// Issues a certificate in `dir`, by the authority beside it. Also programs of earlier builds read it.
pub(crate) fn development_certificates(dir: &Path, subject: &Subject) -> anyhow::Result<()> {
    tls::load_or_create(dir, subject)?;
    Ok(())
}

/// The program beside this one, or one folder up when this one is a test.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe().context("where this program lies is unknown")?;
    here.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built; run: cargo build --workspace --bins"))
}

/// A port of nobody else's; settings name it so that a restart keeps it.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    clickhouse_embedded::free_port().context("no free port")
}

pub(crate) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn wait_for(url: &str, log: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    while Instant::now() < deadline {
        if ureq::get(url).call().is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!(
        "{url} did not answer within {READY_WITHIN:?}; see {}",
        log.display()
    )
}
