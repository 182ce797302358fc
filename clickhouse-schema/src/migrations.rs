//! The migrations, in order. One that was released is never changed: a new one follows it.

/// One step of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its number, from 1 and without gaps.
    pub version: u32,
    /// Its name.
    pub name: &'static str,
    /// Statements, each ended by `;` at the end of a line; `${database}` stands for the database.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal;)*) => {
        /// Every migration of this build.
        pub const MIGRATIONS: &[Migration] = &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../migrations/", $name, ".sql")),
        },)*];
    };
}

migrations! {
    1 "0001_clicks";
    2 "0002_impressions";
    3 "0003_clicks_hourly";
    4 "0004_impressions_hourly";
}

impl Migration {
    /// What tells a changed migration from the one that was applied.
    #[must_use]
    pub fn checksum(&self) -> String {
        blake3::hash(self.sql.as_bytes()).to_hex().to_string()
    }

    /// The statements for `database`.
    pub(crate) fn statements(&self, database: &str) -> Vec<String> {
        let text = self.sql.replace("${database}", database);
        let is_empty = |statement: &String| {
            statement
                .lines()
                .all(|line| line.trim().is_empty() || line.trim().starts_with("--"))
        };
        text.split(";\n")
            .map(String::from)
            .filter(|statement| !is_empty(statement))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_gaps_and_named_after_their_files() {
        for (migration, number) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.version, number);
            assert!(
                migration.name.starts_with(&format!("{number:04}_")),
                "{}",
                migration.name
            );
        }
    }

    #[test]
    fn every_statement_can_be_applied_twice() {
        for migration in MIGRATIONS {
            for statement in migration.statements("tracking") {
                assert!(statement.contains("IF NOT EXISTS tracking."), "{statement}");
            }
        }
    }
}
