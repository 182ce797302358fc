//! The head of the catalog: the number of the last change, and the catalog's clock. Both only increase.
//!
//! Dates of offers, campaigns, links and terms take effect when the clock passes them: this is recorded as a change, so
//! that what follows from the stored objects never changes without a new version.

use crate::change::{Action, Author, NewChange, Version, append};
use crate::error::CatalogError;
use crate::kind::KindName;
use domain::{Micros, NetworkId};
use sql_store::{SqlError, Statement, Transaction, typed_row};

/// The kinds that have dates.
const DATED: [KindName; 4] = [
    KindName::Offer,
    KindName::Campaign,
    KindName::Link,
    KindName::Terms,
];

/// The dates that are recorded by one step: each takes about a kilobyte of memory until it is written.
const DATES_PER_STEP: usize = 10_000;

/// The statements for the next of each kind of dates.
const DATES: [(&str, &str); 2] = [
    (
        "SELECT MIN(starts) AS next FROM ",
        " WHERE archived IS NULL AND starts > ",
    ),
    (
        "SELECT MIN(ends) AS next FROM ",
        " WHERE archived IS NULL AND ends > ",
    ),
];

typed_row! {
    /// The state of the head.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Head {
        pub(crate) version: u64,
        pub(crate) clock: Micros,
    }
}

typed_row! {
    struct DueRow {
        id: u32,
        network: u32,
    }
}

/// Inserts the rows that an empty catalog lacks.
pub(crate) async fn initialize(tx: &mut Transaction) -> Result<(), SqlError> {
    let head =
        "INSERT INTO catalog_head (one, version, clock) VALUES (1, 0, 0) ON CONFLICT DO NOTHING";
    tx.execute(Statement::new(head)).await?;
    for kind in KindName::ALL {
        let ids = "INSERT INTO catalog_ids (kind, last) VALUES ($1, 0) ON CONFLICT DO NOTHING";
        tx.execute(Statement::new(ids).bind(kind.name())).await?;
    }
    Ok(())
}

/// Locks the head until the transaction ends, then moves the clock to the time that `clock` reads and records the dates
/// that it passes. Other writers may hold the lock for long: a time from before it would be in the past.
pub(crate) async fn lock(
    tx: &mut Transaction,
    clock: impl FnOnce() -> Micros,
) -> Result<Head, CatalogError> {
    // Writes the row in both databases, which locks it.
    let lock = "UPDATE catalog_head SET version = version RETURNING version, clock";
    let head: Option<Head> = tx.fetch_optional(Statement::new(lock)).await?;
    let head = head.ok_or_else(missing)?;
    let now = clock();
    if now <= head.clock {
        return Ok(head);
    }
    let due = due(tx, head.clock, now).await?;
    let mut last = Version(head.version);
    let mut due = due.into_iter().map(date_reached).peekable();
    while due.peek().is_some() {
        let step = due.by_ref().take(DATES_PER_STEP).collect();
        last = append(tx, last, &Author::program("clock"), now, step).await?;
    }
    let update = Statement::new("UPDATE catalog_head SET clock = $1");
    tx.execute(update.bind(now)).await?;
    Ok(Head {
        version: last.0,
        clock: now,
    })
}

/// Reads the head without a lock.
pub(crate) async fn read(tx: &mut Transaction) -> Result<Head, CatalogError> {
    let select = Statement::new("SELECT version, clock FROM catalog_head");
    let head = tx.fetch_optional(select).await?;
    Ok(head.ok_or_else(missing)?)
}

fn missing() -> SqlError {
    SqlError::UnexpectedValue("catalog_head has no row".to_owned())
}

/// The objects with dates after `clock` up to `now`.
async fn due(
    tx: &mut Transaction,
    clock: Micros,
    now: Micros,
) -> Result<Vec<(KindName, DueRow)>, CatalogError> {
    let mut due = Vec::new();
    for kind in DATED {
        let select = Statement::new("SELECT id, network FROM ")
            .push(kind.table())
            .push(" WHERE archived IS NULL AND ((starts > $1 AND starts <= $2) OR (ends > $1 AND ends <= $2)) ORDER BY id")
            .bind(clock)
            .bind(now);
        let rows: Vec<DueRow> = tx.fetch_all(select).await?;
        due.extend(rows.into_iter().map(|row| (kind, row)));
    }
    Ok(due)
}

fn date_reached((kind, row): (KindName, DueRow)) -> NewChange {
    NewChange {
        action: Action::DateReached,
        kind,
        object: row.id,
        network: NetworkId(row.network),
        before: String::new(),
        after: String::new(),
        affects_links: true,
    }
}

/// Locks the catalog until the transaction ends, as writers do, moves its clock to the time that the trusted `clock`
/// reads then, and records the dates that it passes as changes. Returns the number of the last change.
///
/// # Errors
/// When the database can't be used.
pub async fn record_dates(
    tx: &mut Transaction,
    clock: impl FnOnce() -> Micros,
) -> Result<Version, CatalogError> {
    Ok(Version(lock(tx, clock).await?.version))
}

/// The next date that is not recorded yet: the moment at which [`record_dates`] should be called. `None` if no object
/// begins or ends later.
///
/// # Errors
/// When the database can't be read.
pub async fn next_date(tx: &mut Transaction) -> Result<Option<Micros>, CatalogError> {
    let clock = read(tx).await?.clock;
    let mut next = None;
    for kind in DATED {
        for (select, condition) in DATES {
            let select = Statement::new(select).push(kind.table()).push(condition);
            let found: Option<NextRow> = tx.fetch_optional(select.push_bind(clock)).await?;
            let found = found.and_then(|row| row.next);
            let found = found.map(|time| Micros(time.cast_unsigned()));
            next = [next, found].into_iter().flatten().min();
        }
    }
    Ok(next)
}

typed_row! {
    struct NextRow {
        next: Option<i64>,
    }
}
