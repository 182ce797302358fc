//! Databases for tests: SQLite's file in a temporary directory, or a new PostgreSQL cluster there, with a socket.

use crate::Location;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// An empty database that is removed when this is dropped.
#[derive(Debug)]
pub enum TestDatabase {
    /// A directory for SQLite's file.
    Sqlite(TempDir),
    /// A server of its own.
    Postgres(TestServer),
}

impl TestDatabase {
    /// One of each kind.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn both() -> [Self; 2] {
        [Self::sqlite(), Self::postgres()]
    }

    /// A file that is created when it is opened.
    ///
    /// # Panics
    /// When the directory can't be created.
    #[must_use]
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a directory"))
    }

    /// A new server.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn postgres() -> Self {
        Self::Postgres(TestServer::start())
    }

    /// Its file or URL.
    #[must_use]
    pub fn location(&self) -> Location {
        match self {
            Self::Sqlite(directory) => Location::File(directory.path().join("test.sqlite")),
            Self::Postgres(server) => Location::Url(server.url()),
        }
    }
}

/// A running server; it is stopped and its directory removed when this is dropped.
#[derive(Debug)]
pub struct TestServer {
    directory: TempDir,
    options: Vec<String>,
    server: Child,
}

impl TestServer {
    /// A server that is reached by its socket only.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&["listen_addresses="], |_| {})
    }

    /// A server with these settings; `prepare` may add files to its data directory before it starts.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub fn start_with(options: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        if is_root() {
            // PostgreSQL refuses to run as root.
            run(Command::new("chown").arg("postgres:").arg(directory.path()));
        }
        let data = directory.path().join("data");
        let mut initdb = tool("initdb");
        initdb
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "-A", "trust"])
            .args(["-E", "UTF8", "--locale", "C", "--no-sync"]);
        run(&mut initdb);
        prepare(&data);
        if is_root() {
            run(Command::new("chown").args(["-R", "postgres:"]).arg(&data));
        }
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let server = spawn(directory.path(), &options);
        let this = Self {
            directory,
            options,
            server,
        };
        this.wait();
        this
    }

    /// The URL of its database.
    #[must_use]
    pub fn url(&self) -> String {
        let (directory, port) = (self.directory.path().display(), self.port());
        format!("postgres://postgres@localhost:{port}/postgres?host={directory}")
    }

    /// The number of its port, which also names its socket.
    fn port(&self) -> &str {
        let mut options = self.options.iter();
        options
            .find_map(|option| option.strip_prefix("port="))
            .unwrap_or("5432")
    }

    /// Runs statements as the superuser.
    ///
    /// # Panics
    /// When they fail.
    pub fn execute(&self, sql: &str) {
        let mut psql = tool("psql");
        run(psql.arg("-q").args(["-d", &self.url(), "-c", sql]));
    }

    /// Crashes it and starts it again.
    pub fn crash_and_restart(&mut self) {
        self.crash();
        self.restart();
    }

    /// Starts it again after a crash.
    pub fn restart(&mut self) {
        self.server = spawn(self.directory.path(), &self.options);
        self.wait();
    }

    /// Ends it and its processes at once; its next start recovers.
    pub fn crash(&mut self) {
        let pid = self.server.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        let _ = self.server.wait();
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut ready = tool("pg_isready");
        ready.arg("-q").arg("-h").arg(self.directory.path());
        ready.args(["-p", self.port()]);
        while !ready.status().expect("it runs").success() {
            assert!(Instant::now() < deadline, "PostgreSQL does not respond");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.crash();
    }
}

fn spawn(directory: &Path, options: &[String]) -> Child {
    tool("postgres")
        .arg("-D")
        .arg(directory.join("data"))
        .arg("-k")
        .arg(directory)
        .args(["-c", "fsync=off"])
        .args(options.iter().flat_map(|option| ["-c", option]))
        .stderr(Stdio::null())
        .spawn()
        .expect("postgres starts")
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// One of PostgreSQL's programs; as the user `postgres` if this is root.
fn tool(name: &str) -> Command {
    let program = bin().join(name);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .args(["--pdeathsig", "QUIT"])
        .arg(program);
    command
}

/// The newest of Debian's versions that is installed.
fn bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let directories = versions.flatten().map(|version| version.path().join("bin"));
    let mut usable: Vec<_> = directories
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    usable.sort();
    let newest = usable.pop();
    newest.expect("PostgreSQL is needed and not installed; run: apt-get install postgresql")
}

fn is_root() -> bool {
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|process| process.uid() == 0)
}
