//! The change log: every change with its author, in one sequence for the installation. It is the audit log, and the
//! source of what is sent to the edges.

use crate::error::{CatalogError, check_limit};
use crate::kind::{Kind, KindName, Object};
use crate::rows::{Insertion, select_where};
use domain::{Micros, NetworkId};
use serde::{Deserialize, Serialize};
use sql_store::{SqlError, Statement, Transaction, Value, typed_row};
use std::fmt;
use std::net::IpAddr;

/// The most changes that are read at once.
pub const MAX_CHANGES: usize = 1_000;

/// The number of a change, from 1; 0 is the empty catalog. A lower one is never committed after a higher one was
/// visible.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub u64);

/// The author of a change. Its address is personal data: it is in the audit log only.
#[derive(Clone, PartialEq, Eq)]
pub struct Author {
    /// What kind of author it is.
    pub kind: AuthorKind,
    /// The id of the user or key; the name of a program.
    pub id: String,
    /// The address of its connection.
    pub address: Option<IpAddr>,
}

/// A kind of authors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorKind {
    /// A signed-in user.
    User,
    /// An API key.
    Key,
    /// A program of this installation.
    Program,
}

impl Author {
    /// A program of this installation.
    #[must_use]
    pub fn program(name: &str) -> Self {
        Self {
            kind: AuthorKind::Program,
            id: name.to_owned(),
            address: None,
        }
    }
}

/// Without the address.
impl fmt::Debug for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Author")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The object was created.
    Created,
    /// Its settings were changed.
    Updated,
    /// Its status was changed.
    StatusChanged,
    /// It was archived.
    Archived,
    /// One of its secrets was set or removed.
    SecretChanged,
    /// One of its dates was reached: it begins or ends to apply.
    DateReached,
}

macro_rules! stored_names {
    ($($type:ident { $($variant:ident $name:literal)* })*) => {
        $(impl $type {
            /// Its name in JSON and in SQL.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        })*
    };
}

stored_names! {
    AuthorKind { User "user" Key "key" Program "program" }
    Action {
        Created "created" Updated "updated" StatusChanged "status_changed" Archived "archived"
        SecretChanged "secret_changed" DateReached "date_reached"
    }
}

/// A change.
#[derive(Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its number.
    pub version: Version,
    /// When it was made.
    #[serde(serialize_with = "crate::json::time")]
    pub time: Micros,
    /// The kind of its author.
    pub author_kind: AuthorKind,
    /// The id of its author.
    pub author_id: String,
    /// The address of its author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author_address: Option<IpAddr>,
    /// What it did.
    pub action: Action,
    /// The kind of the object.
    pub kind: KindName,
    /// The id of the object.
    pub object: u32,
    /// The network of the object.
    pub network: NetworkId,
    /// The object before, without secrets; none if it was created, or did not change itself.
    pub before: Option<serde_json::Value>,
    /// The object after, without secrets. After a change of a secret it is `{"secret": LABEL, "set": true}`.
    pub after: Option<serde_json::Value>,
}

/// Without the address and the object, which may hold personal data.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("version", &self.version)
            .field("time", &self.time)
            .field("author_kind", &self.author_kind)
            .field("author_id", &self.author_id)
            .field("action", &self.action)
            .field("kind", &self.kind)
            .field("object", &self.object)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// Which changes to read, by ascending version.
#[derive(Debug, Clone)]
pub struct ChangeQuery {
    /// Only later ones.
    pub after: Version,
    /// Only those of this kind.
    pub kind: Option<KindName>,
    /// Only those of the object with this id, of `kind`.
    pub object: Option<u32>,
    /// Only those of the author with this id.
    pub author_id: Option<String>,
    /// At most this many, 1 to [`MAX_CHANGES`]; 100 by default.
    pub limit: usize,
}

impl Default for ChangeQuery {
    fn default() -> Self {
        Self {
            after: Version::default(),
            kind: None,
            object: None,
            author_id: None,
            limit: 100,
        }
    }
}

/// A change that is to be recorded.
pub(crate) struct NewChange {
    pub(crate) action: Action,
    pub(crate) kind: KindName,
    pub(crate) object: u32,
    pub(crate) network: NetworkId,
    pub(crate) before: String,
    pub(crate) after: String,
    /// Whether links that depend on the object may be resolved differently.
    pub(crate) affects_links: bool,
}

impl NewChange {
    /// A change of an object, as it is afterwards.
    pub(crate) fn of<K: Kind>(
        action: Action,
        before: Option<&Object<K>>,
        after: &Object<K>,
    ) -> Self {
        use crate::kind::ObjectId as _;
        let is_equal = |before: &Object<K>| {
            before.status == after.status && before.settings.resolves_equally(&after.settings)
        };
        Self {
            affects_links: !before.is_some_and(is_equal),
            action,
            kind: K::NAME,
            object: after.id.number(),
            network: after.network,
            before: before.map(crate::json::text).unwrap_or_default(),
            after: crate::json::text(after),
        }
    }
}

typed_row! {
    struct ChangeRow {
        version: u64,
        time: Micros,
        author_kind: String,
        author_id: String,
        author_address: String,
        action: String,
        kind: String,
        object: u32,
        network: u32,
        before_json: String,
        after_json: String,
    }
}

const COLUMNS: &str = "version, time, author_kind, author_id, author_address, action, kind, object, network, \
     before_json, after_json";

const INSERTED_COLUMNS: &str = "version, time, author_kind, author_id, author_address, action, kind, object, network, \
     before_json, after_json, affects_links";

/// Records changes under the numbers that follow `last`, and returns the new last number. The caller holds the lock of
/// the head.
pub(crate) async fn append(
    tx: &mut Transaction,
    last: Version,
    author: &Author,
    now: Micros,
    changes: Vec<NewChange>,
) -> Result<Version, SqlError> {
    let mut version = last;
    let mut insertion = Insertion::new("catalog_changes", INSERTED_COLUMNS);
    let address = author.address.map(|it| it.to_string()).unwrap_or_default();
    for change in changes {
        version = Version(version.0 + 1);
        insertion.add([
            version.0.into(),
            now.into(),
            author.kind.name().into(),
            Value::from(&author.id),
            Value::from(&address),
            change.action.name().into(),
            change.kind.name().into(),
            change.object.into(),
            change.network.0.into(),
            change.before.into(),
            change.after.into(),
            i64::from(change.affects_links).into(),
        ]);
    }
    insertion.run(tx).await?;
    let update = Statement::new("UPDATE catalog_head SET version = $1");
    tx.execute(update.bind(version.0)).await?;
    Ok(version)
}

/// The number of the last change.
///
/// # Errors
/// When the database can't be read.
pub async fn current_version(tx: &mut Transaction) -> Result<Version, CatalogError> {
    let select = Statement::new("SELECT version FROM catalog_head");
    let version: Option<i64> = tx.fetch_optional(select).await?;
    Ok(Version(version.unwrap_or_default().cast_unsigned()))
}

/// Reads changes of a network, or of all networks.
pub(crate) async fn list(
    tx: &mut Transaction,
    network: Option<NetworkId>,
    query: &ChangeQuery,
) -> Result<Vec<Change>, CatalogError> {
    check_limit(query.limit, MAX_CHANGES)?;
    let mut select = select_where(COLUMNS, "catalog_changes", "version > ", query.after.0);
    if let Some(network) = network {
        select = select.push(" AND network = ").push_bind(network.0);
    }
    if let Some(kind) = query.kind {
        select = select.push(" AND kind = ").push_bind(kind.name());
    }
    if let Some(object) = query.object {
        select = select.push(" AND object = ").push_bind(object);
    }
    if let Some(author) = &query.author_id {
        select = select.push(" AND author_id = ").push_bind(author);
    }
    let select = select
        .push(" ORDER BY version LIMIT ")
        .push_bind(query.limit);
    let rows: Vec<ChangeRow> = tx.fetch_all(select).await?;
    rows.into_iter().map(ChangeRow::read).collect()
}

impl ChangeRow {
    fn read(self) -> Result<Change, CatalogError> {
        let unexpected =
            |word: &str| SqlError::UnexpectedValue(format!("catalog_changes: {word:?}"));
        let document = |text: &str| match text {
            "" => Ok(None),
            text => serde_json::from_str(text).map(Some),
        };
        let unreadable = |cause| CatalogError::Unreadable {
            kind: "change",
            id: u32::try_from(self.version).unwrap_or(u32::MAX),
            cause,
        };
        Ok(Change {
            version: Version(self.version),
            time: self.time,
            author_kind: AuthorKind::from_name(&self.author_kind)
                .ok_or_else(|| unexpected(&self.author_kind))?,
            author_address: self.author_address.parse().ok(),
            action: Action::from_name(&self.action).ok_or_else(|| unexpected(&self.action))?,
            kind: KindName::from_name(&self.kind).ok_or_else(|| unexpected(&self.kind))?,
            object: self.object,
            network: NetworkId(self.network),
            before: document(&self.before_json).map_err(unreadable)?,
            after: document(&self.after_json).map_err(unreadable)?,
            author_id: self.author_id,
        })
    }
}
