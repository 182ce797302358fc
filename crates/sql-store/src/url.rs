//! The checks of PostgreSQL's URL: known parameters only, and no plain text over a network unless it is allowed.

use daemon::files::{PrivateFileError, require_private};
use daemon::hosts::is_loopback;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::path::Path;
use std::str::FromStr as _;
use thiserror::Error;

/// The parameters that sqlx knows. It logs any other one with its value, which may be a misspelled password.
const PARAMETERS: [&str; 11] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
];

/// Parameters that name a file, or hold its text.
const FILES: [&str; 3] = ["sslcert", "sslkey", "sslrootcert"];

/// A URL that can't be used. It may hold a password, so no text contains it.
#[derive(Debug, Error)]
pub enum UrlError {
    /// It is not PostgreSQL's.
    #[error(
        "[store] url must be postgres://user:password@host:port/database, or be left out for SQLite"
    )]
    Malformed,
    /// It has a parameter that is not known.
    #[error("[store] url has an unknown parameter; known are {}", PARAMETERS.join(", "))]
    Parameter,
    /// Other hosts on the network could read and change the traffic.
    #[error(
        "[store] url leads to another machine without a checked certificate: add \
         ?sslmode=verify-full (and &sslrootcert=FILE for an authority of your own), or set \
         store.allow_plaintext = true if the network is trusted"
    )]
    Plaintext,
    /// The key of the client's certificate can be read by others, or not at all.
    #[error("[store] url: sslkey: {0}")]
    Key(#[from] PrivateFileError),
}

/// Whether the URL holds a password.
#[must_use]
pub fn has_password(url: &str) -> bool {
    let (main, query) = url.split_once('?').unwrap_or((url, ""));
    let (_, main) = main.split_once("://").unwrap_or(("", main));
    let user = main.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || query.split('&').any(|pair| pair.starts_with("password="))
}

/// The URL with a password for its user.
#[must_use]
pub fn with_password(url: &str, password: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
    format!("{url}{separator}password={password}")
}

/// The URL with the relative paths of its files resolved against `directory`.
#[must_use]
pub fn resolve_files(url: &str, directory: &Path) -> String {
    let Some((main, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, value)) if FILES.contains(&key) => {
            format!("{key}={}", resolved(value, directory))
        }
        _ => pair.to_owned(),
    });
    format!("{main}?{}", pairs.collect::<Vec<_>>().join("&"))
}

fn resolved(value: &str, directory: &Path) -> String {
    let path = percent_decode_str(value).decode_utf8_lossy();
    if path.is_empty() || path.starts_with("-----BEGIN") {
        return value.to_owned();
    }
    let path = directory.join(&*path);
    utf8_percent_encode(&path.to_string_lossy(), NON_ALPHANUMERIC).to_string()
}

/// Checks a URL without connecting.
///
/// # Errors
/// When it can't be used, or leads over a network in plain text and `allow_plaintext` is false.
pub fn check(url: &str, allow_plaintext: bool) -> Result<(), UrlError> {
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|it| url.starts_with(it))
    {
        return Err(UrlError::Malformed);
    }
    let (_, query) = url.split_once('?').unwrap_or((url, ""));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(UrlError::Parameter)?;
        if !PARAMETERS.contains(&key) {
            return Err(UrlError::Parameter);
        }
        if key == "sslkey" {
            let path = percent_decode_str(value).decode_utf8_lossy();
            require_private(Path::new(&*path))?;
        }
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| UrlError::Malformed)?;
    // `require` accepts any certificate, and `verify-ca` that of any server of the authority.
    let is_checked = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull);
    if is_checked || allow_plaintext || is_local(&options) {
        Ok(())
    } else {
        Err(UrlError::Plaintext)
    }
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some() || host.starts_with('/') || is_loopback(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_needs_a_checked_certificate() {
        for url in [
            "postgres://me:hush@127.0.0.1/db",
            "postgres://me@[::1]:5432/db",
            "postgres://me@localhost/db?host=/run/postgresql",
            "postgres://me:hush@db.example/db?sslmode=verify-full",
        ] {
            assert!(check(url, false).is_ok(), "{url}");
        }
        for mode in [
            "",
            "?sslmode=disable",
            "?sslmode=prefer",
            "?sslmode=require",
            "?sslmode=verify-ca",
        ] {
            let url = format!("postgres://me:hush@db.example/db{mode}");
            let error = check(&url, false).expect_err("plain text").to_string();
            assert!(
                error.contains("store.allow_plaintext") && !error.contains("hush"),
                "{error}"
            );
            assert!(check(&url, true).is_ok(), "{url}");
        }
    }

    #[test]
    fn unknown_parameters_are_refused_without_their_value() {
        let error = check("postgres://me@localhost/db?passwrod=hush", false);
        let error = error.expect_err("unknown").to_string();
        assert!(
            error.contains("unknown parameter") && !error.contains("hush"),
            "{error}"
        );
    }

    #[test]
    fn files_in_urls_start_from_the_settings_directory() {
        let dir = Path::new("/etc/fanz");
        for (url, expected) in [
            ("postgres://db/x", "postgres://db/x"),
            (
                "postgres://db/x?sslmode=verify-full",
                "postgres://db/x?sslmode=verify-full",
            ),
            (
                "postgres://db/x?sslrootcert=pg%2Fca.pem&sslmode=verify-full",
                "postgres://db/x?sslrootcert=%2Fetc%2Ffanz%2Fpg%2Fca%2Epem&sslmode=verify-full",
            ),
            ("postgres://db/x?sslkey=/k", "postgres://db/x?sslkey=%2Fk"),
            (
                "postgres://db/x?sslcert=-----BEGIN%20CERTIFICATE",
                "postgres://db/x?sslcert=-----BEGIN%20CERTIFICATE",
            ),
        ] {
            assert_eq!(resolve_files(url, dir), expected);
        }
    }

    #[test]
    fn password_is_added_in_full() {
        for url in [
            "postgres://me@localhost/db",
            "postgres://me@localhost/db?sslmode=disable",
        ] {
            let url = with_password(url, "h&s#=:/@ 'ü");
            assert!(has_password(&url) && check(&url, false).is_ok(), "{url}");
            let options = PgConnectOptions::from_str(&url).expect("a URL");
            assert!(
                format!("{options:?}").contains("h&s#=:/@ 'ü"),
                "{options:?}"
            );
        }
    }

    #[test]
    fn passwords_in_urls_are_found() {
        assert!(has_password("postgres://me:hush@db/x"));
        assert!(has_password(
            "postgres://me@db/x?sslmode=require&password=hush"
        ));
        assert!(!has_password(
            "postgres://me@db:5432/x?host=/run/postgresql"
        ));
        assert!(!has_password("postgres://db:5432/x"));
    }
}
