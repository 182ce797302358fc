//! The migrations, in order. One that was released is never changed: a new one follows it.

use crate::Layout;

/// One step of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its number, from 1 and without gaps.
    pub version: u32,
    /// Its name.
    pub name: &'static str,
    /// Statements, each ended by `;` at the end of a line. `${database}` stands for the database; one
    /// with `${events}` is meant for `clicks` and for `impressions`, which have the same columns.
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
    1 "0001_events";
    2 "0002_hourly";
    3 "0003_conversions";
    4 "0004_attribution";
    5 "0005_epochs";
    6 "0006_uniqueness";
    7 "0007_clock";
    8 "0008_amounts_as_sent";
    9 "0009_comments";
    10 "0010_mail_proxy";
    11 "0011_refunds";
}

impl Migration {
    /// The checksum that detects a migration changed after it was applied.
    #[must_use]
    pub fn checksum(&self) -> String {
        blake3::hash(self.sql.as_bytes()).to_hex().to_string()
    }

    /// The statements that migrate `database` in this layout.
    #[must_use]
    pub fn statements(&self, database: &str, layout: &Layout) -> Vec<String> {
        let text = self.sql.replace("${database}", database);
        let texts: Vec<String> = if text.contains("${events}") {
            let of = |events: &&str| text.replace("${events}", events);
            EVENTS.iter().map(of).collect()
        } else {
            vec![text]
        };
        let statements = texts.iter().flat_map(|text| text.split(";\n"));
        statements
            .filter(|statement| !is_empty(statement))
            .flat_map(|statement| layout.statements(statement))
            .collect()
    }
}

/// The kinds of events, each with a table of its own.
const EVENTS: [&str; 2] = ["clicks", "impressions"];

fn is_empty(statement: &str) -> bool {
    let mut lines = statement.lines().map(str::trim);
    lines.all(|line| line.is_empty() || line.starts_with("--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_have_consecutive_numbers_and_file_names() {
        for (migration, number) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.version, number);
            assert!(
                migration.name.starts_with(&format!("{number:04}_")),
                "{}",
                migration.name
            );
        }
    }

    /// The text after each `ADD COLUMN`.
    fn added(statement: &str) -> impl Iterator<Item = &str> {
        statement.split("ADD COLUMN ").skip(1)
    }

    #[test]
    fn every_statement_can_be_applied_twice() {
        for migration in MIGRATIONS {
            for statement in migration.statements("tracking", &Layout::Server) {
                let alters = statement.contains("ALTER TABLE tracking.");
                let repeatable = [
                    "IF NOT EXISTS tracking.",
                    "CREATE OR REPLACE VIEW tracking.",
                    "DROP VIEW IF EXISTS tracking.",
                ];
                assert!(
                    repeatable.iter().any(|it| statement.contains(it))
                        || (alters && added(&statement).all(|it| it.starts_with("IF NOT EXISTS"))),
                    "{statement}"
                );
            }
        }
    }
}
