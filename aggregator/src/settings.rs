//! The settings file: keys, bounds, defaults, and errors. Their effects belong elsewhere.

mod clickhouse;
mod transport;

pub use clickhouse::ClickHouseSettings;
pub(crate) use transport::Transport;

use daemon::clock::ClockSettings;
use daemon::files::{PrivateFileError, read_private, require_private};
use daemon::logs::LogSettings;
use daemon::retention::RetentionSettings;
use daemon::settings::{
    Bounded, ByteSize, HasPaths, HumanDuration, SettingsError, directory_of, load_resolved,
};
use daemon::traces::TraceSettings;
use event_shipping::tls::{self, IdentityFiles, Role, Subject, TlsError};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use sql_store::url::{self, UrlError};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The longest file with a password, or with users and passwords.
const MAX_SECRETS_BYTES: u64 = 64 * KIB;
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// The settings of an aggregator; docs/configuration.md is generated from its types.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The directory of block files and the checkpoint (`spool`), the quarantine, `visitor-salt` and, by default, the
    /// store (`store`); created when absent.
    pub data_dir: PathBuf,
    /// The name of this aggregator, 1 to 64 of `A-Z a-z 0-9 - _`. Aggregators that insert into the same database at the
    /// same time have different names; a successor has its predecessor's.
    #[serde(default = "default_instance")]
    pub instance: String,
    /// Where edges connect (QUIC over UDP); port 0 lets the system choose.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The address for operators (HTTP): `/healthz`, `/readyz`, `/metrics`, `/affiliates`, `/postbacks`. Keep it
    /// private.
    #[serde(default = "default_admin_listen")]
    pub admin_listen: SocketAddr,
    /// Certificates for mutual TLS with edges.
    pub tls: Tls,
    /// The ClickHouse database.
    pub clickhouse: ClickHouseSettings,
    /// The SQL store that evaluates conversions and identity checks.
    #[serde(default)]
    pub store: Store,
    /// How reports are verified a second time. Without this table edges are trusted, a warning is logged and
    /// `aggregator_reports_verified` is 0.
    pub reports: Option<Reports>,
    /// The control plane: offers, affiliates and links that people make, and their way to the edges. Without this table
    /// edges read links from files.
    pub control_plane: Option<ControlPlane>,
    /// Postbacks to affiliates. Without this table none are sent.
    pub outgoing: Option<Outgoing>,
    /// The rotation of visitor ids.
    #[serde(default)]
    pub visitor: Visitor,
    /// Which steps of the system clock are trusted.
    #[serde(default)]
    pub clock: ClockSettings,
    /// The size and age of blocks.
    #[serde(default)]
    pub blocks: Blocks,
    /// Limits of memory, disk and connections.
    #[serde(default)]
    pub limits: Limits,
    /// How long quarantined and set-aside files are kept.
    #[serde(default)]
    pub retention: RetentionSettings,
    /// The log.
    #[serde(default)]
    pub log: LogSettings,
    /// Traces.
    #[serde(default)]
    pub traces: TraceSettings,
}

/// Certificates.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The directory of `ca.pem`, `aggregator.pem`, `aggregator.key` and optionally `revoked.txt`, reloaded when
    /// changed.
    pub dir: PathBuf,
    /// Whether a certificate is issued where `dir` does not exist, by the authority in the directory `authority` next
    /// to `dir`, which is created when absent. Never set it in production.
    #[serde(default)]
    pub development: bool,
}

/// The store that evaluates conversions and identity checks.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// The directory of SQLite's file `store.sqlite` and of reports that are not evaluated yet (`reports`), also with
    /// PostgreSQL. Never delete it. Default: `store` in `data_dir`.
    pub dir: Option<PathBuf>,
    /// PostgreSQL: `postgres://user:password@host:port/database`; to another machine with `?sslmode=verify-full`, and
    /// `&sslrootcert=FILE` for a private authority. Default: SQLite, `store.sqlite` in `dir`.
    #[schemars(with = "Option<String>")]
    pub url: Option<Secret>,
    /// A file with PostgreSQL's password, readable by this user only; its line ending is ignored. The URL then has none.
    pub password_file: Option<PathBuf>,
    /// Whether the URL may lead to another machine without a verified certificate.
    pub allow_plaintext: bool,
}

/// The control plane.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlPlane {
    /// The edge that gets every version of the configuration first. The others get a version once this edge has applied
    /// it; one that it refuses is stopped. While it is away, no edge gets a new version.
    pub canary: Option<NonZeroU16>,
}

/// Postbacks to affiliates about their conversions.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outgoing {
    /// `postbacks.toml`, readable by this user only: which affiliate receives which postbacks; checked for changes
    /// every second. Its keys are in docs/postbacks.md.
    pub postbacks: PathBuf,
    /// Private networks to which postbacks may be sent.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub allowed_networks: Vec<IpNet>,
    /// The timeout of one attempt, from the DNS lookup to the end of the response.
    #[serde(default = "default_timeout")]
    pub timeout: Bounded<HumanDuration, 100, 60_000>,
    /// The delay before the second attempt; each later delay is three times as long, up to an hour.
    #[serde(default = "default_first_retry")]
    pub first_retry: Bounded<HumanDuration, 10, 3_600_000>,
    /// How long a postback is retried, counted while an aggregator runs.
    #[serde(default = "default_give_up_after")]
    pub give_up_after: Bounded<HumanDuration, 1_000, { 30 * DAY_MS }>,
    /// Attempts in progress at once.
    #[serde(default = "default_concurrency")]
    pub concurrency: Bounded<usize, 1, 1_024>,
}

/// How reports are verified again: the files by which functions decide, as edges have them. They are looked at
/// before each block of reports.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reports {
    /// A copy of the edges' `advertisers.toml`, readable by this user only. All files of this table are checked for
    /// changes before each block of reports.
    pub advertisers: PathBuf,
    /// A copy of the fleet's `secrets.toml`, readable by this user only; only its click id keys are read.
    pub secrets: PathBuf,
    /// A copy of the functions' variables, readable by this user only; without it every identity check is set aside.
    pub variables: Option<PathBuf>,
    /// A copy of the links file; required where advertisers name `offers`.
    pub links: Option<PathBuf>,
    /// How long reports wait for an unknown click id key.
    #[serde(default = "default_unknown_key_wait")]
    pub unknown_key_wait: Bounded<HumanDuration, 0, DAY_MS>,
    /// Reports a minute of each node that are authenticated by a shared secret or address only.
    #[serde(default = "default_unsigned_per_minute")]
    pub unsigned_per_minute: Bounded<usize, 1, 100_000_000>,
    /// The sum that such reports may pay in a day, for each node and currency, in whole units of the currency.
    #[serde(default = "default_unsigned_amount_per_day")]
    pub unsigned_amount_per_day: u64,
    /// Other sums for single currencies, such as `{ JPY = 15000000 }`.
    #[serde(default)]
    pub unsigned_amounts_per_day: BTreeMap<String, u64>,
}

/// The identification of visitors.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Visitor {
    /// The rotation period of the visitor salt, the same as on every edge.
    pub period: Bounded<HumanDuration, 1_000, 31_536_000_000>,
}

impl Default for Visitor {
    fn default() -> Self {
        Self {
            period: Bounded::new(HumanDuration(Duration::from_millis(DAY_MS))),
        }
    }
}

/// A text that is never logged.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// When a block is full: at the first limit that it reaches.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Blocks {
    /// A block is full with this many events.
    pub max_rows: Bounded<usize, 1, 1_000_000>,
    /// A block is full with this many bytes of events, before compression.
    pub max_bytes: Bounded<ByteSize, { 64 * KIB }, { 256 * MIB }>,
    /// A block is full when its oldest batch has waited this long.
    pub max_age: Bounded<HumanDuration, 1, 60_000>,
}

/// Limits of connections and memory.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Edges connected at once; each may have one batch of up to 8 MiB in memory.
    pub max_edges: Bounded<usize, 1, 10_000>,
    /// The limit of known lanes, over all edges.
    pub max_lanes: Bounded<usize, 1, 1_000_000>,
    /// Lanes known at once of one node.
    pub max_lanes_per_node: Bounded<usize, 1, 1_000_000>,
    /// The time after which a lane that no edge mentioned and that ClickHouse has completely is forgotten, in days on
    /// which the aggregator ran. Set it longer than an edge may be disconnected.
    pub forget_lanes_after: Bounded<HumanDuration, DAY_MS, { 3_650 * DAY_MS }>,
    /// Bytes charged for batches that ClickHouse does not have yet; above, each edge may have one more batch.
    pub pending_bytes: Bounded<ByteSize, { MIB }, { 64 * GIB }>,
    /// Bytes on disk of reports that are not evaluated yet; above, blocks with reports wait, and all blocks after them.
    pub pending_report_bytes: Bounded<ByteSize, { MIB }, { 64 * GIB }>,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            max_rows: Bounded::new(100_000),
            max_bytes: Bounded::new(ByteSize(64 * MIB)),
            max_age: Bounded::new(HumanDuration(Duration::from_secs(1))),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_edges: Bounded::new(256),
            max_lanes: Bounded::new(65_536),
            max_lanes_per_node: Bounded::new(1_024),
            forget_lanes_after: Bounded::new(HumanDuration(Duration::from_millis(90 * DAY_MS))),
            pending_bytes: Bounded::new(ByteSize(256 * MIB)),
            pending_report_bytes: Bounded::new(ByteSize(GIB)),
        }
    }
}

impl Secret {
    /// The text itself, for connecting.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why settings can't be used.
#[derive(Debug, Error)]
pub enum InvalidSettings {
    /// The file is invalid.
    #[error(transparent)]
    File(#[from] SettingsError),
    /// The password is named twice.
    #[error(
        "[clickhouse] names more than one of password, password_file and credentials; keep one"
    )]
    SeveralPasswords,
    /// The client can't use the URL. It is not repeated, because it may contain a password.
    #[error(
        "[clickhouse] url must be https://host:port or http://host:port and nothing more; user and \
         password have keys of their own"
    )]
    Url,
    /// Others on the network could read or change the data.
    #[error(
        "[clickhouse] url leads to another machine in plain text: use https:// (and ca_file = FILE for \
         an authority of your own), or set clickhouse.allow_plaintext = true if the network is trusted"
    )]
    Plaintext,
    /// Servers without common tables.
    #[error(
        "[clickhouse] other_urls needs cluster, the name of the cluster that all urls belong to"
    )]
    OtherUrlsWithoutCluster,
    /// A cluster's name that can't stand in a statement.
    #[error(
        "[clickhouse] cluster = {0:?} is no cluster's name: use up to 64 letters, digits and _, beginning with a letter"
    )]
    ClusterName(String),
    /// The certificates of `ca_file` would never be used.
    #[error(
        "[clickhouse] ca_file has no effect with an http:// url; use https:// or remove ca_file"
    )]
    UnusedAuthorities,
    /// The authorities of the server's certificate can't be read.
    #[error("[clickhouse] ca_file = {path:?}: {cause}; it must be a PEM file of certificates")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// The fault.
        cause: String,
    },
    /// The URL of PostgreSQL can't be used.
    #[error(transparent)]
    StoreUrl(#[from] UrlError),
    /// The password of PostgreSQL is named twice, or without a server.
    #[error(
        "[store] password_file needs a url without a password: postgres://user@host:port/database"
    )]
    StorePassword,
    /// A file of secrets can't be read, or other users can read it.
    #[error(transparent)]
    Private(#[from] PrivateFileError),
    /// The name of the instance can't be used.
    #[error("instance = {0:?} must be 1 to 64 of A-Z a-z 0-9 - _")]
    Instance(String),
    /// A file of secrets is invalid.
    #[error("{}: {cause}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// The fault, without content of the file.
        cause: String,
    },
}

impl HasPaths for Settings {
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let reports = self.reports.as_mut().map(|it| {
            let optional = it.variables.iter_mut().chain(&mut it.links);
            [&mut it.advertisers, &mut it.secrets]
                .into_iter()
                .chain(optional)
        });
        [&mut self.data_dir, &mut self.tls.dir]
            .into_iter()
            .chain(&mut self.clickhouse.ca_file)
            .chain(&mut self.clickhouse.password_file)
            .chain(&mut self.clickhouse.credentials)
            .chain(&mut self.store.dir)
            .chain(&mut self.store.password_file)
            .chain(self.outgoing.as_mut().map(|it| &mut it.postbacks))
            .chain(reports.into_iter().flatten())
            .collect()
    }
}

/// Reads and validates the settings file; relative paths in it start from its directory. [`ClickHouseSettings::login`]
/// reads files of secrets later.
///
/// # Errors
/// When the file can't be read, has an unknown key or a value out of bounds, or its values contradict each other.
pub fn read(path: &Path) -> Result<Settings, InvalidSettings> {
    let mut settings = load(path)?;
    match settings.mistakes(path).into_iter().next() {
        None => settings.store.add_password().map(|()| settings),
        Some(mistake) => Err(mistake),
    }
}

/// As [`read`], without [`Settings::mistakes`].
pub(crate) fn load(path: &Path) -> Result<Settings, SettingsError> {
    let mut settings: Settings = load_resolved(path)?;
    settings.store.resolve(&directory_of(path)?);
    Ok(settings)
}

impl Settings {
    /// All errors that concern more than one key of the file at `path`.
    pub(crate) fn mistakes(&self, path: &Path) -> Vec<InvalidSettings> {
        let is_exposed = || match self.holds_password() {
            true => require_private(path).map_err(Into::into),
            false => Ok(()),
        };
        let checks = [
            self.clickhouse.check(),
            self.store.check(),
            self.check_instance(),
            is_exposed(),
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    fn check_instance(&self) -> Result<(), InvalidSettings> {
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if (1..=64).contains(&self.instance.len()) && self.instance.bytes().all(usable) {
            Ok(())
        } else {
            Err(InvalidSettings::Instance(self.instance.clone()))
        }
    }

    /// The directory of block files and the checkpoint. Edges can send its events again.
    pub(crate) fn spool_dir(&self) -> PathBuf {
        self.data_dir.join("spool")
    }

    /// The directory of data that exists nowhere else.
    pub(crate) fn store_dir(&self) -> PathBuf {
        let named = self.store.dir.clone();
        named.unwrap_or_else(|| self.data_dir.join("store"))
    }

    /// SQLite's file, whether it is used or not.
    pub(crate) fn store_file(&self) -> PathBuf {
        self.store_dir().join("store.sqlite")
    }
}

impl Tls {
    /// Checks the certificates, unless they are created at the first start.
    ///
    /// # Errors
    /// When a certificate is missing or can't be used.
    pub fn check(&self) -> Result<(), TlsError> {
        if self.development && !self.dir.exists() {
            return Ok(());
        }
        tls::require_present(&self.dir, &Subject::Aggregator)?;
        tls::load(&IdentityFiles::of(&self.dir, Role::Aggregator))?.server_config()?;
        Ok(())
    }
}

impl Settings {
    /// Whether the settings file itself contains a password.
    fn holds_password(&self) -> bool {
        let in_url = |url: &Secret| url::has_password(url.reveal());
        self.clickhouse.password.is_some() || self.store.url.as_ref().is_some_and(in_url)
    }
}

impl Store {
    /// Resolves relative paths, also in the URL, from `directory`.
    fn resolve(&mut self, directory: &Path) {
        if let Some(Secret(url)) = &mut self.url {
            *url = url::resolve_files(url, directory);
        }
    }

    fn check(&self) -> Result<(), InvalidSettings> {
        let has_password = |url: &Secret| url::has_password(url.reveal());
        if self.password_file.is_some() && self.url.as_ref().is_none_or(has_password) {
            return Err(InvalidSettings::StorePassword);
        }
        match &self.url {
            Some(url) => Ok(url::check(url.reveal(), self.allow_plaintext)?),
            None => Ok(()),
        }
    }

    /// Completes the URL with the password of [`Self::password_file`].
    ///
    /// # Errors
    /// When the file can't be read, or can be read by other users.
    pub(crate) fn add_password(&mut self) -> Result<(), InvalidSettings> {
        if let (Some(Secret(url)), Some(file)) = (&mut self.url, &self.password_file) {
            *url = url::with_password(url, &read_password(file)?);
        }
        Ok(())
    }
}

fn read_password(file: &Path) -> Result<String, InvalidSettings> {
    let text = read_private(file, MAX_SECRETS_BYTES)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn default_unknown_key_wait() -> Bounded<HumanDuration, 0, DAY_MS> {
    Bounded::new(HumanDuration(Duration::from_secs(600)))
}

fn default_unsigned_per_minute() -> Bounded<usize, 1, 100_000_000> {
    Bounded::new(600)
}

const fn default_unsigned_amount_per_day() -> u64 {
    100_000
}

fn default_timeout() -> Bounded<HumanDuration, 100, 60_000> {
    Bounded::new(HumanDuration(Duration::from_secs(10)))
}

fn default_first_retry() -> Bounded<HumanDuration, 10, 3_600_000> {
    Bounded::new(HumanDuration(Duration::from_secs(10)))
}

fn default_give_up_after() -> Bounded<HumanDuration, 1_000, { 30 * DAY_MS }> {
    Bounded::new(HumanDuration(Duration::from_millis(3 * DAY_MS)))
}

fn default_concurrency() -> Bounded<usize, 1, 1_024> {
    Bounded::new(64)
}

fn default_instance() -> String {
    "main".to_owned()
}

fn default_listen() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 7400).into()
}

fn default_admin_listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 7401).into()
}
