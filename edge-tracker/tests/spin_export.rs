//! `export-spin`: its content for Spin, renewal while Spin has it open, and refusals.
#![allow(missing_docs)]

mod harness;

use harness::postbacks::ADVERTISERS;
use harness::write_secret;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const NEWER_TOKEN: &str = "a-newer-token-of-32-characters-or-more";
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const INTERNAL_API: &str = "[internal_api]\nlisten = \"127.0.0.1:8082\"\n";

struct ExportDirectory(tempfile::TempDir);

impl ExportDirectory {
    /// With all files that an export reads, and these more lines in `edge.toml`.
    fn new(more: &str) -> Self {
        let this = Self(tempfile::tempdir().expect("temporary directory"));
        std::fs::create_dir(this.at("data")).expect("directory created");
        std::fs::write(this.at("links.toml"), harness::LINKS).expect("written");
        for (name, text) in [
            ("advertisers.toml", ADVERTISERS),
            ("variables.toml", "kyc_keys = \"a key of some length\"\n"),
            (
                "data/internal-api-token",
                &format!("{NEWER_TOKEN}\n{TOKEN}\n"),
            ),
            (
                "data/secrets.toml",
                &format!("[click_id]\nactive = 1\n[click_id.keys]\n1 = \"{KEY}\"\n"),
            ),
        ] {
            write_secret(&this.at(name), text);
        }
        harness::configure(this.0.path(), more);
        this
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn export(&self, more: &[&str]) -> Output {
        let [config, to] = ["edge.toml", "spin"].map(|name| self.at(name));
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge-tracker"));
        command.args(["export-spin", "--config"]).arg(config);
        command.arg("--to").arg(to).args(more);
        command.output().expect("the program runs")
    }

    /// An export with the file of advertisers and variables named.
    fn exported(&self, more: &[&str]) -> toml::Table {
        let output = self.export(&[&self.named()[..], more].concat());
        assert!(output.status.success(), "{output:?}");
        let text = std::fs::read_to_string(self.at("spin/runtime-config.toml")).expect("written");
        text.parse().expect("TOML")
    }

    fn named(&self) -> [&'static str; 4] {
        let leak = |name: &str| -> &'static str { self.at(name).display().to_string().leak() };
        [
            "--advertisers",
            leak("advertisers.toml"),
            "--variables",
            leak("variables.toml"),
        ]
    }

    /// A connection as Spin keeps it open.
    async fn stores(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.at("spin/key-value.db"));
        options.connect().await.expect("database")
    }
}

/// The value as Spin looks it up.
async fn value(stores: &mut SqliteConnection, store: &str, key: &str) -> Option<String> {
    let select = "SELECT value FROM spin_key_value WHERE store=$1 AND key=$2";
    let select = sqlx::query_scalar(select).bind(store).bind(key);
    let value: Option<Vec<u8>> = select.fetch_optional(stores).await.expect("selected");
    value.map(|bytes| String::from_utf8(bytes).expect("text"))
}

fn values(configuration: &toml::Table) -> toml::Table {
    let providers = configuration["variables_provider"]
        .as_array()
        .expect("array");
    assert_eq!(providers.len(), 1);
    assert_eq!(providers[0]["type"].as_str(), Some("static"));
    providers[0]["values"].as_table().expect("table").clone()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path)
        .expect("file exists")
        .permissions()
        .mode()
        & 0o777
}

#[tokio::test]
async fn export_contains_stores_and_variables_of_an_edge() {
    let directory = ExportDirectory::new(INTERNAL_API);
    let configuration = directory.exported(&[]);
    for name in ["advertisers", "links"] {
        let store = &configuration["key_value_store"][name];
        assert_eq!(store["type"].as_str(), Some("spin"));
        assert_eq!(store["path"].as_str(), Some("key-value.db"));
    }
    let values = values(&configuration);
    for (name, expected) in [
        ("tracker_url", "http://127.0.0.1:8082"),
        ("tracker_token", NEWER_TOKEN),
        ("click_id_keys", &format!("1:{KEY}")),
        ("kyc_keys", "a key of some length"),
    ] {
        assert_eq!(values[name].as_str(), Some(expected), "{name}");
    }
    assert_eq!(values.len(), 4);

    let mut stores = directory.stores().await;
    let expected = postback::entries(ADVERTISERS).expect("valid");
    for (key, text) in &expected {
        let found = value(&mut stores, "advertisers", key).await;
        assert_eq!(
            found.as_deref().map(str::as_bytes),
            Some(&text[..]),
            "{key}"
        );
    }
    assert_eq!(
        value(&mut stores, "links", "1").await.as_deref(),
        Some("offer-1")
    );
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM spin_key_value")
        .fetch_one(&mut stores)
        .await
        .expect("counted");
    assert_eq!(count as usize, expected.len() + 4);
    stores.close().await.expect("closed");

    assert_eq!(mode(&directory.at("spin")), 0o700);
    for name in ["runtime-config.toml", "key-value.db"] {
        assert_eq!(mode(&directory.at("spin").join(name)), 0o600, "{name}");
    }
    let files = std::fs::read_dir(directory.at("spin")).expect("readable");
    assert_eq!(files.count(), 2);
}

#[tokio::test]
async fn open_stores_show_renewed_entries_and_keep_no_old_secret() {
    let directory = ExportDirectory::new(INTERNAL_API);
    directory.exported(&[]);
    let mut stores = directory.stores().await;
    assert!(value(&mut stores, "advertisers", "vol").await.is_some());
    let renewed = "[plain]\nlinks = \"any\"\ndialect = \"generic\"\ncurrency = \"USD\"\n\
                   auth = [{ secret_path = \"a renewed secret of bytes\" }]\n";
    write_secret(&directory.at("advertisers.toml"), renewed);
    directory.exported(&[]);
    let plain = value(&mut stores, "advertisers", "plain")
        .await
        .expect("found");
    assert!(plain.contains("a renewed secret of bytes"), "{plain}");
    assert_eq!(value(&mut stores, "advertisers", "vol").await, None);
    assert!(value(&mut stores, "links", "2").await.is_some());
    let bytes = std::fs::read(directory.at("spin/key-value.db")).expect("readable");
    let old = b"voluum-secret-of-bytes";
    assert!(!bytes.windows(old.len()).any(|it| it == old));
}

#[tokio::test]
async fn invalid_files_leave_the_export_unchanged() {
    let directory = ExportDirectory::new(INTERNAL_API);
    directory.exported(&[]);
    let before = |name: &str| std::fs::read(directory.at("spin").join(name)).expect("readable");
    let exported = ["runtime-config.toml", "key-value.db"].map(before);
    for (name, text, why) in [
        (
            "advertisers.toml",
            "[acme]\ndialekt = \"generic\"\n",
            "advertisers.toml:",
        ),
        (
            "variables.toml",
            "kyc_keys = \"short\"\n",
            "variables.toml:1",
        ),
        ("data/internal-api-token", "short\n", "internal-api-token:1"),
        ("data/secrets.toml", "[click_id]\n", "secrets.toml:"),
        ("links.toml", "", "links.toml"),
    ] {
        let sound = std::fs::read_to_string(directory.at(name)).expect("readable");
        write_secret(&directory.at(name), text);
        let output = directory.export(&directory.named());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(why), "{name}: {said}");
        write_secret(&directory.at(name), &sound);
    }
    assert_eq!(
        exported,
        ["runtime-config.toml", "key-value.db"].map(before)
    );
}

#[test]
fn tracker_url_is_a_base_that_spin_can_reach() {
    let directory = ExportDirectory::new(INTERNAL_API);
    for (url, expected) in [
        ("http://10.0.0.7:8082", Some("http://10.0.0.7:8082")),
        (
            "http://edge.internal:8082/",
            Some("http://edge.internal:8082"),
        ),
        ("https://edge.example", Some("https://edge.example")),
        ("http://edge.internal:8082/api", None),
        ("edge.internal:8082", None),
        ("ftp://edge.internal", None),
        ("http://user@edge.internal", None),
        ("http://edge.internal?x", None),
    ] {
        let Some(expected) = expected else {
            let output =
                directory.export(&[&directory.named()[..], &["--tracker-url", url]].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{url}");
            assert!(said.contains("without a path"), "{url}: {said}");
            continue;
        };
        let values = values(&directory.exported(&["--tracker-url", url]));
        assert_eq!(values["tracker_url"].as_str(), Some(expected));
    }
}

#[test]
fn export_names_a_missing_setting() {
    for (internal_api, named, why) in [
        ("", true, "[internal_api]"),
        (
            "[internal_api]\nlisten = \"0.0.0.0:8082\"\nallow_public = true\n",
            true,
            "--tracker-url",
        ),
        (INTERNAL_API, false, "functions.advertisers"),
    ] {
        let directory = ExportDirectory::new(internal_api);
        let named = match named {
            true => &directory.named()[..],
            false => &[],
        };
        let output = directory.export(named);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{why}: {said}");
        assert!(!directory.at("spin").exists());
    }
    let directory = ExportDirectory::new(INTERNAL_API);
    std::fs::remove_file(directory.at("data/internal-api-token")).expect("removed");
    let output = directory.export(&directory.named());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("creates it"), "{said}");
    let usage = Command::new(env!("CARGO_BIN_EXE_edge-tracker"))
        .arg("export-spin")
        .output()
        .expect("the program runs");
    assert_eq!(usage.status.code(), Some(2));
}
