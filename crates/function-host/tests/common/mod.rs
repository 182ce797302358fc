//! A host that runs the test guest, which `cargo xtask functions` builds.
#![allow(dead_code, reason = "each test program uses a part of it")]

use bytes::Bytes;
use function_host::{
    Body, Failure, Host, InternalResponse, InternalService, Limits, LoadError, MatchedFunction,
    Settings,
};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use prometheus::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Notify;

pub(crate) struct Functions {
    host: Host,
    registry: Registry,
    directory: TempDir,
}

/// The response to a call that failed.
pub(crate) fn failed(failure: Failure) -> TextResponse {
    TextResponse {
        status: failure.status(),
        text: format!("{} {}\n", failure.number(), failure.name()),
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TextResponse {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

/// Responds with the request's method, path and body, at the next flush of deferred work.
#[derive(Default)]
struct EchoService {
    flushed: Arc<Notify>,
}

impl InternalService for EchoService {
    fn host(&self) -> &str {
        "tracker.internal"
    }

    fn respond(&self, request: Request<Bytes>) -> InternalResponse {
        let (parts, body) = request.into_parts();
        let text = format!(
            "{} {} {}",
            parts.method,
            parts.uri.path(),
            String::from_utf8_lossy(&body)
        );
        let flushed = self.flushed.clone().notified_owned();
        Box::pin(async move {
            flushed.await;
            Response::new(Bytes::from(text))
        })
    }

    fn flush_deferred(&self) {
        self.flushed.notify_waiters();
    }
}

fn guest() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let guest = target.join("wasm32-wasip2/function/function_guest.wasm");
    assert!(
        guest.is_file(),
        "build the functions first: cargo xtask functions"
    );
    guest
}

impl Functions {
    pub(crate) fn load(limits: &Limits) -> Self {
        Self::load_with(limits, BTreeSet::new())
    }

    fn load_with(limits: &Limits, reuse: BTreeSet<String>) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::copy(guest(), directory.path().join("guest.wasm")).expect("file copied");
        let registry = Registry::new();
        write_manifest(directory.path(), "good day");
        let settings = Settings {
            manifest: directory.path().join("spin.toml"),
            variables: BTreeMap::new(),
            provided: BTreeMap::new(),
            // Shared by all tests: compiling takes longer than the tests.
            cache_dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-functions"),
            threads: 1,
            limits: limits.clone(),
            reuse,
        };
        let host = Host::load(settings, Arc::new(EchoService::default()), &registry)
            .expect("functions load");
        Self {
            host,
            registry,
            directory,
        }
    }

    /// Reuses instances.
    pub(crate) fn load_reusing(limits: &Limits) -> Self {
        Self::load_with(limits, ["guest".to_owned()].into())
    }

    pub(crate) async fn get(&self, target: &str) -> TextResponse {
        self.call(Request::get(target), "").await
    }

    pub(crate) async fn call(&self, request: http::request::Builder, body: &str) -> TextResponse {
        let body = Full::new(Bytes::from(body.to_owned()));
        self.send(request.body(body).expect("valid request")).await
    }

    /// Posts a body without a content length.
    pub(crate) async fn post_chunked(&self, target: &str, body: &str) -> TextResponse {
        let data = Bytes::from(body.to_owned());
        let frames = [Ok::<_, Infallible>(Frame::data(data))];
        self.post_frames(target, futures::stream::iter(frames))
            .await
    }

    /// Posts a body of these frames.
    pub(crate) async fn post_frames<E>(
        &self,
        target: &str,
        frames: impl futures::Stream<Item = Result<Frame<Bytes>, E>> + Send + 'static,
    ) -> TextResponse
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let request = Request::post(target).body(StreamBody::new(frames));
        self.send(request.expect("valid request")).await
    }

    /// The text of an interrupted body is its error.
    async fn send<B>(&self, request: Request<B>) -> TextResponse
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let Some(matched) = self.host.find(request.uri().path()) else {
            return TextResponse {
                status: StatusCode::NOT_FOUND,
                text: String::new(),
            };
        };
        let response = self.call_matched(matched, request).await;
        let status = response.status();
        let body = response.into_body().collect().await;
        let text = body.map_or_else(
            |error| error.to_string(),
            |body| String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        );
        TextResponse { status, text }
    }

    /// Gets a response without reading its body.
    pub(crate) async fn head(&self, target: &str) -> Response<Body> {
        let request = Request::get(target).body(Full::<Bytes>::default());
        let request = request.expect("valid request");
        let matched = self
            .host
            .find(request.uri().path())
            .expect("matching route");
        self.call_matched(matched, request).await
    }

    async fn call_matched<B>(&self, matched: MatchedFunction, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let client = "203.0.113.7".parse().expect("valid address");
        self.host.call(matched, client, request).await
    }

    pub(crate) fn fill<const N: usize>(&self, entries: [(&str, &str); N]) {
        let entries = entries.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        self.host.fill_store("facts", BTreeMap::from(entries));
    }

    pub(crate) fn write_manifest(&self, greeting: &str) {
        write_manifest(self.directory.path(), greeting);
    }

    pub(crate) fn break_component(&self) {
        fs::write(self.directory.path().join("guest.wasm"), "not a component")
            .expect("file written");
    }

    pub(crate) fn restore_component(&self) {
        fs::copy(guest(), self.directory.path().join("guest.wasm")).expect("file copied");
    }

    pub(crate) fn deploy(&self) -> Result<(), LoadError> {
        self.deploy_with(BTreeMap::new())
    }

    pub(crate) fn deploy_with(&self, variables: BTreeMap<String, String>) -> Result<(), LoadError> {
        self.host.deploy_with(variables)
    }

    /// Deploys with the present variables.
    pub(crate) fn redeploy(&self) -> Result<(), LoadError> {
        self.host.deploy_providing(BTreeMap::new())
    }

    /// Waits until `calls` calls have failed with `failure`, for at most 20 seconds.
    pub(crate) async fn await_failures(&self, failure: Failure, calls: u32) {
        let line = format!(
            "function_errors_total{{function=\"guest\",reason=\"{}\"}} {calls}\n",
            failure.name()
        );
        self.await_metric(&line).await;
    }

    /// Waits until `calls` calls are running, for at most 20 seconds.
    pub(crate) async fn await_running(&self, calls: u32) {
        let line = format!("functions_running{{function=\"guest\"}} {calls}\n");
        self.await_metric(&line).await;
    }

    async fn await_metric(&self, line: &str) {
        let shown = async {
            while !self.metrics().contains(line) {
                tokio::task::yield_now().await;
            }
        };
        let shown = tokio::time::timeout(Duration::from_secs(20), shown).await;
        assert!(shown.is_ok(), "{line} not in\n{}", self.metrics());
    }

    pub(crate) fn metrics(&self) -> String {
        let encoder = prometheus::TextEncoder::new();
        encoder
            .encode_to_string(&self.registry.gather())
            .expect("encodable metrics")
    }
}

fn write_manifest(directory: &Path, greeting: &str) {
    let text = format!(
        r#"spin_manifest_version = 2
[application]
name = "tests"
[variables]
phrase = {{ default = "{greeting}" }}
[[trigger.http]]
route = "/:path"
component = "guest"
[component.guest]
source = "guest.wasm"
allowed_outbound_hosts = ["http://tracker.internal", "http://localhost:*"]
key_value_stores = ["facts"]
[component.guest.variables]
greeting = "{{{{ phrase }}}}"
"#
    );
    fs::write(directory.join("spin.toml"), text).expect("file written");
}
