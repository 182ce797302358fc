//! Statements: SQL in one text for both databases, with the values of its parameters.

use domain::{ConversionKind, ConversionStatus, Currency, KycStatus, Micros};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{
    Arguments, AssertSqlSafe, Database, Encode, Postgres, SqlSafeStr as _, SqlStr, Sqlite, Type,
};
use std::borrow::Cow;
use std::fmt;

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// For `BIGINT`; `None` is `NULL`.
    Integer(Option<i64>),
    /// For `TEXT`. NUL bytes are replaced: PostgreSQL's texts can't hold them.
    Text(String),
}

/// A statement with the values of its parameters.
///
/// All of its text is written in the program: values from outside are parameters only.
#[derive(Clone)]
pub struct Statement {
    sql: Cow<'static, str>,
    values: Vec<Value>,
}

/// Without the values: they may be secrets and personal data.
impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("sql", &self.sql)
            .finish_non_exhaustive()
    }
}

impl Statement {
    /// A statement whose parameters are `$1`, `$2` and so on.
    #[must_use]
    pub const fn new(sql: &'static str) -> Self {
        Self {
            sql: Cow::Borrowed(sql),
            values: Vec::new(),
        }
    }

    /// An `INSERT` of one row, with the name of each column beside its value.
    #[must_use]
    pub fn insert<const N: usize>(
        table: &'static str,
        columns: [(&'static str, Value); N],
    ) -> Self {
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let parameters: Vec<_> = (1..=N).map(|number| format!("${number}")).collect();
        let (names, parameters) = (names.join(", "), parameters.join(", "));
        Self {
            sql: format!("INSERT INTO {table} ({names}) VALUES ({parameters})").into(),
            values: columns.into_iter().map(|(_, value)| value).collect(),
        }
    }

    /// Sets the next parameter.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Appends text.
    #[must_use]
    pub fn push(mut self, sql: &'static str) -> Self {
        self.sql.to_mut().push_str(sql);
        self
    }

    /// Appends a new parameter and sets it. All parameters before it must have been set.
    #[must_use]
    pub fn push_bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        let parameter = format!("${}", self.values.len());
        self.sql.to_mut().push_str(&parameter);
        self
    }

    pub(crate) fn for_sqlite(self) -> Result<Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
        let (sql, arguments) = self.into_parts::<Sqlite>()?;
        Ok(sqlx::query_with(sql, arguments))
    }

    pub(crate) fn for_postgres(self) -> Result<Query<'static, Postgres, PgArguments>, sqlx::Error> {
        let (sql, arguments) = self.into_parts::<Postgres>()?;
        Ok(sqlx::query_with(sql, arguments))
    }

    fn into_parts<DB: Database>(self) -> Result<(SqlStr, DB::Arguments), sqlx::Error>
    where
        DB::Arguments: Arguments<Database = DB>,
        Option<i64>: for<'q> Encode<'q, DB> + Type<DB>,
        String: for<'q> Encode<'q, DB> + Type<DB>,
    {
        let sql = match self.sql {
            Cow::Borrowed(sql) => sql.into_sql_str(),
            Cow::Owned(sql) => AssertSqlSafe(sql).into_sql_str(),
        };
        let mut arguments = DB::Arguments::default();
        for value in self.values {
            let added = match value {
                Value::Integer(number) => arguments.add(number),
                Value::Text(text) => arguments.add(storable(text)),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        Ok((sql, arguments))
    }
}

/// One report with a NUL byte must not block all others.
fn storable(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

macro_rules! integers {
    ($($type:ty)*) => {
        $(impl From<$type> for Value {
            fn from(number: $type) -> Self {
                Self::Integer(Some(number.into()))
            }
        })*
    };
}

integers!(i64 i32 u32 u16 u8 bool);

macro_rules! names {
    ($($type:ty)*) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                value.as_str().into()
            }
        })*
    };
}

names!(ConversionKind ConversionStatus KycStatus);

/// Keeps the bits, not the sign.
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(Some(number.cast_signed()))
    }
}

/// For counts and limits.
impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Integer(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

impl From<Micros> for Value {
    fn from(time: Micros) -> Self {
        time.0.into()
    }
}

impl From<Currency> for Value {
    fn from(currency: Currency) -> Self {
        currency.code().into()
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}
