//! Sign-on with an issuer that others wrote: the npm package oidc-provider, on a real HTTP connection, with a browser's
//! cookies and redirects.
#![allow(missing_docs)]

mod common;

use accounts::sign_on::*;
use accounts::*;
use bytes::Bytes;
use common::issuer::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, FULL_ACCESS, REDIRECT_URI};
use common::*;
use domain::Micros;
use http::{Method, Request, Response, StatusCode, header};
use sql_store::test_server::TestDatabase;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use url::Url;

const PACKAGE: &str = "oidc-provider@9.13.3";

struct Provider {
    issuer: String,
    process: Child,
    /// Node fails when its output is closed.
    _output: std::io::Lines<BufReader<ChildStdout>>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the issuer; `None` without node.
fn start(logout_uri: &str, audience: &str) -> Option<Provider> {
    if Command::new("node").arg("--version").output().is_err() {
        eprintln!("skipped: node is not installed; run: apt-get install nodejs npm");
        return None;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oidc-provider");
    install(&directory);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc_provider/provider.mjs");
    // Modules are found from the script's directory upwards.
    let copy = directory.join("provider.mjs");
    std::fs::copy(script, &copy).expect("copied");
    let mut node = Command::new("node");
    node.arg(copy)
        .args([REDIRECT_URI, logout_uri, CLIENT_SECRET, audience]);
    let spawned = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut process = spawned.expect("node starts");
    let output = process.stdout.take().expect("a pipe");
    // Warnings come first.
    let mut output = BufReader::new(output).lines();
    let mut lines = output.by_ref().map_while(Result::ok);
    let issuer = lines.find(|line| line.starts_with("http://"));
    let issuer = issuer.expect("oidc-provider did not start");
    Some(Provider {
        issuer,
        process,
        _output: output,
    })
}

/// Two tests may install at the same time: each into a directory of its own, which is renamed.
fn install(directory: &Path) {
    if directory.join("node_modules").exists() {
        return;
    }
    let parent = directory.parent().expect("a parent");
    std::fs::create_dir_all(parent).expect("created");
    let temporary = tempfile::tempdir_in(parent).expect("created");
    let mut npm = Command::new("npm");
    npm.args([
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        PACKAGE,
        "--prefix",
    ]);
    let installed = npm
        .arg(temporary.path())
        .output()
        .expect("npm is needed beside node");
    assert!(
        installed.status.success(),
        "{}",
        String::from_utf8_lossy(&installed.stderr)
    );
    if std::fs::rename(temporary.path(), directory).is_err() {
        assert!(
            directory.join("node_modules").exists(),
            "failed to rename the packages"
        );
    }
}

/// What a browser does: cookies and redirects.
struct Browser {
    http: HyperClient,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new() -> Self {
        let http = HyperClient::new(rustls::RootCertStore::empty());
        let cookies = BTreeMap::new();
        Self { http, cookies }
    }

    async fn send(&mut self, method: Method, url: &Url, body: String) -> Response<Bytes> {
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(header::COOKIE, cookies.join("; "))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(body));
        let response = self
            .http
            .send(request.expect("a request"))
            .await
            .expect("a response");
        for set in response.headers().get_all(header::SET_COOKIE) {
            let pair = set
                .to_str()
                .expect("text")
                .split(';')
                .next()
                .expect("a pair");
            let (name, value) = pair.split_once('=').expect("a pair");
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        response
    }

    /// Follows redirects until one leads to `target`, and returns its URL.
    async fn follow(&mut self, start: &str, target: &str) -> Url {
        let mut url = Url::parse(start).expect("a URL");
        for _ in 0..10 {
            let response = self.send(Method::GET, &url, String::new()).await;
            let location = response.headers().get(header::LOCATION);
            let location = location.unwrap_or_else(|| panic!("{url}: {response:?}"));
            url = url.join(location.to_str().expect("text")).expect("a URL");
            if url.as_str().starts_with(target) {
                return url;
            }
        }
        panic!("too many redirects");
    }
}

fn settings(provider: &Provider) -> ProviderSettings {
    ProviderSettings {
        issuer: provider.issuer.clone(),
        client_id: CLIENT_ID.to_owned(),
        client_secret: Some(ClientSecret::new(CLIENT_SECRET)),
        redirect_uri: REDIRECT_URI.to_owned(),
        scopes: vec![
            "email".to_owned(),
            "groups".to_owned(),
            FULL_ACCESS.to_owned(),
        ],
        groups_claim: "groups".to_owned(),
        roles: vec![RoleRule {
            group: "managers".to_owned(),
            membership: MANAGER,
        }],
        unmapped: Unmapped::Refuse,
        audience: AUDIENCE.to_owned(),
        full_access_scope: FULL_ACCESS.to_owned(),
    }
}

/// Remembers the last access token, which the client under test keeps to itself.
#[derive(Debug, Clone)]
struct Recorder(HyperClient, Arc<Mutex<String>>);

#[async_trait::async_trait]
impl HttpClient for Recorder {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.0.send(request).await?;
        let body: Option<serde_json::Value> = serde_json::from_slice(response.body()).ok();
        if let Some(token) = body
            .as_ref()
            .and_then(|body| body.get("access_token")?.as_str())
        {
            *self.1.lock().expect("no panic") = token.to_owned();
        }
        Ok(response)
    }
}

struct Entered {
    accounts: Accounts,
    sign_on: SignOn,
    browser: Browser,
    signed_on: SignedOn,
    access_token: String,
    callback: Callback,
    cookie: SignOnCookie,
}

async fn enter(provider: &Provider, database: &TestDatabase) -> Entered {
    let keys = SealingKeys::new(&[7; SEALING_KEY_BYTES], &[]);
    let (settings_of_accounts, clock) = (AccountsSettings::default(), Clock::system());
    let location = database.location();
    let opened = Accounts::open(&location, ACCESS, keys, settings_of_accounts, clock);
    let accounts = opened.await.expect("opened");
    let token = Arc::new(Mutex::new(String::new()));
    let http = Recorder(
        HyperClient::new(rustls::RootCertStore::empty()),
        Arc::clone(&token),
    );
    let sign_on = SignOn::new(accounts.clone(), settings(provider), Arc::new(http));
    let sign_on = sign_on.expect("settings");
    let begun = sign_on
        .begin(ReturnPath::parse("/links").expect("a path"))
        .await
        .expect("begun");
    let mut browser = Browser::new();
    let redirected = browser.follow(begun.url(), REDIRECT_URI).await;
    let callback = Callback::parse(redirected.query().expect("a query")).expect("parameters");
    let signed_on = sign_on
        .finish(&callback, &begun.cookie, &client(), None)
        .await
        .expect("signed on");
    let access_token = token.lock().expect("no panic").clone();
    Entered {
        callback,
        cookie: begun.cookie,
        accounts,
        sign_on,
        browser,
        signed_on,
        access_token,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn oidc_provider_signs_on_with_user_information() {
    let Some(provider) = start("http://127.0.0.1:1/", "") else {
        return;
    };
    let database = TestDatabase::sqlite();
    let entered = enter(&provider, &database).await;
    let user = &entered.signed_on.session.user;
    assert_eq!(user.membership, MANAGER);
    assert_eq!(user.email, Some(email("alice@example.com")));
    assert_eq!(
        entered.signed_on.events,
        [AccountEvent::UserRegistered {
            user: user.id.clone()
        }]
    );
    // The issuer accepts a code once.
    let (callback, cookie) = (&entered.callback, &entered.cookie);
    let replayed = entered
        .sign_on
        .finish(callback, cookie, &client(), None)
        .await;
    assert_eq!(refusal(replayed), Some(Refusal::InvalidSignOn));
    // Its access token is opaque and no credential here.
    let token = AccessToken::new(entered.access_token);
    let refused = entered.sign_on.authenticate_access_token(&token).await;
    assert!(
        matches!(refused, Err(AccountsError::Token(TokenFault::Malformed))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn oidc_provider_issues_access_tokens_and_logs_out() {
    let (sender, mut logouts) = tokio::sync::mpsc::unbounded_channel();
    let receiver = http_server::start(move |request| {
        sender.send(request.body).expect("the test waits");
        http_server::response(200, String::new())
    });
    let Some(provider) = start(&receiver.await, AUDIENCE) else {
        return;
    };
    let database = TestDatabase::sqlite();
    let mut entered = enter(&provider, &database).await;
    let session = &entered.signed_on.session;
    let token = AccessToken::new(entered.access_token.as_str());
    let principal = entered
        .sign_on
        .validate(&token, &session.user.id)
        .await
        .expect("valid");
    assert_eq!(principal.scopes, Scopes::of_role(Role::Manager));

    let end = Url::parse(&format!("{}/session/end", provider.issuer)).expect("a URL");
    let page = entered.browser.send(Method::GET, &end, String::new()).await;
    let page = String::from_utf8_lossy(page.body()).into_owned();
    let xsrf = page.split("name=\"xsrf\" value=\"").nth(1).expect(&page);
    let xsrf = xsrf.split('"').next().expect("a value");
    let confirm = end.join("/session/end/confirm").expect("a URL");
    let form = format!("xsrf={xsrf}&logout=yes");
    let confirmed = entered.browser.send(Method::POST, &confirm, form).await;
    assert_eq!(confirmed.status(), StatusCode::SEE_OTHER, "{confirmed:?}");
    let body = tokio::time::timeout(MINUTE, logouts.recv()).await;
    let body = body.expect("in time").expect("a request of the provider");
    let logout_token = body.strip_prefix("logout_token=").expect(&body);
    assert!(
        entered
            .accounts
            .authenticate_session(&session.token)
            .await
            .is_ok()
    );
    assert_eq!(
        entered
            .sign_on
            .back_channel_logout(logout_token)
            .await
            .expect("valid"),
        1
    );
    let ended = entered.accounts.authenticate_session(&session.token).await;
    assert_eq!(refusal(ended), Some(Refusal::InvalidSession));
    assert!(session.expires > Micros::now());
}
