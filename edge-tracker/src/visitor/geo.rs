//! Locates addresses: country, region and autonomous system, from MaxMind-format files.
//!
//! Files are read completely, indexed, queried without allocation and reloaded while serving. Downloads never belong
//! here: the operator updates the files.

mod database;
mod ranges;

use daemon::settings::ByteSize;
use database::{Database, Field};
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::PathBuf;

/// The files for locating addresses. Each may be absent; its fields are then unknown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GeoSettings {
    /// A country or city file in MaxMind's format (GeoLite2, GeoIP2, DB-IP or flat with `country_code`); also accepted
    /// under the key `city`. Checked for changes every 5 s.
    #[serde(alias = "city")]
    pub country: Option<PathBuf>,
    /// A file of autonomous systems in the same format.
    pub asn: Option<PathBuf>,
    /// The maximum size of a file: it is held in memory, twice during a reload.
    pub max_file_bytes: ByteSize,
}

impl Default for GeoSettings {
    fn default() -> Self {
        Self {
            country: None,
            asn: None,
            max_file_bytes: ByteSize(1 << 30),
        }
    }
}

/// The location of an address. Small and owned, so that a lookup allocates nothing and holds no file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Location {
    /// ISO 3166-1 alpha-2 code in capitals, or two NUL bytes when unknown.
    pub country: [u8; 2],
    /// Autonomous system number, or 0.
    pub asn: u32,
    region: [u8; 3],
    region_len: u8,
}

/// The geo files; shared by all workers, looked up without locks.
#[derive(Debug)]
pub struct Geo {
    country: Option<Database>,
    asn: Option<Database>,
}

impl Location {
    /// ISO 3166-2 subdivision code without the country (one to three characters), or empty.
    #[must_use]
    pub fn region(&self) -> &str {
        std::str::from_utf8(&self.region[..usize::from(self.region_len)]).unwrap_or_default()
    }

    /// The location as events store it.
    #[must_use]
    pub fn as_event(&self) -> tracking_events::Geo<'_> {
        tracking_events::Geo {
            country: self.country,
            region: self.region(),
            asn: self.asn,
        }
    }

    /// Adds the known fields of `found`.
    fn merge(&mut self, found: Self) {
        if found.country != [0; 2] {
            self.country = found.country;
        }
        if found.asn != 0 {
            self.asn = found.asn;
        }
        if found.region_len != 0 {
            (self.region, self.region_len) = (found.region, found.region_len);
        }
    }

    fn set_country(&mut self, code: &str) {
        if let [a, b] = code.as_bytes()
            && a.is_ascii_alphabetic()
            && b.is_ascii_alphabetic()
        {
            self.country = [a.to_ascii_uppercase(), b.to_ascii_uppercase()];
        }
    }

    fn set_region(&mut self, code: &str) {
        let bytes = code.as_bytes();
        if matches!(bytes.len(), 1..=3) && bytes.iter().all(u8::is_ascii_alphanumeric) {
            self.region[..bytes.len()].copy_from_slice(bytes);
            self.region_len = u8::try_from(bytes.len()).expect("at most three");
        }
    }
}

/// The numbers of reloaded and of rejected files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshResult {
    /// Active from now on.
    pub loaded: usize,
    /// Rejected; the active versions are kept.
    pub refused: usize,
}

/// Reads the files of `settings`, and returns for each whether it is valid.
#[must_use]
pub fn check(settings: &GeoSettings) -> Vec<Result<String, String>> {
    let check = |path: &Option<PathBuf>, field: Field| {
        let path = path.as_deref()?;
        let (_, problem) = Database::open(path, field, settings.max_file_bytes.0);
        let fine = format!("{}: fine, {field}", path.display());
        Some(problem.map_or(Ok(fine), |problem| Err(format!("{field}: {problem}"))))
    };
    let checked = [
        check(&settings.country, Field::Country),
        check(&settings.asn, Field::Asn),
    ];
    checked.into_iter().flatten().collect()
}

impl Geo {
    /// Reads the files of `settings`; blocks until they are loaded.
    ///
    /// A missing or invalid file does not prevent the start: visitors are redirected without a location, too. One
    /// warning names all unknown fields.
    #[must_use]
    pub fn open(settings: &GeoSettings) -> Self {
        let mut missing = Vec::new();
        let mut open = |path: &Option<PathBuf>, field: Field| {
            let Some(path) = path else {
                missing.push(format!("{field}: no file is configured"));
                return None;
            };
            let (database, problem) = Database::open(path, field, settings.max_file_bytes.0);
            missing.extend(problem.map(|problem| format!("{field}: {problem}")));
            Some(database)
        };
        let country = open(&settings.country, Field::Country);
        let asn = open(&settings.asn, Field::Asn);
        if !missing.is_empty() {
            tracing::warn!(
                missing = missing.join("; "),
                "some geo fields will be unknown"
            );
        }
        Self { country, asn }
    }

    /// The location of `address`; fields that no file has are unknown.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Location {
        let address = address.to_canonical();
        let mut place = Location::default();
        for database in self.country.iter().chain(&self.asn) {
            database.fill(address, &mut place);
        }
        place
    }

    /// Reloads replaced files. To be called every few seconds from a thread that may block; costs a `stat` per file when
    /// nothing changed.
    ///
    /// An invalid new file is rejected with one warning, and the active one is kept.
    #[must_use]
    pub fn refresh(&self) -> RefreshResult {
        let databases = self.country.iter().chain(&self.asn);
        let outcomes: Vec<bool> = databases.filter_map(Database::refresh).collect();
        let loaded = outcomes.iter().filter(|is_loaded| **is_loaded).count();
        RefreshResult {
            loaded,
            refused: outcomes.len() - loaded,
        }
    }

    /// The build times of the loaded files: country or city file, then autonomous systems, in seconds since 1970.
    #[must_use]
    pub fn built(&self) -> [Option<u64>; 2] {
        [&self.country, &self.asn].map(|database| database.as_ref().and_then(Database::built))
    }
}

#[cfg(test)]
mod mmdb;
#[cfg(test)]
mod tests;
