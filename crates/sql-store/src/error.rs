//! Errors of databases.

use thiserror::Error;

/// The database can't be used now. No text contains the URL, which may hold a password.
#[derive(Debug, Error)]
pub enum SqlError {
    /// The URL is not PostgreSQL's.
    #[error("[store] url must be postgres://user:password@host:port/database")]
    Url,
    /// The database reported an error, or the connection to it failed.
    #[error("{0}")]
    Database(#[source] sqlx::Error),
    /// A column holds a value that no released version writes.
    #[error("unexpected value in the store: {0}; restore it from a backup")]
    UnexpectedValue(String),
    /// The tables could not be created or upgraded.
    #[error("migrations: {0}; if the store is newer than this program, upgrade the program")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// Only SQLite's file can be copied.
    #[error("PostgreSQL's tables are copied with pg_dump")]
    NotAFile,
    /// The database that a store is to be copied to has one.
    #[error("the database of [store] url holds a store already; name an empty one")]
    Occupied,
}

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { index, source } => {
                Self::UnexpectedValue(format!("{index}: {source}"))
            }
            other => Self::Database(other),
        }
    }
}

impl SqlError {
    /// Whether another transaction was in the way, so that the same one may succeed if it is repeated: failed
    /// serialisation and deadlocks of PostgreSQL, and locks of SQLite.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else {
            return false;
        };
        error.code().is_some_and(|code| is_conflict_code(&code))
    }
}

/// SQLSTATEs have five characters; SQLite's extended codes are numbers with the primary code in the lowest byte.
fn is_conflict_code(code: &str) -> bool {
    const SQLITE_BUSY: u32 = 5;
    const SQLITE_LOCKED: u32 = 6;
    match code {
        "40001" | "40P01" => true,
        code if code.len() == 5 => false,
        code => code
            .parse::<u32>()
            .is_ok_and(|code| matches!(code & 0xff, SQLITE_BUSY | SQLITE_LOCKED)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_conflict_code;

    #[test]
    fn only_conflicts_may_be_repeated() {
        for (code, expected) in [
            // PostgreSQL: serialization_failure, deadlock_detected, unique_violation, disk_full, a number that has
            // SQLite's code in its lowest byte.
            ("40001", true),
            ("40P01", true),
            ("23505", false),
            ("53100", false),
            ("00005", false),
            // SQLite: BUSY, LOCKED, BUSY_SNAPSHOT, FULL, CONSTRAINT_UNIQUE.
            ("5", true),
            ("6", true),
            ("517", true),
            ("13", false),
            ("2067", false),
            ("", false),
        ] {
            assert_eq!(is_conflict_code(code), expected, "{code}");
        }
    }
}
