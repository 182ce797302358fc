//! Requests to the sign-on provider: bounded in number, and never waited for while its keys are known.
#![allow(missing_docs)]

mod common;

use accounts::sign_on::*;
use accounts::*;
use async_trait::async_trait;
use bytes::Bytes;
use common::issuer::*;
use common::*;
use futures::future::join_all;
use http::{Request, Response};
use sql_store::test_server::TestDatabase;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// Far above the time of anything that does not wait for the provider.
const SOON: Duration = Duration::from_secs(8);

/// A client whose requests get no response while `hangs` is set.
#[derive(Debug)]
struct HangingClient {
    inner: HyperClient,
    hangs: AtomicBool,
}

#[async_trait]
impl HttpClient for HangingClient {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.inner.send(request).await
    }
}

struct Scene {
    fixture: Fixture,
    issuer: Issuer,
    http: Arc<HangingClient>,
    sign_on: SignOn,
}

impl Scene {
    async fn new() -> Self {
        let settings = AccountsSettings {
            hash_wait: Duration::ZERO,
            ..AccountsSettings::default()
        };
        let fixture = Fixture::with_settings(TestDatabase::sqlite(), settings).await;
        let issuer = Issuer::start().await;
        let http = Arc::new(HangingClient {
            inner: HyperClient::new(rustls::RootCertStore::empty()),
            hangs: AtomicBool::new(false),
        });
        let sign_on = SignOn::new(fixture.accounts.clone(), issuer.settings(), http.clone());
        Self {
            sign_on: sign_on.expect("settings"),
            fixture,
            issuer,
            http,
        }
    }

    fn hang(&self, hangs: bool) {
        self.http.hangs.store(hangs, Ordering::Relaxed);
    }

    async fn begin(&self) -> SignOnRequest {
        let page = ReturnPath::parse("/").expect("a path");
        self.sign_on.begin(page).await.expect("begun")
    }

    /// Ends a sign-on with a code that the provider does not know.
    async fn finish(&self, begun: &SignOnRequest) -> Option<Refusal> {
        let state = parameter(begun.url(), "state");
        let query = format!("code=invented&state={state}&iss={}", self.issuer.url);
        let callback = Callback::parse(&query).expect("a query");
        let (cookie, client) = (&begun.cookie, client());
        refusal(self.sign_on.finish(&callback, cookie, &client, None).await)
    }
}

#[tokio::test]
async fn each_sign_on_causes_one_exchange() {
    let scene = Scene::new().await;
    let begun = scene.begin().await;
    let invalid = Some(Refusal::InvalidSignOn);
    for _ in 0..5 {
        assert_eq!(scene.finish(&begun).await, invalid);
        assert_eq!(scene.issuer.requests_to("/token"), 1);
    }
}

#[tokio::test]
async fn parallel_exchanges_are_bounded() {
    let scene = Scene::new().await;
    let begun = join_all((0..9).map(|_| scene.begin())).await;
    scene.hang(true);
    let (last, first) = begun.split_last().expect("nine");
    {
        let waiting = join_all(first.iter().map(|it| scene.finish(it)));
        let refused = async {
            tokio::select! {
                biased;
                _ = waiting => panic!("the provider hangs"),
                refused = scene.finish(last) => refused,
            }
        };
        let refused = timeout(SOON, refused).await.expect("no wait");
        assert_eq!(refused, Some(Refusal::Busy));
    }
    // A busy server has not used the sign-on up.
    scene.hang(false);
    assert_eq!(scene.finish(last).await, Some(Refusal::InvalidSignOn));
    assert_eq!(scene.issuer.requests_to("/token"), 1);
}

#[tokio::test]
async fn stale_keys_are_used_while_the_provider_hangs() {
    let scene = Scene::new().await;
    let fetched = || scene.issuer.requests_to("/jwks");
    scene.begin().await;
    assert_eq!(fetched(), 1);
    scene.fixture.clock.advance(HOUR);
    scene.begin().await;
    let refreshed = async {
        while fetched() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, refreshed).await.expect("fetched again");
    scene.hang(true);
    scene.fixture.clock.advance(HOUR * 2);
    for _ in 0..3 {
        timeout(SOON, scene.begin()).await.expect("no wait");
    }
    assert_eq!(fetched(), 2);
}
