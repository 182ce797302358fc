//! The settings of an edge node, with their defaults and limits.

use crate::unique::UniqueSettings;
use crate::visitor::VisitorSettings;
use crate::visitor::address::{ForwardedHeader, is_internal};
use crate::visitor::geo::GeoSettings;
use daemon::clock::ClockSettings;
use daemon::logs::LogSettings;
use daemon::retention::RetentionSettings;
use daemon::settings::{Bounded, ByteSize, HasPaths, HumanDuration, SettingsError, load_resolved};
use daemon::traces::TraceSettings;
use http::{HeaderValue, Uri};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// The settings of an edge node; docs/configuration.md is generated from its types.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// This node's number, unique in the fleet. It is part of every click id.
    pub node: NonZeroU16,
    /// The directory of the journal, the filters, `visitor-salt` and, by default, `secrets.toml`, `tls` and
    /// `internal-api-token`; created when absent.
    pub data_dir: PathBuf,
    /// Worker threads; 0 means one per core, at most 64.
    #[serde(default)]
    pub workers: u8,
    /// The fleet's click id keys, the same file on every edge; created at the first start when absent, reloaded when
    /// changed. Default: `secrets.toml` in `data_dir`.
    pub secrets: Option<PathBuf>,
    /// The public port and the admin port.
    pub http: HttpSettings,
    /// The links.
    pub links: LinksSettings,
    /// Databases of countries, regions and autonomous systems.
    #[serde(default)]
    pub geo: GeoSettings,
    /// Visitor ids and attributes.
    #[serde(default)]
    pub visitor: VisitorSettings,
    /// Filters of unique visits.
    #[serde(default)]
    pub unique: UniqueSettings,
    /// The journal on disk.
    #[serde(default)]
    pub journal: JournalSettings,
    /// The aggregator that events are shipped to.
    pub aggregator: AggregatorSettings,
    /// Certificates for the connection to the aggregator.
    #[serde(default)]
    pub tls: TlsSettings,
    /// How long set-aside files are kept.
    #[serde(default)]
    pub retention: RetentionSettings,
    /// How far the system clock is followed.
    #[serde(default)]
    pub clock: ClockSettings,
    /// The log.
    #[serde(default)]
    pub log: LogSettings,
    /// Traces.
    #[serde(default)]
    pub traces: TraceSettings,
    /// Functions for postbacks and webhooks. Without this table no functions run.
    pub functions: Option<FunctionsSettings>,
    /// The internal API for functions under Spin. Without this table no port is opened for it.
    pub internal_api: Option<InternalApiSettings>,
}

/// The public port, the admin port and their limits.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// The address for visitors (HTTP/1.1 and HTTP/2 without TLS).
    pub listen: SocketAddr,
    /// The address for operators: `/healthz`, `/readyz`, `/metrics`. Keep it private.
    pub admin_listen: SocketAddr,
    /// Hosts that are served, with or without a dot at their end; other hosts are refused with 421. Empty means any
    /// host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Networks of the proxies that are trusted to report the client's address; see docs/proxies.md.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which trusted proxies report the client's address.
    #[serde(default)]
    pub forwarded_header: ForwardedHeader,
    /// Whether trusted peers begin each connection with a PROXY protocol header (v1 or v2).
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The peers that may use HTTP/2; others must use HTTP/1.1.
    #[serde(default)]
    pub http2: Http2,
    /// The redirect target (302) of the bare domain (`/`). Without it and without `root_page` the bare domain responds
    /// `200 ok`.
    #[schemars(with = "Option<String>")]
    pub root_redirect: Option<WebAddress>,
    /// An HTML file of at most 256 KiB for the bare domain; read at start. Excludes `root_redirect`.
    pub root_page: Option<PathBuf>,
    /// How long a client may take for a request's head, and may stay idle between requests.
    #[serde(default = "HttpSettings::header_timeout")]
    pub header_timeout: Bounded<HumanDuration, 10, 600_000>,
    /// How long a client may leave sent data unacknowledged, or an HTTP/2 window closed while data waits.
    #[serde(default = "HttpSettings::write_timeout")]
    pub write_timeout: Bounded<HumanDuration, 10, 600_000>,
    /// How long open connections are drained at shutdown.
    #[serde(default = "HttpSettings::stop_timeout")]
    pub stop_timeout: HumanDuration,
    /// Connections that a worker keeps open; beyond, the one that has been idle the longest is evicted. Lowered at
    /// start to fit the limit of open files.
    #[serde(default = "HttpSettings::max_connections")]
    pub max_connections: Bounded<usize, 1, 1_000_000>,
    /// The event-loop or accept-queue delay, as the minimum of 100 ms, from which a worker refuses pixels with 503. It
    /// stops doing so below half of this.
    #[serde(default = "HttpSettings::shed_lag")]
    pub shed_lag: Bounded<HumanDuration, 1, 60_000>,
    /// The longest request head.
    #[serde(default = "HttpSettings::max_head_bytes")]
    pub max_head_bytes: Bounded<ByteSize, 8_192, 1_048_576>,
    /// The longest request target.
    #[serde(default = "HttpSettings::max_url_bytes")]
    pub max_url_bytes: Bounded<ByteSize, 256, 65_535>,
    /// Retired and without effect; files that have it stay valid.
    #[schemars(skip)]
    pub max_parameters: Option<IgnoredAny>,
    /// Bytes kept of the decoded value of a parameter such as `sub1`; the remainder is cut off and the row marked.
    /// `max_parameters` of earlier builds is accepted and has no effect.
    #[serde(default = "HttpSettings::max_parameter_bytes")]
    pub max_parameter_bytes: Bounded<ByteSize, 16, 512>,
}

/// The absolute address of a web page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebAddress(HeaderValue);

impl TryFrom<String> for WebAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let uri: Option<Uri> = text.parse().ok();
        let is_web = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some()
        });
        let value = HeaderValue::from_str(&text).ok().filter(|_| is_web);
        value
            .map(Self)
            .ok_or("the address of a page begins with https:// or http://")
    }
}

impl From<WebAddress> for HeaderValue {
    fn from(address: WebAddress) -> Self {
        address.0
    }
}

/// The peers that may use HTTP/2 without TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Http2 {
    /// None.
    Off,
    /// Those of `http.trusted_proxies`: a client can occupy far more of an edge with HTTP/2 than with HTTP/1.1.
    #[default]
    TrustedProxies,
    /// All.
    Any,
}

impl HttpSettings {
    fn header_timeout() -> Bounded<HumanDuration, 10, 600_000> {
        Bounded::new(HumanDuration(Duration::from_secs(10)))
    }
    fn write_timeout() -> Bounded<HumanDuration, 10, 600_000> {
        Bounded::new(HumanDuration(Duration::from_secs(10)))
    }
    const fn stop_timeout() -> HumanDuration {
        HumanDuration(Duration::from_secs(5))
    }
    fn max_connections() -> Bounded<usize, 1, 1_000_000> {
        Bounded::new(16_384)
    }
    fn shed_lag() -> Bounded<HumanDuration, 1, 60_000> {
        Bounded::new(HumanDuration(Duration::from_millis(50)))
    }
    fn max_head_bytes() -> Bounded<ByteSize, 8_192, 1_048_576> {
        Bounded::new(ByteSize(16 << 10))
    }
    fn max_url_bytes() -> Bounded<ByteSize, 256, 65_535> {
        Bounded::new(ByteSize(8 << 10))
    }
    fn max_parameter_bytes() -> Bounded<ByteSize, 16, 512> {
        Bounded::new(ByteSize(512))
    }
}

/// Where links come from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinksSettings {
    /// `file`, or `control_plane`: the links that people make in the API of the aggregator.
    #[serde(default)]
    pub source: LinksSource,
    /// The links file, `links.toml`, with the source `file`; its keys are in docs/links.md.
    pub file: Option<PathBuf>,
    /// How often links, functions, advertisers, variables and agent rules are checked for changes.
    #[serde(default = "LinksSettings::check_every")]
    pub check_every: Bounded<HumanDuration, 10, 3_600_000>,
}

/// Where links come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinksSource {
    /// A file of this edge.
    #[default]
    File,
    /// The aggregator, with every change as it is made.
    ControlPlane,
}

impl LinksSettings {
    fn check_every() -> Bounded<HumanDuration, 10, 3_600_000> {
        Bounded::new(HumanDuration(Duration::from_secs(1)))
    }
}

/// The journal on disk.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalSettings {
    /// The size of a segment file.
    pub segment_bytes: Bounded<ByteSize, 1_048_576, 1_073_741_824>,
    /// The most bytes of all lanes together on disk. Beyond, redirects continue and their events are counted in
    /// `edge_lost_total`.
    pub max_bytes: ByteSize,
    /// How long an accepted event may wait until it is durable, that is, until it survives a power loss.
    pub sync_interval: Bounded<HumanDuration, 1, 60_000>,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            segment_bytes: Bounded::new(ByteSize(32 << 20)),
            max_bytes: ByteSize(8 << 30),
            sync_interval: Bounded::new(HumanDuration(Duration::from_millis(500))),
        }
    }
}

/// The aggregator that events are shipped to, and the size of batches.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AggregatorSettings {
    /// `host:port` of the aggregator (UDP).
    #[serde(deserialize_with = "host_and_port")]
    pub address: String,
    /// A batch is sealed when it has this many bytes, or when it is older than `batch_age`.
    #[serde(default = "AggregatorSettings::batch_bytes")]
    pub batch_bytes: Bounded<ByteSize, 4_096, 4_194_304>,
    /// A batch is sealed when its first event is this old.
    #[serde(default = "AggregatorSettings::batch_age")]
    pub batch_age: Bounded<HumanDuration, 1, 60_000>,
}

fn host_and_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let address = String::deserialize(deserializer)?;
    let is_address = address.rsplit_once(':').is_some_and(|(host, port)| {
        let is_enclosed = host.starts_with('[') && host.ends_with(']');
        let is_host = !host.is_empty() && (is_enclosed || !host.contains([':', '/', ' ']));
        is_host && port.parse::<NonZeroU16>().is_ok()
    });
    match is_address {
        true => Ok(address),
        false => Err(D::Error::custom(
            "not an address: write \"host:port\", such as \"aggregator.example:7400\"",
        )),
    }
}

impl AggregatorSettings {
    fn batch_bytes() -> Bounded<ByteSize, 4_096, 4_194_304> {
        Bounded::new(ByteSize(event_shipping::DEFAULT_BATCH_BYTES))
    }
    fn batch_age() -> Bounded<HumanDuration, 1, 60_000> {
        Bounded::new(HumanDuration(event_shipping::DEFAULT_MAX_BATCH_AGE))
    }
}

/// Certificates for mutual TLS.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// The directory of `ca.pem`, `edge.pem`, `edge.key` and optionally `revoked.txt`, reloaded when changed. Default:
    /// `tls` in `data_dir`.
    pub dir: Option<PathBuf>,
    /// Whether a certificate for this node is issued where `dir` does not exist, by the authority in the directory
    /// `authority` next to `dir`, which is created when absent. Never set it in production.
    pub development: bool,
}

/// Functions and the limits of their calls.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionsSettings {
    /// The manifest of the functions, `spin.toml`.
    pub manifest: PathBuf,
    /// Values of the manifest's variables: lines of `name = "value"`, readable by this user only.
    pub variables: Option<PathBuf>,
    /// `advertisers.toml`, readable by this user only; its keys are in wasm-functions/README.md.
    pub advertisers: Option<PathBuf>,
    /// Threads that functions run on, and as many again for functions that compute for long; clicks take precedence.
    #[serde(default = "FunctionsSettings::threads")]
    pub threads: Bounded<usize, 1, 64>,
    /// Functions whose instances are reused, for one call at a time: they keep their memory between calls.
    #[serde(default)]
    pub reuse: Vec<String>,
    /// Failed authentications (101, 103, 202) of one network (/24 of IPv4, /48 of IPv6) a minute; beyond, its requests
    /// to functions are refused with 429.
    #[serde(default = "FunctionsSettings::failures_per_minute")]
    pub failures_per_minute: Bounded<usize, 1, 1_000_000_000>,
    /// The part of the journal reserved for rejected reports; at least two segments, at most half of
    /// `journal.max_bytes`. Above half of it one rejection in 16 is logged, beyond it none; all are counted. Default: a
    /// twentieth of `journal.max_bytes`.
    pub rejections_max_bytes: Option<ByteSize>,
    /// Limits of each call.
    #[serde(default)]
    pub limits: FunctionLimits,
}

impl FunctionsSettings {
    fn failures_per_minute() -> Bounded<usize, 1, 1_000_000_000> {
        Bounded::new(300)
    }
    fn threads() -> Bounded<usize, 1, 64> {
        Bounded::new(1)
    }
}

/// Limits of a call of a function.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FunctionLimits {
    /// Memory of a call's instance.
    pub memory: Bounded<ByteSize, 1_048_576, 1_073_741_824>,
    /// Processor time of a call.
    pub cpu: Bounded<HumanDuration, 1, 60_000>,
    /// Time from the call to the end of the response. The body of a request is read before the call and may take as
    /// long.
    pub wall: Bounded<HumanDuration, 1, 60_000>,
    /// The longest body of a request; beyond, refused by the edge (306). The functions themselves reject and record
    /// bodies above 64 KiB (116, 204).
    pub request: Bounded<ByteSize, 0, 16_777_216>,
    /// The longest body of a response.
    pub response: Bounded<ByteSize, 1_024, 16_777_216>,
    /// Calls of all functions at once; beyond, 503.
    pub concurrency: Bounded<usize, 1, 4_096>,
}

impl Default for FunctionLimits {
    fn default() -> Self {
        Self {
            memory: Bounded::new(ByteSize(32 << 20)),
            cpu: Bounded::new(HumanDuration(Duration::from_millis(100))),
            wall: Bounded::new(HumanDuration(Duration::from_secs(5))),
            request: Bounded::new(ByteSize(128 << 10)),
            response: Bounded::new(ByteSize(1 << 20)),
            concurrency: Bounded::new(128),
        }
    }
}

/// The internal API's address and limits.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InternalApiSettings {
    /// Where functions under Spin report (HTTP/1.1 without TLS): a loopback or private address, since messages and the
    /// token travel as plain text.
    pub listen: SocketAddr,
    /// Whether `listen` may be another address, such as one that a VPN or a proxy with TLS protects.
    #[serde(default)]
    pub allow_public: bool,
    /// The token file: one token a line, two during a rotation; created when absent, reloaded when changed, readable by
    /// this user only. Default: `internal-api-token` in `data_dir`.
    pub token: Option<PathBuf>,
    /// How long a client may take to send a request's head or body or to read the response, and may stay idle.
    #[serde(default = "InternalApiSettings::timeout")]
    pub timeout: Bounded<HumanDuration, 10, 600_000>,
    /// Open connections; others wait to be accepted.
    #[serde(default = "InternalApiSettings::max_connections")]
    pub max_connections: Bounded<usize, 1, 256>,
    /// Messages that are received and made durable at once; beyond, 503.
    #[serde(default = "InternalApiSettings::max_requests")]
    pub max_requests: Bounded<usize, 1, 256>,
    /// The longest message.
    #[serde(default = "InternalApiSettings::max_message_bytes")]
    pub max_message_bytes: Bounded<ByteSize, 65_536, 1_048_576>,
}

impl InternalApiSettings {
    fn timeout() -> Bounded<HumanDuration, 10, 600_000> {
        Bounded::new(HumanDuration(Duration::from_secs(10)))
    }
    fn max_connections() -> Bounded<usize, 1, 256> {
        Bounded::new(128)
    }
    fn max_requests() -> Bounded<usize, 1, 256> {
        Bounded::new(64)
    }
    fn max_message_bytes() -> Bounded<ByteSize, 65_536, 1_048_576> {
        Bounded::new(ByteSize(64 << 10))
    }
}

/// Settings that are valid alone but contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InconsistentSettings {
    /// A visitor can't be recognised for the whole window.
    #[error(
        "unique.window is longer than visitor.period: ids are known for their own period and the \
         next only; shorten the one or lengthen the other"
    )]
    WindowBeyondPeriod,
    /// Rejections would leave too little of the journal for clicks.
    #[error(
        "functions.rejections_max_bytes is more than half of journal.max_bytes: clicks and accepted \
         reports would be left with the smaller part; lower the one or raise the other"
    )]
    RejectionsBeyondHalf,
    /// The edge would have no links.
    #[error(
        "links.source is \"file\", and links.file names none: set it, or set source = \"control_plane\""
    )]
    NoLinksFile,
    /// The file would be ignored.
    #[error(
        "links.file is set, and links.source is \"control_plane\": remove the one that you do not use"
    )]
    UnusedLinksFile,
    /// The bare domain has one response.
    #[error("http.root_redirect and http.root_page are both set: keep one")]
    TwoRoots,
    /// A token would travel over the internet as plain text.
    #[error(
        "internal_api.listen is neither a loopback nor a private address, and the internal API has no TLS: listen \
         on one of those, or set internal_api.allow_public = true where something else protects the connection"
    )]
    PublicInternalApi,
}

impl HasPaths for Settings {
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let functions = self.functions.as_mut().map(|it| {
            let others = it.variables.iter_mut().chain(&mut it.advertisers);
            std::iter::once(&mut it.manifest).chain(others)
        });
        let token = self.internal_api.as_mut().and_then(|it| it.token.as_mut());
        std::iter::once(&mut self.data_dir)
            .chain(&mut self.links.file)
            .chain(&mut self.secrets)
            .chain(&mut self.http.root_page)
            .chain(&mut self.tls.dir)
            .chain(&mut self.geo.country)
            .chain(&mut self.geo.asn)
            .chain(self.visitor.agents.named())
            .chain(functions.into_iter().flatten())
            .chain(token)
            .collect()
    }
}

/// Reads the settings file at `path`; relative paths in it start from its directory.
///
/// # Errors
/// When it can't be read, or holds an unknown key or a value out of bounds.
pub fn read(path: &Path) -> Result<Settings, SettingsError> {
    load_resolved(path)
}

impl Settings {
    /// All settings that contradict each other.
    #[must_use]
    pub fn contradictions(&self) -> Vec<InconsistentSettings> {
        let rejections = self
            .functions
            .as_ref()
            .and_then(|it| it.rejections_max_bytes);
        let all = [
            (
                self.unique.window.0 > self.visitor.period.get().0,
                InconsistentSettings::WindowBeyondPeriod,
            ),
            (
                rejections.is_some_and(|bytes| bytes.0 > self.journal.max_bytes.0 / 2),
                InconsistentSettings::RejectionsBeyondHalf,
            ),
            (
                self.http.root_redirect.is_some() && self.http.root_page.is_some(),
                InconsistentSettings::TwoRoots,
            ),
            (
                self.links.source == LinksSource::File && self.links.file.is_none(),
                InconsistentSettings::NoLinksFile,
            ),
            (
                self.links.source == LinksSource::ControlPlane && self.links.file.is_some(),
                InconsistentSettings::UnusedLinksFile,
            ),
            (
                self.internal_api.as_ref().is_some_and(|api| {
                    !api.allow_public && !is_internal(api.listen.ip().to_canonical())
                }),
                InconsistentSettings::PublicInternalApi,
            ),
        ];
        let found = all.into_iter().filter(|(applies, _)| *applies);
        found.map(|(_, contradiction)| contradiction).collect()
    }

    /// The fleet's secrets file.
    #[must_use]
    pub fn secrets_file(&self) -> PathBuf {
        self.secrets
            .clone()
            .unwrap_or_else(|| self.data_dir.join("secrets.toml"))
    }

    /// The token file of the internal API.
    #[must_use]
    pub fn token_file(&self, api: &InternalApiSettings) -> PathBuf {
        let default = || self.data_dir.join("internal-api-token");
        api.token.clone().unwrap_or_else(default)
    }

    /// Whether functions report to this node.
    #[must_use]
    pub const fn takes_reports(&self) -> bool {
        self.functions.is_some() || self.internal_api.is_some()
    }

    /// The part of the journal reserved for rejections.
    #[must_use]
    pub fn rejections_max_bytes(&self) -> u64 {
        let twentieth = ByteSize(self.journal.max_bytes.0 / 20);
        let functions = self.functions.as_ref();
        let set = functions.and_then(|it| it.rejections_max_bytes);
        let bytes = set.unwrap_or(twentieth);
        bytes.0.max(2 * self.journal.segment_bytes.get().0)
    }

    /// The file of the visitor salt; each node has its own.
    #[must_use]
    pub fn visitor_salt_file(&self) -> PathBuf {
        self.data_dir.join("visitor-salt")
    }

    /// The directory of certificates.
    #[must_use]
    pub fn tls_dir(&self) -> PathBuf {
        self.tls
            .dir
            .clone()
            .unwrap_or_else(|| self.data_dir.join("tls"))
    }

    /// How many workers to run.
    #[must_use]
    pub fn worker_count(&self) -> u8 {
        if self.workers > 0 {
            return self.workers;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        u8::try_from(cores).unwrap_or(64).min(64)
    }
}
