//! Statements for many rows or ids.

use sql_store::{SqlError, Statement, Transaction, TypedRow, Value};
use std::collections::BTreeSet;

/// Rows of one insertion: SQLite accepts 32,766 parameters, and a row has at most 17.
const ROWS_PER_STATEMENT: usize = 500;
/// Values of one list in a condition.
const VALUES_PER_STATEMENT: usize = 1_000;

/// Rows to insert.
pub(crate) struct Insertion {
    table: &'static str,
    columns: &'static str,
    rows: Vec<Vec<Value>>,
}

impl Insertion {
    /// For these columns of a table.
    pub(crate) const fn new(table: &'static str, columns: &'static str) -> Self {
        Self {
            table,
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn add<const N: usize>(&mut self, row: [Value; N]) {
        self.rows.push(row.into());
    }

    /// Inserts all rows.
    pub(crate) async fn run(self, tx: &mut Transaction) -> Result<(), SqlError> {
        let mut rows = self.rows.into_iter();
        loop {
            let page: Vec<_> = rows.by_ref().take(ROWS_PER_STATEMENT).collect();
            if page.is_empty() {
                return Ok(());
            }
            let mut statement = Statement::new("INSERT INTO ")
                .push(self.table)
                .push(" (")
                .push(self.columns)
                .push(") VALUES ");
            for (index, row) in page.into_iter().enumerate() {
                let separator = if index == 0 { "(" } else { ", (" };
                statement = with_list(statement.push(separator), row).push(")");
            }
            tx.execute(statement).await?;
        }
    }
}

/// Appends parameters, separated by commas.
fn with_list(mut statement: Statement, values: impl IntoIterator<Item = Value>) -> Statement {
    for (index, value) in values.into_iter().enumerate() {
        if index > 0 {
            statement = statement.push(", ");
        }
        statement = statement.push_bind(value);
    }
    statement
}

/// `SELECT columns FROM table WHERE condition value`.
pub(crate) fn select_where(
    columns: &'static str,
    table: &'static str,
    condition: &'static str,
    value: impl Into<Value>,
) -> Statement {
    select(columns, table)
        .push(" WHERE ")
        .push(condition)
        .push_bind(value)
}

/// `SELECT columns FROM table`.
pub(crate) fn select(columns: &'static str, table: &'static str) -> Statement {
    Statement::new("SELECT ")
        .push(columns)
        .push(" FROM ")
        .push(table)
}

/// The rows of `statement`, to which ` column IN (values)` is appended.
pub(crate) async fn fetch_in<T: TypedRow, V: Into<Value> + Clone>(
    tx: &mut Transaction,
    statement: Statement,
    column: &'static str,
    values: &[V],
) -> Result<Vec<T>, SqlError> {
    let mut rows = Vec::new();
    for page in pages(&statement, column, values) {
        rows.extend(tx.fetch_all(page).await?);
    }
    Ok(rows)
}

/// Executes `statement` for some of the values each, to which ` column IN (values)` is appended.
pub(crate) async fn execute_in(
    tx: &mut Transaction,
    statement: Statement,
    column: &'static str,
    values: &[u32],
) -> Result<(), SqlError> {
    for page in pages(&statement, column, values) {
        tx.execute(page).await?;
    }
    Ok(())
}

/// The ids that `statement` selects, to which ` column IN (values)` is appended; `None` for more than `limit`.
pub(crate) async fn fetch_ids_in(
    tx: &mut Transaction,
    statement: Statement,
    column: &'static str,
    values: &[u32],
    limit: usize,
) -> Result<Option<BTreeSet<i64>>, SqlError> {
    let mut ids = BTreeSet::new();
    for page in pages(&statement, column, values) {
        let page = page.push(" LIMIT ").push_bind(limit + 1);
        ids.extend(tx.fetch_all::<i64>(page).await?);
        if ids.len() > limit {
            return Ok(None);
        }
    }
    Ok(Some(ids))
}

/// `statement` for some of the values each.
fn pages<V: Into<Value> + Clone>(
    statement: &Statement,
    column: &'static str,
    values: &[V],
) -> impl Iterator<Item = Statement> {
    values.chunks(VALUES_PER_STATEMENT).map(move |values| {
        let page = statement.clone().push(" ").push(column).push(" IN (");
        with_list(page, values.iter().cloned().map(Into::into)).push(")")
    })
}
