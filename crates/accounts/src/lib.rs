//! Users, API keys, sessions, roles and sign-on: the user that a request comes from, and what it may do.
//!
//! A program opens [`Accounts`], gets a [`Principal`] from a session, an API key or an access token, and asks
//! [`roles::authorize`] before it touches an object. HTTP (cookies, headers, status codes) is the program's part.
//!
//! Invariant: only hashes of passwords, keys, session secrets and one-time tokens are stored; no `Debug`, log line or
//! error contains a secret or an e-mail address.
#![forbid(unsafe_code)]

mod accounts;
mod api_key;
mod clock;
mod email;
mod error;
mod expiry;
mod fault;
mod ids;
mod keys;
mod one_time;
mod password;
pub mod roles;
mod secret;
mod sessions;
mod settings;
mod setup;
mod sign_in;
pub mod sign_on;
mod throttle;
mod totp;
mod two_factor;
mod used_values;
mod user;
mod user_changes;

pub use accounts::{Accounts, MIGRATIONS};
pub use api_key::ApiKey;
pub use clock::Clock;
pub use email::Email;
pub use error::{AccountsError, Refusal, Result};
pub use ids::{KeyId, NotAnId, SessionId, UserId};
pub use keys::{CreatedKey, KeyInfo, NewKey};
pub use one_time::OneTimeToken;
pub use password::Password;
pub use roles::{Action, Credential, Denied, Membership, ObjectOwner, Principal, Role, Scopes};
pub use secret::{NotSealed, SEALING_KEY_BYTES, SealingKeys};
pub use sessions::{Client, CsrfToken, NewSession, SessionInfo, SessionMethod, SessionToken};
pub use settings::{AccountsSettings, LocalSignIn, ThrottleRule};
pub use setup::FirstAdmin;
pub use sign_in::SignIn;
pub use totp::{TotpCode, TotpSecret};
pub use two_factor::{RecoveryCode, SecondFactor, TotpEnrolment};
pub use user::{User, UserStatus};
pub use user_changes::{Invitation, NewUser};
