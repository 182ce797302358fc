//! The servers of ClickHouse and the account of the aggregator.

use super::{InvalidSettings, MAX_SECRETS_BYTES, Secret, read_password};
use daemon::files::read_private;
use schemars::JsonSchema;
use serde::Deserialize;
use std::iter;
use std::path::PathBuf;

/// The address of ClickHouse and the account of the aggregator.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClickHouseSettings {
    /// The URL of its HTTP interface: `https://host:port`, or `http://host:port` on this machine.
    pub url: String,
    /// The URLs of further servers of the cluster. When a request to a server fails, the next one goes to the next
    /// server. Needs `cluster`: servers without common tables would each store a repeated block.
    #[serde(default)]
    pub other_urls: Vec<String>,
    /// The name of the cluster in the servers' `remote_servers`. Tables are then replicated and distributed, and
    /// statements are executed `ON CLUSTER`. Default: one server.
    pub cluster: Option<String>,
    /// A PEM file of the authorities that sign the server's certificate; read at start. Default: the authorities that
    /// browsers trust.
    pub ca_file: Option<PathBuf>,
    /// Whether an `http://` URL may lead to another machine: any host on that network can then read and change all
    /// data.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The database that contains the tables.
    #[serde(default = "default_database")]
    pub database: String,
    /// The user; docs/operations.md lists the grants it needs.
    #[serde(default = "default_user")]
    pub user: String,
    /// The password. Prefer `password_file`. At most one of `password`, `password_file` and `credentials` may be set.
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret>,
    /// A file with the password, readable by this user only; its line ending is ignored.
    pub password_file: Option<PathBuf>,
    /// A JSON file of users and passwords, as the embedded engine writes it, readable by this user only.
    pub credentials: Option<PathBuf>,
}

impl ClickHouseSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSettings> {
        let places = [
            self.password.is_some(),
            self.password_file.is_some(),
            self.credentials.is_some(),
        ];
        if places.into_iter().filter(|named| *named).count() > 1 {
            return Err(InvalidSettings::SeveralPasswords);
        }
        if !self.other_urls.is_empty() && self.cluster.is_none() {
            return Err(InvalidSettings::OtherUrlsWithoutCluster);
        }
        if let Some(cluster) = &self.cluster
            && !clickhouse_schema::is_name(cluster)
        {
            return Err(InvalidSettings::ClusterName(cluster.clone()));
        }
        self.urls()
            .try_for_each(|url| self.transport(url).map(drop))
    }

    /// The URLs of all servers.
    pub(crate) fn urls(&self) -> impl Iterator<Item = &str> {
        iter::once(&self.url)
            .chain(&self.other_urls)
            .map(String::as_str)
    }

    /// The password of [`ClickHouseSettings::user`]; empty if none is named.
    ///
    /// # Errors
    /// When the named file can't be read, can be read by other users, or lacks the user.
    pub fn login(&self) -> Result<String, InvalidSettings> {
        if let Some(path) = &self.credentials {
            let failed = |cause: String| InvalidSettings::Secret {
                path: path.clone(),
                cause,
            };
            let text = read_private(path, MAX_SECRETS_BYTES)?;
            return password_of(&text, &self.user).map_err(failed);
        }
        if let Some(path) = &self.password_file {
            return read_password(path);
        }
        Ok(self
            .password
            .clone()
            .map(|Secret(password)| password)
            .unwrap_or_default())
    }
}

/// The password of `user` in `{"<user>": {"user": …, "password": …}, …}`.
fn password_of(json: &str, user: &str) -> Result<String, String> {
    let users: serde_json::Value = serde_json::from_str(json).map_err(|_| "not JSON".to_owned())?;
    let password = users
        .get(user)
        .and_then(|entry| entry.get("password")?.as_str());
    password
        .map(ToOwned::to_owned)
        .ok_or_else(|| format!("lacks the password of user {user}"))
}

fn default_database() -> String {
    "tracking".to_owned()
}

fn default_user() -> String {
    "tracker".to_owned()
}
