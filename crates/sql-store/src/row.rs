//! Typed rows: structs whose fields are read from the columns of their names.

use crate::SqlError;
use domain::{ConversionKind, ConversionStatus, Currency, KycStatus, Micros, Money};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column as _, Row as _};
use std::fmt::Display;

/// A row of either database.
#[derive(Debug)]
pub struct Row(AnyRow);

#[derive(Debug)]
enum AnyRow {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self(AnyRow::Sqlite(row))
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self(AnyRow::Postgres(row))
    }
}

/// A struct that is read from a row. [`typed_row!`](crate::typed_row) implements it.
///
/// A text or a number is read from a row's only column.
pub trait TypedRow: Sized {
    /// Reads the fields.
    ///
    /// # Errors
    /// When a column is missing, has another type, or holds an unexpected value.
    fn from_row(row: &Row) -> Result<Self, SqlError>;
}

/// A type that is read from one column, or from several whose names follow from the field's.
pub trait Field: Sized {
    /// Reads the field `name`.
    ///
    /// # Errors
    /// When a column is missing, has another type, or holds an unexpected value.
    fn read(row: &Row, name: &str) -> Result<Self, SqlError>;
}

/// Defines a struct whose fields are read from the columns of their names, and implements [`TypedRow`] for it. A field
/// may also have the type of another such struct, which reads its own columns.
///
/// ```
/// sql_store::typed_row! {
///     #[derive(Debug)]
///     struct Sale {
///         id: String,
///         status: domain::ConversionStatus,
///         note: Option<i64>,
///     }
/// }
/// ```
#[macro_export]
macro_rules! typed_row {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type,)*
        }

        impl $crate::TypedRow for $name {
            fn from_row(row: &$crate::Row) -> ::std::result::Result<Self, $crate::SqlError> {
                Ok(Self {
                    $($field: <$type as $crate::Field>::read(row, stringify!($field))?,)*
                })
            }
        }

        impl $crate::Field for $name {
            fn read(row: &$crate::Row, _: &str) -> ::std::result::Result<Self, $crate::SqlError> {
                $crate::TypedRow::from_row(row)
            }
        }
    };
}

/// The types that both databases store: `BIGINT` and `TEXT`.
macro_rules! stored {
    ($($type:ty)*) => {
        $(impl Field for $type {
            fn read(row: &Row, name: &str) -> Result<Self, SqlError> {
                Ok(match &row.0 {
                    AnyRow::Sqlite(row) => row.try_get(name)?,
                    AnyRow::Postgres(row) => row.try_get(name)?,
                })
            }
        })*
    };
}

stored!(i64 String Option<i64> Option<String>);

macro_rules! only_column {
    ($($type:ty)*) => {
        $(impl TypedRow for $type {
            fn from_row(row: &Row) -> Result<Self, SqlError> {
                Self::read(row, row.first_column())
            }
        })*
    };
}

only_column!(i64 String Micros);

impl Row {
    fn first_column(&self) -> &str {
        let name = match &self.0 {
            AnyRow::Sqlite(row) => row.columns().first().map(|column| column.name()),
            AnyRow::Postgres(row) => row.columns().first().map(|column| column.name()),
        };
        name.unwrap_or_default()
    }
}

fn unexpected(name: &str, error: impl Display) -> SqlError {
    SqlError::UnexpectedValue(format!("{name}: {error}"))
}

/// Types that are stored as another one and may not hold all of its values.
macro_rules! converted {
    ($stored:ty: $($type:ty)*) => {
        $(impl Field for $type {
            fn read(row: &Row, name: &str) -> Result<Self, SqlError> {
                let stored = <$stored>::read(row, name)?;
                Self::try_from(stored).map_err(|error| unexpected(name, error))
            }
        })*
    };
}

converted!(i64: u32 u16 u8);
converted!(String: ConversionKind ConversionStatus KycStatus);

/// Keeps the bits, not the sign.
impl Field for u64 {
    fn read(row: &Row, name: &str) -> Result<Self, SqlError> {
        Ok(i64::read(row, name)?.cast_unsigned())
    }
}

/// 0 or 1.
impl Field for bool {
    fn read(row: &Row, name: &str) -> Result<Self, SqlError> {
        Ok(i64::read(row, name)? != 0)
    }
}

impl Field for Micros {
    fn read(row: &Row, name: &str) -> Result<Self, SqlError> {
        u64::read(row, name).map(Self)
    }
}

/// A field `payout` is read from `payout_minor` and `currency`.
impl Field for Money {
    fn read(row: &Row, name: &str) -> Result<Self, SqlError> {
        Ok(Self {
            minor: i64::read(row, &format!("{name}_minor"))?,
            currency: Currency::from_stored(&String::read(row, "currency")?),
        })
    }
}
