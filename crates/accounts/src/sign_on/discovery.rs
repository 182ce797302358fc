//! The provider's metadata (OpenID Connect Discovery 1.0, RFC 8414).

use super::settings::secure_url;
use crate::fault::ProviderFault;
use serde::Deserialize;
use url::Url;

/// The metadata that the sign-on uses.
#[derive(Clone)]
pub(super) struct Metadata {
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    pub(super) jwks_uri: Url,
    pub(super) userinfo_endpoint: Option<Url>,
    /// Whether each response to an authorization request names the issuer (RFC 9207).
    pub(super) names_issuer: bool,
    pub(super) client_authentication: ClientAuthentication,
}

/// How the client's secret is sent to the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientAuthentication {
    /// In the header `Authorization`; the default.
    Basic,
    /// In the form.
    Post,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
}

/// The URL of an issuer's metadata.
pub(super) fn metadata_url(issuer: &str) -> String {
    format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    )
}

impl Metadata {
    pub(super) fn parse(issuer: &str, body: &[u8]) -> Result<Self, ProviderFault> {
        let document: Document =
            serde_json::from_slice(body).map_err(|_| ProviderFault::Document("metadata"))?;
        if document.issuer != issuer {
            return Err(ProviderFault::Issuer);
        }
        let methods = document.code_challenge_methods_supported;
        if methods.is_some_and(|methods| !methods.iter().any(|method| method == "S256")) {
            return Err(ProviderFault::Pkce);
        }
        let endpoint = |name, text: &str| secure_url(text).ok_or(ProviderFault::Endpoint(name));
        let userinfo = document.userinfo_endpoint.as_deref();
        Ok(Self {
            authorization_endpoint: endpoint(
                "authorization_endpoint",
                &document.authorization_endpoint,
            )?,
            token_endpoint: endpoint("token_endpoint", &document.token_endpoint)?,
            jwks_uri: endpoint("jwks_uri", &document.jwks_uri)?,
            userinfo_endpoint: userinfo
                .map(|text| endpoint("userinfo_endpoint", text))
                .transpose()?,
            names_issuer: document.authorization_response_iss_parameter_supported,
            client_authentication: authentication(document.token_endpoint_auth_methods_supported),
        })
    }
}

fn authentication(supported: Option<Vec<String>>) -> ClientAuthentication {
    let supported = supported.unwrap_or_default();
    let has = |method: &str| supported.iter().any(|it| it == method);
    if has("client_secret_post") && !has("client_secret_basic") {
        ClientAuthentication::Post
    } else {
        ClientAuthentication::Basic
    }
}
