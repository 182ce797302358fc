//! Faults of tokens and of the provider. Their texts name rules and claims, never values.

use thiserror::Error;

/// The rule that a token breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenFault {
    /// It is no compact JWS with JSON objects, or too long.
    #[error("it is not a JSON Web Token in compact form of at most 16 KiB")]
    Malformed,
    /// Its algorithm is none of RS256, PS256, ES256 and EdDSA.
    #[error("its algorithm is not accepted; sign with RS256, PS256, ES256 or EdDSA")]
    Algorithm,
    /// It demands an extension.
    #[error("its header names a critical extension")]
    CriticalExtension,
    /// It is a token of another kind.
    #[error("its type is that of another kind of token")]
    Type,
    /// The provider has no such key, or several for a token that names none.
    #[error("the provider's keys do not contain its key")]
    UnknownKey,
    /// The signature is wrong.
    #[error("its signature is wrong")]
    Signature,
    /// Another issuer.
    #[error("its issuer is another one")]
    Issuer,
    /// Another audience, or further ones.
    #[error("its audience is not this program alone")]
    Audience,
    /// Another authorized party.
    #[error("its authorized party is another client")]
    AuthorizedParty,
    /// It has expired.
    #[error("it has expired")]
    Expired,
    /// It is not valid yet.
    #[error("it is not valid yet; compare the clocks")]
    NotYetValid,
    /// It was issued too long ago.
    #[error("it was issued too long ago")]
    TooOld,
    /// It belongs to another sign-on.
    #[error("its nonce is that of another sign-on")]
    Nonce,
    /// Its hash of the access token is wrong.
    #[error("its hash of the access token is wrong")]
    AccessTokenHash,
    /// A claim is missing or has another form.
    #[error("its claim {0} is missing or malformed")]
    Claim(&'static str),
    /// Its sender would have to prove that it holds a key (RFC 7800).
    #[error("it is bound to a key of its sender, which is not supported; issue a bearer token")]
    SenderConstrained,
    /// A logout token without the event, or with a nonce.
    #[error("it is not a logout token")]
    NotALogout,
    /// It was used before.
    #[error("it was used before")]
    Replayed,
    /// Its subject is another user.
    #[error("its subject is another user")]
    Subject,
}

/// Why the provider can't be used now.
#[derive(Debug, Error)]
pub enum ProviderFault {
    /// No usable HTTP response.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// A status other than 200.
    #[error("its {endpoint} responded with status {status}")]
    Status {
        /// The endpoint.
        endpoint: &'static str,
        /// The status.
        status: u16,
    },
    /// A body that is not the expected document.
    #[error("the response of its {0} is not the expected JSON document")]
    Document(&'static str),
    /// Metadata of another issuer.
    #[error("its metadata names another issuer; correct the setting or the provider")]
    Issuer,
    /// An endpoint without TLS.
    #[error("its {0} is not an https URL")]
    Endpoint(&'static str),
    /// It does not support PKCE with S256.
    #[error("its metadata lists methods of PKCE without S256")]
    Pkce,
    /// It publishes no key that can verify tokens. Earlier ones stay in use.
    #[error("its jwks_uri has no usable key for RS256, PS256, ES256 or EdDSA")]
    NoKeys,
    /// Its metadata and keys were requested just now.
    #[error("its metadata and keys were requested less than 30 s ago")]
    RequestedJustNow,
}

/// Why there is no usable response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The connection failed: name, address, TLS or HTTP.
    #[error("it can't be reached")]
    Unreachable,
    /// No complete response in time.
    #[error("it did not respond within 10 s")]
    TimedOut,
    /// The body is too long or broken off.
    #[error("its response is incomplete or longer than 256 KiB")]
    Body,
}
