//! Lists of objects: filters, order, and pages that continue after the last object of the one before.

use crate::error::{CatalogError, Reason, check_limit};
use crate::kind::{Kind, Object, ObjectId as _};
use crate::objects::{ObjectRow, select_objects};
use crate::status::Status as _;
use data_encoding::BASE64URL_NOPAD;
use domain::{AdvertiserId, AffiliateId, CampaignId, CreativeId, Micros, NetworkId, OfferId};
use sql_store::{Statement, Transaction, Value};

/// The most objects of a page.
pub const MAX_PAGE: usize = 1_000;
/// The longest text to search for, in characters.
const MAX_SEARCH_CHARS: usize = 120;

/// Which objects a list has. All conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter<K: Kind> {
    /// One of these statuses; empty for all but archived ones.
    pub statuses: Vec<K::Status>,
    /// A part of the name in any case; of a link, of `DOMAIN/SLUG`.
    pub search: Option<String>,
    /// Objects of this advertiser.
    pub advertiser: Option<AdvertiserId>,
    /// Objects of this offer.
    pub offer: Option<OfferId>,
    /// Objects of this affiliate.
    pub affiliate: Option<AffiliateId>,
    /// Objects of this campaign.
    pub campaign: Option<CampaignId>,
    /// Links with this creative.
    pub creative: Option<CreativeId>,
    /// Changed at this time or later.
    pub updated_since: Option<Micros>,
}

impl<K: Kind> Default for Filter<K> {
    fn default() -> Self {
        Self {
            statuses: Vec::new(),
            search: None,
            advertiser: None,
            offer: None,
            affiliate: None,
            campaign: None,
            creative: None,
            updated_since: None,
        }
    }
}

/// The order of a list; objects with the same value are ordered by their ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// By id.
    #[default]
    Id,
    /// By name without regard to case, in the collation of the database.
    Name,
    /// By time of creation.
    Created,
    /// By time of the last change. An object that changes between two pages moves: towards the end of an ascending
    /// list, where it is read again; towards the beginning of a descending one, where it is missed. To follow changes,
    /// read the change log.
    Updated,
}

/// A request for a page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery<K: Kind> {
    /// Which objects.
    pub filter: Filter<K>,
    /// In which order.
    pub sort: Sort,
    /// From the last to the first.
    pub descending: bool,
    /// The end of the page before.
    pub after: Option<Cursor>,
    /// At most this many objects, 1 to [`MAX_PAGE`].
    pub limit: usize,
}

impl<K: Kind> Default for ListQuery<K> {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            sort: Sort::default(),
            descending: false,
            after: None,
            limit: 100,
        }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<K: Kind> {
    /// The objects.
    pub items: Vec<Object<K>>,
    /// Where the next page begins; none if this is the last one.
    pub next: Option<Cursor>,
}

/// The end of a page, as an opaque text. It belongs to one filter and order; a checksum finds out if it is used with
/// others, or was altered. It gives access to nothing: each page is limited to the network of its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// The place of an object in a list.
struct Position {
    id: u32,
    value: Option<Value>,
}

impl Sort {
    const fn column(self) -> Option<&'static str> {
        match self {
            Self::Id => None,
            Self::Name => Some("label"),
            Self::Created => Some("created"),
            Self::Updated => Some("updated"),
        }
    }

    fn position<K: Kind>(self, object: &Object<K>) -> Position {
        Position {
            id: object.id.number(),
            value: match self {
                Self::Id => None,
                Self::Name => Some(object.settings.label().to_lowercase().into()),
                Self::Created => Some(object.created.into()),
                Self::Updated => Some(object.updated.into()),
            },
        }
    }
}

impl Cursor {
    fn new(position: &Position, list: &str) -> Self {
        let value = match &position.value {
            None => Vec::new(),
            Some(Value::Text(text)) => text.clone().into_bytes(),
            Some(Value::Integer(number)) => number.unwrap_or_default().to_be_bytes().into(),
        };
        let body = [&position.id.to_be_bytes()[..], &value].concat();
        let checksum = checksum(&body, list).to_be_bytes();
        Self(BASE64URL_NOPAD.encode(&[&checksum[..], &body].concat()))
    }

    fn position(&self, sort: Sort, list: &str) -> Result<Position, CatalogError> {
        self.decode(sort, list).ok_or_else(|| {
            let message = "the cursor was altered, or belongs to a list with another filter or order; start without one";
            CatalogError::refused(Reason::InvalidCursor, "", message)
        })
    }

    fn decode(&self, sort: Sort, list: &str) -> Option<Position> {
        let bytes = BASE64URL_NOPAD.decode(self.0.as_bytes()).ok()?;
        let (sum, body) = bytes.split_first_chunk()?;
        if u32::from_be_bytes(*sum) != checksum(body, list) {
            return None;
        }
        let (id, value) = body.split_first_chunk()?;
        let value = match sort {
            Sort::Id => None,
            Sort::Name => Some(String::from_utf8(value.to_vec()).ok()?.into()),
            Sort::Created | Sort::Updated => {
                Some(i64::from_be_bytes(value.try_into().ok()?).into())
            }
        };
        Some(Position {
            id: u32::from_be_bytes(*id),
            value,
        })
    }
}

fn checksum(body: &[u8], list: &str) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(list.as_bytes()), body)
}

/// Reads a page; of `network` only, unless that is `None`.
pub(crate) async fn list<K: Kind>(
    tx: &mut Transaction,
    network: Option<NetworkId>,
    query: &ListQuery<K>,
) -> Result<Page<K>, CatalogError> {
    check(query)?;
    let name = list_name(network, query);
    let mut statement = select_objects(K::NAME).push(" WHERE 1 = 1");
    if let Some(network) = network {
        statement = statement.push(" AND network = ").push_bind(network.0);
    }
    statement = query.filter.conditions(statement);
    if let Some(cursor) = &query.after {
        let position = cursor.position(query.sort, &name)?;
        statement = after(statement, query, position);
    }
    // One more than asked for: it tells whether there is a next page.
    let statement = ordered(statement, query)
        .push(" LIMIT ")
        .push_bind(query.limit + 1);
    let rows: Vec<ObjectRow> = tx.fetch_all(statement).await?;
    let has_next = rows.len() > query.limit;
    let rows = rows.into_iter().take(query.limit);
    let items = rows.map(ObjectRow::read).collect::<Result<Vec<_>, _>>()?;
    let last = items.last().filter(|_| has_next);
    let next = last.map(|last| Cursor::new(&query.sort.position(last), &name));
    Ok(Page { items, next })
}

fn check<K: Kind>(query: &ListQuery<K>) -> Result<(), CatalogError> {
    check_limit(query.limit, MAX_PAGE)?;
    let search = query.filter.search.as_deref().unwrap_or_default();
    if search.chars().count() > MAX_SEARCH_CHARS {
        let message = format!("a text to search for has at most {MAX_SEARCH_CHARS} characters");
        return Err(CatalogError::refused(
            Reason::InvalidText,
            "/search",
            message,
        ));
    }
    Ok(())
}

/// A text that differs between lists: a cursor belongs to one of them.
fn list_name<K: Kind>(network: Option<NetworkId>, query: &ListQuery<K>) -> String {
    let (filter, sort, descending) = (&query.filter, query.sort, query.descending);
    format!("{} {network:?} {filter:?} {sort:?} {descending}", K::NAME)
}

impl<K: Kind> Filter<K> {
    fn conditions(&self, mut statement: Statement) -> Statement {
        if self.statuses.is_empty() {
            statement = statement.push(" AND archived IS NULL");
        } else {
            statement = statement.push(" AND status IN (");
            for (index, status) in self.statuses.iter().enumerate() {
                let separator = if index == 0 { "" } else { ", " };
                statement = statement.push(separator).push_bind(status.name());
            }
            statement = statement.push(")");
        }
        for (condition, id) in [
            (" AND advertiser = ", self.advertiser.map(|id| id.0)),
            (" AND offer = ", self.offer.map(|id| id.0)),
            (" AND affiliate = ", self.affiliate.map(|id| id.0)),
            (
                " AND campaign <> 0 AND campaign = ",
                self.campaign.map(|id| id.0),
            ),
            (" AND creative = ", self.creative.map(|id| id.0)),
        ] {
            if let Some(id) = id {
                statement = statement.push(condition).push_bind(id);
            }
        }
        if let Some(since) = self.updated_since {
            statement = statement.push(" AND updated >= ").push_bind(since);
        }
        if let Some(search) = &self.search {
            statement = statement
                .push(" AND label LIKE ")
                .push_bind(pattern(search));
            statement = statement.push(" ESCAPE '!'");
        }
        statement
    }
}

/// The pattern of `LIKE` for a part of a text.
fn pattern(search: &str) -> String {
    let escaped = search.to_lowercase().replace('!', "!!");
    let escaped = escaped.replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%")
}

fn after<K: Kind>(statement: Statement, query: &ListQuery<K>, position: Position) -> Statement {
    let comparison = if query.descending { " < " } else { " > " };
    match query.sort.column().zip(position.value) {
        None => statement
            .push(" AND id")
            .push(comparison)
            .push_bind(position.id),
        Some((column, value)) => statement
            .push(" AND (")
            .push(column)
            .push(", id)")
            .push(comparison)
            .push("(")
            .push_bind(value)
            .push(", ")
            .push_bind(position.id)
            .push(")"),
    }
}

fn ordered<K: Kind>(statement: Statement, query: &ListQuery<K>) -> Statement {
    let direction = if query.descending { " DESC" } else { " ASC" };
    let statement = statement.push(" ORDER BY ");
    let statement = match query.sort.column() {
        Some(column) => statement.push(column).push(direction).push(", "),
        None => statement,
    };
    statement.push("id").push(direction)
}
