//! The settings of a sign-on provider.

use crate::roles::Membership;
use crate::secret::secret_text;
use domain::NetworkId;
use thiserror::Error;
use url::Url;

secret_text! {
    /// The secret of this program at the provider.
    pub struct ClientSecret
}

/// A provider, and what its users become here.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// The issuer: exactly the text in its metadata and tokens.
    pub issuer: String,
    /// This program's id at the provider.
    pub client_id: String,
    /// This program's secret; `None` for a public client.
    pub client_secret: Option<ClientSecret>,
    /// The URL at which this program receives the provider's redirects.
    pub redirect_uri: String,
    /// Scopes to request besides `openid`.
    pub scopes: Vec<String>,
    /// The claim with the user's groups.
    pub groups_claim: String,
    /// Groups and their memberships; the first one that the user is in decides.
    pub roles: Vec<RoleRule>,
    /// What users without any of these groups become.
    pub unmapped: Unmapped,
    /// This program's name in the audience of access tokens.
    pub audience: String,
    /// The scope of an access token that stands for all of the role's. Other tokens have the scopes that they name.
    pub full_access_scope: String,
}

/// The membership of a group's users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRule {
    /// The group.
    pub group: String,
    /// Their membership.
    pub membership: Membership,
}

/// What users without a group of the rules become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmapped {
    /// They can't sign on.
    Refuse,
    /// Affiliates of a network, without an affiliate's objects until they have applied.
    Affiliate(NetworkId),
}

/// Settings that no provider can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {message}")]
pub struct InvalidProviderSettings {
    /// The field.
    pub field: &'static str,
    /// What would be right.
    pub message: &'static str,
}

impl ProviderSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidProviderSettings> {
        let invalid = |field, message| Err(InvalidProviderSettings { field, message });
        let issuer = secure_url(&self.issuer);
        if issuer.is_none_or(|url| url.query().is_some() || url.fragment().is_some()) {
            let message =
                "an issuer is an https URL without query and fragment (http only for this machine)";
            return invalid("issuer", message);
        }
        if secure_url(&self.redirect_uri).is_none_or(|url| url.fragment().is_some()) {
            let message =
                "the redirect URI is an https URL without a fragment (http only for this machine)";
            return invalid("redirect_uri", message);
        }
        let required = [
            ("client_id", &self.client_id),
            ("audience", &self.audience),
            ("groups_claim", &self.groups_claim),
        ];
        match required.into_iter().find(|(_, text)| text.is_empty()) {
            Some((field, _)) => invalid(field, "must not be empty"),
            None if self.audience == self.client_id => {
                // An ID token's audience is the client's id: it must not be accepted as an access token.
                invalid("audience", "must differ from client_id")
            }
            None => Ok(()),
        }
    }
}

/// A URL that tokens may be sent to or fetched from: https, or http on this machine.
pub(super) fn secure_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let is_secure = match url.scheme() {
        "https" => true,
        "http" => daemon::hosts::is_loopback(host),
        _ => false,
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    (is_secure && !has_user).then_some(url)
}
