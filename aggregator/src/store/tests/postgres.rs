//! A PostgreSQL of the test's own: a fresh cluster in a temporary directory, reached by a socket there.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running server; stopped and removed when dropped.
pub(super) struct Postgres {
    directory: TempDir,
    options: Vec<String>,
    server: Child,
}

impl Postgres {
    #[allow(dead_code, reason = "not all tests do")]
    pub(super) fn start() -> Self {
        Self::start_with(&["listen_addresses="], |_| {})
    }

    #[allow(dead_code, reason = "not all tests do")]
    /// A server with these settings; `prepare` may add files to the directory of its data before it starts.
    pub(super) fn start_with(options: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
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

    #[allow(dead_code, reason = "not all tests do")]
    pub(super) fn url(&self) -> String {
        let directory = self.directory.path().display();
        format!("postgres://postgres@localhost/postgres?host={directory}")
    }

    /// Runs statements as the owner of everything.
    #[allow(dead_code, reason = "not all tests do")]
    pub(super) fn execute(&self, sql: &str) {
        let mut psql = tool("psql");
        run(psql.arg("-q").args(["-d", &self.url(), "-c", sql]));
    }

    /// Ends it without letting it finish anything, and starts it again.
    #[allow(dead_code, reason = "not all tests do")]
    pub(super) fn crash_and_restart(&mut self) {
        self.crash();
        self.restart();
    }

    /// Starts it again after it has ended.
    #[allow(dead_code, reason = "not all tests do")]
    pub(super) fn restart(&mut self) {
        self.server = spawn(self.directory.path(), &self.options);
        self.wait();
    }

    /// It leaves at once and takes its children along; its next start recovers.
    pub(super) fn crash(&mut self) {
        let pid = self.server.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        let _ = self.server.wait();
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut ready = tool("pg_isready");
        ready.arg("-q").arg("-h").arg(self.directory.path());
        let port = self.options.iter().find_map(|it| it.strip_prefix("port="));
        ready.args(["-p", port.unwrap_or("5432")]);
        while !ready.status().expect("it runs").success() {
            assert!(Instant::now() < deadline, "PostgreSQL does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
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

/// One of PostgreSQL's programs, run by somebody who may.
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
