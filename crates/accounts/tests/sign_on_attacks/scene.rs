//! Accounts and two providers, and the run of an attempt against them.

use crate::attempt::*;
use crate::common::issuer::*;
use crate::common::*;
use accounts::sign_on::*;
use serde_json::json;
use sql_store::test_server::TestDatabase;
use std::sync::Arc;
use url::form_urlencoded::Serializer;

pub(crate) struct Scene {
    pub(crate) fixture: Fixture,
    pub(crate) issuer: Issuer,
    pub(crate) sign_on: SignOn,
    pub(crate) other_provider: SignOn,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let fixture = Fixture::new(TestDatabase::sqlite()).await;
        let (issuer, other) = (Issuer::start().await, Issuer::start().await);
        issuer.state().user_information = json!({ "sub": "mallory", "groups": ["admins"] });
        let sign_on = |issuer: &Issuer| {
            let http = Arc::new(HyperClient::new(rustls::RootCertStore::empty()));
            SignOn::new(fixture.accounts.clone(), issuer.settings(), http).expect("settings")
        };
        Self {
            sign_on: sign_on(&issuer),
            other_provider: sign_on(&other),
            fixture,
            issuer,
        }
    }

    pub(crate) async fn begin(&self) -> SignOnRequest {
        let page = ReturnPath::parse("/links").expect("a path");
        self.sign_on.begin(page).await.expect("begun")
    }

    /// Runs an attempt that `alter` has changed.
    pub(crate) async fn run(&self, kind: Kind, alter: fn(&mut Attempt)) -> accounts::Result<()> {
        let mut attempt = attempt(kind, &self.issuer, &self.fixture.clock);
        if kind == Kind::SignOn {
            return self.run_sign_on(attempt, alter).await;
        }
        alter(&mut attempt);
        let token = sign(attempt.signing, &attempt.header, &attempt.claims);
        let token = (attempt.alter_text)(token);
        match kind {
            Kind::Logout => self.sign_on.back_channel_logout(&token).await.map(drop),
            _ => {
                let token = AccessToken::new(token);
                self.sign_on
                    .authenticate_access_token(&token)
                    .await
                    .map(drop)
            }
        }
    }

    pub(crate) async fn run_sign_on(
        &self,
        mut attempt: Attempt,
        alter: fn(&mut Attempt),
    ) -> accounts::Result<()> {
        let (begun, another) = (self.begin().await, self.begin().await);
        attempt.claims["nonce"] = parameter(begun.url(), "nonce").into();
        attempt.claims["groups"] = json!(["managers"]);
        attempt.claims["email"] = "alice@example.com".into();
        attempt.query = vec![
            ("code", "code-1".to_owned()),
            ("state", parameter(begun.url(), "state")),
            ("iss", self.issuer.url.clone()),
        ];
        alter(&mut attempt);
        let token = sign(attempt.signing, &attempt.header, &attempt.claims);
        let mut response = attempt.response.clone();
        if response.get("id_token").is_none() {
            response["id_token"] = (attempt.alter_text)(token).into();
        }
        let granted = if attempt.other_verifier {
            another.url()
        } else {
            begun.url()
        };
        self.issuer.grant(granted, "code-1", response);
        self.fixture.clock.advance(attempt.delay);
        let mut query = Serializer::new(String::new());
        query.extend_pairs(&attempt.query);
        let callback = Callback::parse(&query.finish())?;
        let cookie = match attempt.cookie {
            Cookie::Own => begun.cookie,
            Cookie::OfAnotherBrowser => another.cookie,
            Cookie::OfAnotherProvider => {
                let page = ReturnPath::parse("/").expect("a path");
                self.other_provider.begin(page).await.expect("begun").cookie
            }
            Cookie::Altered => {
                let mut bytes = begun.cookie.expose().as_bytes().to_vec();
                bytes[40] = if bytes[40] == b'A' { b'B' } else { b'A' };
                SignOnCookie::new(String::from_utf8(bytes).expect("ASCII"))
            }
            Cookie::Missing => SignOnCookie::new(""),
        };
        if attempt.replayed {
            let first = self
                .sign_on
                .finish(&callback, &cookie, &client(), None)
                .await?;
            self.fixture.sign_out(&first.session.token).await?;
        }
        self.sign_on
            .finish(&callback, &cookie, &client(), None)
            .await
            .map(drop)
    }

    /// What attacks must not change.
    pub(crate) async fn rows(&self) -> [usize; 3] {
        [
            self.fixture
                .column("SELECT id FROM accounts_sessions")
                .await
                .len(),
            self.fixture
                .column("SELECT id FROM accounts_users")
                .await
                .len(),
            self.fixture
                .column("SELECT subject FROM accounts_identities")
                .await
                .len(),
        ]
    }
}
