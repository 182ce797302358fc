//! Reads single rows.

use clickhouse::query::Query;
use clickhouse::{RowOwned, RowRead};

/// The first row, if there is one.
///
/// The response is read to its end. Otherwise its connection is closed before ClickHouse has sent all of it, and
/// ClickHouse logs an error for an ordinary query.
///
/// # Errors
/// When ClickHouse does not respond or refuses the query.
pub async fn first_row<T: RowOwned + RowRead>(
    query: Query,
) -> clickhouse::error::Result<Option<T>> {
    Ok(query.fetch_all().await?.into_iter().next())
}
