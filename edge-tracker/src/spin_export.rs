//! Exports the files for functions under Spin: a runtime configuration with their variables, and the SQLite file of
//! their key-value stores.
//!
//! Spin keeps its connection to that file, so the file is changed in place, in one transaction: calls see the entries
//! before or after it. Spin reads variables at its start.

use crate::functions::token::{self, TokensError};
use crate::functions::{self, AdvertisersError, VariablesError, advertisers, variables};
use crate::links::{self, Table};
use crate::secrets::{self, SecretsError};
use crate::settings::{InternalApiSettings, Settings};
use daemon::private;
use daemon::settings::SettingsError;
use http::Uri;
use serde::Serialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};
use thiserror::Error;

/// The runtime configuration in the directory of an export.
const CONFIGURATION_FILE: &str = "runtime-config.toml";
/// The key-value stores in that directory.
const STORES_FILE: &str = "key-value.db";
/// How long the export waits while Spin reads.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The target of an export, and inputs that differ from the settings.
#[derive(Debug)]
pub struct Options {
    /// The output directory; created when absent.
    pub to: PathBuf,
    /// `http://HOST:PORT` at which Spin's host reaches the internal API. Default: `internal_api.listen`.
    pub tracker_url: Option<String>,
    /// Default: `functions.advertisers`.
    pub advertisers: Option<PathBuf>,
    /// Default: `functions.variables`.
    pub variables: Option<PathBuf>,
}

/// The result of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSummary {
    /// The runtime configuration.
    pub configuration: PathBuf,
    /// Entries of the store of advertisers.
    pub advertisers: usize,
    /// Entries of the store of links.
    pub links: usize,
}

/// Why an export failed. An earlier export is kept.
#[derive(Debug, Error)]
pub enum ExportError {
    /// Functions under Spin would have no API to report to.
    #[error(
        "the settings have no [internal_api]: functions under Spin report to internal_api.listen"
    )]
    NoInternalApi,
    /// Functions under Spin get the offers of links once, from their file.
    #[error("links.source is \"control_plane\": functions under Spin need a links file")]
    NoLinksFile,
    /// `internal_api.listen` is no address to connect to.
    #[error("internal_api.listen = \"{0}\" is no address to connect to: name one by --tracker-url")]
    NoAddress(std::net::SocketAddr),
    /// `--tracker-url` is wrong.
    #[error(
        "--tracker-url {0}: http://HOST:PORT or https://HOST[:PORT] is expected, without a path"
    )]
    TrackerUrl(String),
    /// The edge has not created its token yet.
    #[error("{} does not exist: the next start of an edge with [internal_api] creates it", .0.display())]
    NoToken(PathBuf),
    /// No advertisers are named.
    #[error("no advertisers: name their file by functions.advertisers or --advertisers")]
    NoAdvertisers,
    /// The advertisers file.
    #[error(transparent)]
    Advertisers(#[from] AdvertisersError),
    /// The file of variables.
    #[error(transparent)]
    Variables(#[from] VariablesError),
    /// The links file.
    #[error(transparent)]
    Links(#[from] SettingsError),
    /// The click id keys.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The token.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// A file can't be written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file of the stores can't be written.
    #[error("{}: {cause}", path.display())]
    Stores {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: sqlx::Error,
    },
}

type Entries = BTreeMap<String, Vec<u8>>;

#[derive(Serialize)]
struct Configuration<'a> {
    key_value_store: BTreeMap<&'a str, Store<'a>>,
    variables_provider: [Provider; 1],
}

#[derive(Serialize)]
struct Store<'a> {
    r#type: &'a str,
    path: &'a str,
}

#[derive(Serialize)]
struct Provider {
    r#type: &'static str,
    values: BTreeMap<String, String>,
}

/// Exports the files according to `settings` and `options`.
///
/// # Errors
/// When a file would be rejected by an edge, or can't be written.
pub async fn export(settings: &Settings, options: &Options) -> Result<ExportSummary, ExportError> {
    let api = settings.internal_api.as_ref();
    let api = api.ok_or(ExportError::NoInternalApi)?;
    // All files are read before anything is written.
    let stores = read_stores(settings, options)?;
    let values = read_variables(settings, api, options)?;
    let [advertisers, links] = [&stores[0].1, &stores[1].1].map(BTreeMap::len);

    let io = |path: &Path| {
        let path = path.to_owned();
        |cause| ExportError::File { path, cause }
    };
    fs::create_dir_all(&options.to).map_err(io(&options.to))?;
    private::restrict_directory(&options.to);
    let path = options.to.join(STORES_FILE);
    let written = write_stores(&path, &stores).await;
    written.map_err(|cause| ExportError::Stores { path, cause })?;
    let configuration = options.to.join(CONFIGURATION_FILE);
    write_configuration(&configuration, values).map_err(io(&configuration))?;
    Ok(ExportSummary {
        configuration,
        advertisers,
        links,
    })
}

/// The key-value stores of an edge, with their names.
fn read_stores(
    settings: &Settings,
    options: &Options,
) -> Result<[(&'static str, Entries); 2], ExportError> {
    let functions = settings.functions.as_ref();
    let named = options.advertisers.as_ref();
    let named = named.or_else(|| functions?.advertisers.as_ref());
    let file = named.ok_or(ExportError::NoAdvertisers)?;
    let links = settings.links.file.as_ref();
    let links: Table = links::load(links.ok_or(ExportError::NoLinksFile)?)?;
    Ok([
        (functions::ADVERTISERS_STORE, advertisers::read(file)?),
        (functions::LINKS_STORE, functions::offers(&links)),
    ])
}

/// The operator's variables, and those that an edge provides to its own functions.
fn read_variables(
    settings: &Settings,
    api: &InternalApiSettings,
    options: &Options,
) -> Result<BTreeMap<String, String>, ExportError> {
    let functions = settings.functions.as_ref();
    let named = options.variables.as_ref();
    let file = named.or_else(|| functions?.variables.as_ref());
    let mut values = match file {
        Some(file) => variables::read(file)?,
        None => BTreeMap::new(),
    };
    let file = settings.token_file(api);
    if !file.exists() {
        return Err(ExportError::NoToken(file));
    }
    let tokens = token::load(&file)?;
    let secrets = secrets::load(&settings.secrets_file())?;
    values.extend(variables::provided(tokens.newest().to_owned(), &secrets));
    let url = tracker_url(api, options.tracker_url.as_deref())?;
    values.insert("tracker_url".into(), url);
    Ok(values)
}

fn tracker_url(api: &InternalApiSettings, named: Option<&str>) -> Result<String, ExportError> {
    let Some(named) = named else {
        let address = api.listen;
        let is_reachable = !address.ip().is_unspecified() && address.port() != 0;
        return match is_reachable {
            true => Ok(format!("http://{address}")),
            false => Err(ExportError::NoAddress(address)),
        };
    };
    let url = named.trim_end_matches('/');
    let uri: Option<Uri> = url.parse().ok();
    let is_base = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.path() == "/"
            && uri.query().is_none()
            && uri.authority().is_some_and(|it| !it.as_str().contains('@'))
    });
    match is_base {
        true => Ok(url.to_owned()),
        false => Err(ExportError::TrackerUrl(named.to_owned())),
    }
}

/// Replaces the entries of `stores` in the file at `path`, which has the table of Spin's own stores.
async fn write_stores(path: &Path, stores: &[(&str, Entries)]) -> Result<(), sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(BUSY_TIMEOUT)
        // Spin's own mode: others need additional files.
        .journal_mode(SqliteJournalMode::Delete)
        // Rotated secrets must not remain in unused pages.
        .pragma("secure_delete", "ON");
    let mut connection = options.connect().await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let create = "CREATE TABLE IF NOT EXISTS spin_key_value (
        store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (store, key))";
    sqlx::query(create).execute(&mut *transaction).await?;
    for (store, entries) in stores {
        let delete = sqlx::query("DELETE FROM spin_key_value WHERE store = $1").bind(store);
        delete.execute(&mut *transaction).await?;
        for (key, value) in entries {
            let insert = "INSERT INTO spin_key_value (store, key, value) VALUES ($1, $2, $3)";
            let insert = sqlx::query(insert).bind(store).bind(key).bind(value);
            insert.execute(&mut *transaction).await?;
        }
    }
    transaction.commit().await?;
    connection.close().await
}

/// Writes the file in one step, readable by its owner only.
fn write_configuration(path: &Path, values: BTreeMap<String, String>) -> io::Result<()> {
    let stores = [functions::ADVERTISERS_STORE, functions::LINKS_STORE];
    let store = |name| {
        let (r#type, path) = ("spin", STORES_FILE);
        (name, Store { r#type, path })
    };
    let configuration = Configuration {
        key_value_store: stores.map(store).into(),
        variables_provider: [Provider {
            r#type: "static",
            values,
        }],
    };
    let text = toml::to_string(&configuration).map_err(io::Error::other)?;
    let text = format!(
        "# Written by `edge-tracker export-spin`, which writes it again. It holds secrets.\n{text}"
    );
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    // An interrupted export may have left one.
    let _ = fs::remove_file(&temporary);
    private::create(&temporary, &text)?;
    fs::rename(&temporary, path)
}
