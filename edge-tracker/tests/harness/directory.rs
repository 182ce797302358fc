//! An edge's directory of settings in which every path is relative, and files that are replaced while it runs.

use super::functions::deploy;
use super::{Edge, LINKS, write_secret};
use std::path::PathBuf;
use std::process::{Command, Output};

/// The entry of an advertiser.
pub const VALID_ENTRY: &str = "links = \"any\"\ndialect = \"generic\"\ncurrency = \"USD\"\n\
     auth = [{ secret_path = \"0123456789abcdef\" }]\n";
pub const KYC: &str = "kyc_keys = \"a key of some length\"\n";

/// A directory of settings in which every path is relative.
pub struct Directory(pub tempfile::TempDir);

impl Directory {
    pub fn new() -> Self {
        let this = Self(tempfile::tempdir().expect("temporary directory"));
        this.write("links.toml", LINKS);
        this.write("advertisers.toml", &format!("[acme]\n{VALID_ENTRY}"));
        this.write("variables.toml", KYC);
        deploy(this.0.path());
        this.write("edge.toml", &settings(""));
        this
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file there in one step, readable by its owner only.
    pub fn write(&self, name: &str, text: &str) {
        write_secret(&self.at(name), text);
    }

    pub fn check(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_edge-tracker"))
            .args(["check", "--config"])
            .arg(self.at("edge.toml"))
            .output()
            .expect("the program runs")
    }

    /// The errors that `check` prints.
    pub fn mistakes(&self) -> String {
        let output = self.check();
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(!output.status.success(), "{said}");
        said
    }

    /// The output of a `serve` that refuses to start; one that starts is killed after a minute.
    pub fn refused_start(&self) -> String {
        let output = Command::new("timeout")
            .args(["--kill-after=10", "60", env!("CARGO_BIN_EXE_edge-tracker")])
            .args(["serve", "--config"])
            .arg(self.at("edge.toml"))
            .output()
            .expect("the program runs");
        let said = String::from_utf8(output.stderr).expect("text");
        let ended_itself = !matches!(output.status.code(), None | Some(124 | 137));
        assert!(
            ended_itself && !output.status.success(),
            "it starts: {said}"
        );
        said
    }

    pub fn start(self) -> Edge {
        Edge::from_settings(self.0)
    }
}

/// Settings with more lines in `[http]`.
pub fn settings(http: &str) -> String {
    format!(
        "node = 7\ndata_dir = \"data\"\nworkers = 1\nsecrets = \"secrets.toml\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nshed_lag = \"10s\"\n{http}\n\
         [links]\nfile = \"links.toml\"\ncheck_every = \"20ms\"\n\
         [journal]\nsegment_bytes = \"1MiB\"\n\
         [tls]\ndir = \"tls\"\ndevelopment = true\n\
         [aggregator]\naddress = \"127.0.0.1:1\"\n\
         [functions]\nmanifest = \"spin.toml\"\nadvertisers = \"advertisers.toml\"\n\
         variables = \"variables.toml\"\n"
    )
}

/// Puts a file of a running edge there in one step.
pub fn replace(edge: &Edge, name: &str, text: &str) {
    write_secret(&edge.dir.path().join(name), text);
}

pub fn reloads(file: &str, outcome: &str) -> String {
    format!("file=\"{file}\",outcome=\"{outcome}\"")
}
