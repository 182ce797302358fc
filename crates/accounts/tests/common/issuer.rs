//! An OpenID Connect provider of the test's own: an HTTP server with its own keys, which signs anything.

use super::http_server::{self, Received};
use accounts::Membership;
use accounts::sign_on::{ClientSecret, ProviderSettings, RoleRule, Unmapped};
use data_encoding::BASE64URL_NOPAD;
use domain::NetworkId;
use http::Response;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use ring::{digest, hmac, rsa};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use url::Url;
use url::form_urlencoded::parse;

pub(crate) const CLIENT_ID: &str = "fanzfiliate";
pub(crate) const CLIENT_SECRET: &str = "a secret: with/special%characters";
pub(crate) const REDIRECT_URI: &str = "https://console.example.com/sign-on/callback";
pub(crate) const AUDIENCE: &str = "https://api.example.com";
pub(crate) const FULL_ACCESS: &str = "fanzfiliate";

/// Private keys, made once for all tests of a process.
pub(crate) struct Keys {
    rsa: RsaKeyPair,
    foreign_rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let random = SystemRandom::new();
    let ec = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let ec_key = EcdsaKeyPair::generate_pkcs8(ec, &random).expect("a key");
    let ed_key = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
    Keys {
        rsa: rsa_key(),
        foreign_rsa: rsa_key(),
        ec: EcdsaKeyPair::from_pkcs8(ec, ec_key.as_ref(), &random).expect("a key"),
        ed: Ed25519KeyPair::from_pkcs8(ed_key.as_ref()).expect("a key"),
    }
});

/// `ring` makes no RSA keys.
fn rsa_key() -> RsaKeyPair {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
    ]);
    let made = openssl.args(["-outform", "DER"]).output();
    let made = made.expect("openssl is needed and not installed; run: apt-get install openssl");
    // Versions of openssl differ: PKCS#8 or PKCS#1.
    let der = made.stdout;
    RsaKeyPair::from_pkcs8(&der)
        .or_else(|_| RsaKeyPair::from_der(&der))
        .expect("a key")
}

/// How a token is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signing {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
    /// With a key that the provider does not have.
    Foreign,
    /// With the public RSA key as the secret of an HMAC.
    HmacOfPublicKey,
    /// Not at all.
    Nothing,
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

/// A token with this header and these claims.
pub(crate) fn sign(signing: Signing, header: &Value, claims: &Value) -> String {
    let signed = format!(
        "{}.{}",
        base64(header.to_string()),
        base64(claims.to_string())
    );
    let signature = signature(signing, signed.as_bytes());
    format!("{signed}.{}", base64(signature))
}

fn signature(signing: Signing, message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let rsa = |key: &RsaKeyPair, padding| {
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(padding, &random, message, &mut signature)
            .expect("signed");
        signature
    };
    match signing {
        Signing::Rs256 => rsa(&KEYS.rsa, &RSA_PKCS1_SHA256),
        Signing::Ps256 => rsa(&KEYS.rsa, &RSA_PSS_SHA256),
        Signing::Foreign => rsa(&KEYS.foreign_rsa, &RSA_PKCS1_SHA256),
        Signing::Es256 => KEYS
            .ec
            .sign(&random, message)
            .expect("signed")
            .as_ref()
            .to_vec(),
        Signing::EdDsa => KEYS.ed.sign(message).as_ref().to_vec(),
        Signing::HmacOfPublicKey => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, KEYS.rsa.public().as_ref());
            hmac::sign(&key, message).as_ref().to_vec()
        }
        Signing::Nothing => Vec::new(),
    }
}

fn rsa_jwk(key: &RsaKeyPair, kid: &str) -> Value {
    let parts: rsa::PublicKeyComponents<Vec<u8>> = key.public().into();
    json!({ "kty": "RSA", "kid": kid, "n": base64(parts.n), "e": base64(parts.e) })
}

pub(crate) fn foreign_jwk(kid: &str) -> Value {
    rsa_jwk(&KEYS.foreign_rsa, kid)
}

/// The set that the provider publishes: usable keys, and others that must be ignored.
pub(crate) fn jwks() -> Vec<Value> {
    let point = KEYS.ec.public_key().as_ref();
    let mut encryption = foreign_jwk("encryption");
    encryption["use"] = "enc".into();
    let mut only_rs256 = rsa_jwk(&KEYS.rsa, "only-rs256");
    only_rs256["alg"] = "RS256".into();
    vec![
        rsa_jwk(&KEYS.rsa, "rsa"),
        only_rs256,
        encryption,
        json!({ "kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig",
                "x": base64(&point[1..33]), "y": base64(&point[33..]) }),
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA",
                "x": base64(KEYS.ed.public_key()) }),
        json!({ "kty": "oct", "kid": "secret", "k": base64([1; 32]) }),
        json!({ "kty": "EC", "crv": "P-521", "kid": "unknown curve", "x": "AA", "y": "AA" }),
        json!({ "kty": 7 }),
        json!("no key"),
    ]
}

/// A code that the provider gave out.
struct Grant {
    challenge: String,
    response: Value,
}

#[derive(Default)]
pub(crate) struct State {
    /// Members of the metadata that replace the right ones.
    pub(crate) metadata: Map<String, Value>,
    pub(crate) keys: Vec<Value>,
    pub(crate) user_information: Value,
    /// Responses with this status and body instead of the right ones, by path.
    pub(crate) broken: HashMap<String, (u16, String)>,
    /// Paths of all requests.
    pub(crate) requests: Vec<String>,
    grants: HashMap<String, Grant>,
}

/// The running provider.
pub(crate) struct Issuer {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let keys = jwks();
        let state = Arc::new(Mutex::new(State {
            keys,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let url = http_server::start(move |request| respond(&shared, request)).await;
        Self { url, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    pub(crate) fn requests_to(&self, path: &str) -> usize {
        self.state()
            .requests
            .iter()
            .filter(|it| *it == path)
            .count()
    }

    pub(crate) fn settings(&self) -> ProviderSettings {
        ProviderSettings {
            issuer: self.url.clone(),
            client_id: CLIENT_ID.to_owned(),
            client_secret: Some(ClientSecret::new(CLIENT_SECRET)),
            redirect_uri: REDIRECT_URI.to_owned(),
            scopes: vec!["email".to_owned(), "groups".to_owned()],
            groups_claim: "groups".to_owned(),
            roles: vec![
                RoleRule {
                    group: "admins".to_owned(),
                    membership: Membership::Admin,
                },
                RoleRule {
                    group: "managers".to_owned(),
                    membership: super::MANAGER,
                },
            ],
            unmapped: Unmapped::Affiliate(NetworkId(1)),
            audience: AUDIENCE.to_owned(),
            full_access_scope: FULL_ACCESS.to_owned(),
        }
    }

    /// Gives a code for an authorization request out, for this response of the token endpoint.
    pub(crate) fn grant(&self, url: &str, code: &str, response: Value) {
        let challenge = parameter(url, "code_challenge");
        assert_eq!(parameter(url, "code_challenge_method"), "S256");
        let grant = Grant {
            challenge,
            response,
        };
        self.state().grants.insert(code.to_owned(), grant);
    }
}

/// A parameter of an authorization request.
pub(crate) fn parameter(url: &str, name: &str) -> String {
    let url = Url::parse(url).expect("a URL");
    let found = url.query_pairs().find(|(key, _)| key == name);
    found
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

fn respond(state: &Mutex<State>, request: Received) -> Response<String> {
    let mut state = state.lock().expect("no panic");
    state.requests.push(request.path.clone());
    if let Some((status, body)) = state.broken.get(&request.path) {
        let location = "http://127.0.0.1:1/";
        let response = Response::builder()
            .status(*status)
            .header("location", location);
        return response.body(body.clone()).expect("a response");
    }
    let origin = format!("http://{}", request.host);
    let body = match request.path.as_str() {
        "/.well-known/openid-configuration" => metadata(&origin, &state.metadata),
        "/jwks" => json!({ "keys": state.keys }),
        "/token" => return token(&state, &request),
        "/userinfo" => state.user_information.clone(),
        _ => return http_server::response(404, String::new()),
    };
    http_server::response(200, body.to_string())
}

fn metadata(origin: &str, replaced: &Map<String, Value>) -> Value {
    let mut metadata = json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize?tenant=1"),
        "token_endpoint": format!("{origin}/token"),
        "jwks_uri": format!("{origin}/jwks"),
        "userinfo_endpoint": format!("{origin}/userinfo"),
        "authorization_response_iss_parameter_supported": true,
        "code_challenge_methods_supported": ["plain", "S256"],
    });
    let object = metadata.as_object_mut().expect("an object");
    object.extend(replaced.clone());
    metadata
}

/// The token endpoint: the client's secret, the redirect URI and the verifier must be right. A code works repeatedly.
fn token(state: &State, request: &Received) -> Response<String> {
    let form: HashMap<_, _> = parse(request.body.as_bytes()).into_owned().collect();
    let of = |name: &str| form.get(name).map_or("", String::as_str);
    let digest = digest::digest(&digest::SHA256, of("code_verifier").as_bytes());
    let grant = state.grants.get(of("code"));
    let expected = "Basic ZmFuemZpbGlhdGU6YStzZWNyZXQlM0Erd2l0aCUyRnNwZWNpYWwlMjVjaGFyYWN0ZXJz";
    let is_right = grant.is_some_and(|grant| grant.challenge == base64(digest))
        && of("grant_type") == "authorization_code"
        && of("redirect_uri") == REDIRECT_URI
        && request.authorization == expected;
    match grant.filter(|_| is_right) {
        Some(grant) => http_server::response(200, grant.response.to_string()),
        None => http_server::response(400, json!({ "error": "invalid_grant" }).to_string()),
    }
}
