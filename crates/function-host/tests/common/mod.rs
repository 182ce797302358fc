//! A host with the guest for tests, which `cargo xtask functions` builds.
#![allow(dead_code, reason = "each test uses a part of it")]

use bytes::Bytes;
use function_host::{
    Body, Failure, Host, Internal, InternalAnswer, Limits, LoadError, Matched, Settings,
};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use prometheus::Registry;
use std::collections::BTreeMap;
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
    folder: TempDir,
}

/// What is answered for a failure.
pub(crate) fn failed(failure: Failure) -> Said {
    Said {
        status: failure.status(),
        text: format!("{} {}\n", failure.number(), failure.name()),
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

/// Answers with what it was asked, once it is to settle.
#[derive(Default)]
struct Mirror {
    settles: Arc<Notify>,
}

impl Internal for Mirror {
    fn host(&self) -> &str {
        "tracker.internal"
    }

    fn answer(&self, request: Request<Bytes>) -> InternalAnswer {
        let (parts, body) = request.into_parts();
        let text = format!(
            "{} {} {}",
            parts.method,
            parts.uri.path(),
            String::from_utf8_lossy(&body)
        );
        let settled = self.settles.clone().notified_owned();
        Box::pin(async move {
            settled.await;
            Response::new(Bytes::from(text))
        })
    }

    fn settle(&self) {
        self.settles.notify_waiters();
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
    pub(crate) fn load(limits: &Limits, reuse: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::copy(guest(), folder.path().join("guest.wasm")).expect("copied");
        let registry = Registry::new();
        write_manifest(folder.path(), "good day");
        let settings = Settings {
            manifest: folder.path().join("spin.toml"),
            variables: BTreeMap::new(),
            offered: BTreeMap::new(),
            // Shared by all tests: compiling takes longer than they do.
            cache_dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-functions"),
            threads: 1,
            limits: limits.clone(),
            reuse: reuse.split_whitespace().map(Into::into).collect(),
        };
        let host = Host::load(settings, Arc::new(Mirror::default()), &registry).expect("loaded");
        Self {
            host,
            registry,
            folder,
        }
    }

    pub(crate) fn load_reusing(limits: &Limits, _: &str) -> Self {
        Self::load(limits, "guest")
    }

    pub(crate) async fn get(&self, target: &str) -> Said {
        self.call(Request::get(target), "").await
    }

    pub(crate) async fn call(&self, request: http::request::Builder, body: &str) -> Said {
        let body = Full::new(Bytes::from(body.to_owned()));
        self.send(request.body(body).expect("a request")).await
    }

    /// With a body whose length is not told before.
    pub(crate) async fn call_in_parts(&self, target: &str, body: &str) -> Said {
        let part = Bytes::from(body.to_owned());
        let parts = [Ok::<_, Infallible>(Frame::data(part))];
        self.call_with(target, futures::stream::iter(parts)).await
    }

    /// With a body of such frames as `parts` gives.
    pub(crate) async fn call_with<E>(
        &self,
        target: &str,
        parts: impl futures::Stream<Item = Result<Frame<Bytes>, E>> + Send + 'static,
    ) -> Said
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let request = Request::post(target).body(StreamBody::new(parts));
        self.send(request.expect("a request")).await
    }

    /// A body's text is the error where it broke off.
    async fn send<B>(&self, request: Request<B>) -> Said
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let Some(matched) = self.host.find(request.uri().path()) else {
            return Said {
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
        Said { status, text }
    }

    /// An answer of which no more than the head is read.
    pub(crate) async fn head(&self, target: &str) -> Response<Body> {
        let request = Request::get(target).body(Full::<Bytes>::default());
        let request = request.expect("a request");
        let matched = self.host.find(request.uri().path()).expect("a function");
        self.call_matched(matched, request).await
    }

    async fn call_matched<B>(&self, matched: Matched, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let client = "203.0.113.7".parse().expect("an address");
        self.host.call(matched, client, request).await
    }

    pub(crate) fn fill<const N: usize>(&self, entries: [(&str, &str); N]) {
        let entries = entries.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        self.host.fill_store("facts", entries.into());
    }

    pub(crate) fn write_manifest(&self, greeting: &str) {
        write_manifest(self.folder.path(), greeting);
    }

    pub(crate) fn break_component(&self) {
        fs::write(self.folder.path().join("guest.wasm"), "no component").expect("written");
    }

    pub(crate) fn deploy(&self) -> Result<(), LoadError> {
        self.host.deploy()
    }

    pub(crate) fn roll_back(&self) -> bool {
        self.host.roll_back()
    }

    /// Returns when so many calls have ended for `failure`, and fails if that takes long.
    pub(crate) async fn await_failures(&self, failure: Failure, calls: u32) {
        let line = format!(
            "function_errors_total{{function=\"guest\",reason=\"{}\"}} {calls}\n",
            failure.name()
        );
        let counted = async {
            while !self.metrics().contains(&line) {
                tokio::task::yield_now().await;
            }
        };
        let counted = tokio::time::timeout(Duration::from_secs(20), counted).await;
        assert!(counted.is_ok(), "{line} not in\n{}", self.metrics());
    }

    /// Returns when so many calls are being answered, and fails if that takes long.
    pub(crate) async fn await_running(&self, calls: u32) {
        let line = format!("functions_running{{function=\"guest\"}} {calls}\n");
        let running = async {
            while !self.metrics().contains(&line) {
                tokio::task::yield_now().await;
            }
        };
        let running = tokio::time::timeout(Duration::from_secs(20), running).await;
        assert!(running.is_ok(), "{line} not in\n{}", self.metrics());
    }

    pub(crate) fn metrics(&self) -> String {
        let encoder = prometheus::TextEncoder::new();
        encoder
            .encode_to_string(&self.registry.gather())
            .expect("encoded")
    }
}

fn write_manifest(folder: &Path, greeting: &str) {
    let text = format!(
        r#"spin_manifest_version = 2
[application]
name = "tests"
[variables]
phrase = {{ default = "{greeting}" }}
[[trigger.http]]
route = "/:what"
component = "guest"
[component.guest]
source = "guest.wasm"
allowed_outbound_hosts = ["http://tracker.internal", "http://localhost:*"]
key_value_stores = ["facts"]
[component.guest.variables]
greeting = "{{{{ phrase }}}}"
"#
    );
    fs::write(folder.join("spin.toml"), text).expect("written");
}
