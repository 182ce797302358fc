//! One MaxMind-format file: its record layout, the fields read from it, and its reload.

use super::Location;
use super::ranges::Ranges;
use arc_swap::ArcSwapOption;
use daemon::files::{FileVersion, WatchedFiles};
use maxminddb::{MaxMindDbError, PathElement, Reader};
use parking_lot::Mutex;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The number of networks of a new file that are searched for its field.
const PROBED_NETWORKS: usize = 10_000;

const NESTED_COUNTRY: &[PathElement<'_>] =
    &[PathElement::Key("country"), PathElement::Key("iso_code")];
const NESTED_REGION: &[PathElement<'_>] = &[
    PathElement::Key("subdivisions"),
    PathElement::Index(0),
    PathElement::Key("iso_code"),
];
const FLAT_COUNTRY: &[PathElement<'_>] = &[PathElement::Key("country_code")];
const ASN: &[PathElement<'_>] = &[PathElement::Key("autonomous_system_number")];

/// The field that a file provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// Country, and region where the file has it.
    Country,
    /// Autonomous system number.
    Asn,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Country => "country",
            Self::Asn => "asn",
        })
    }
}

/// The layout of a file's records; determined when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordLayout {
    /// `country.iso_code` and `subdivisions[0].iso_code`: GeoLite2, GeoIP2, DB-IP.
    Nested,
    /// `country_code` at the top.
    Flat,
    /// `autonomous_system_number` at the top.
    Asn,
}

/// Why a file is rejected.
#[derive(Debug, Error)]
pub(super) enum DatabaseError {
    #[error("{0} can't be read: {1}")]
    Unreadable(PathBuf, io::Error),
    #[error("{0} has {1} bytes, more than max_file_bytes")]
    TooLarge(PathBuf, u64),
    #[error("{0} changed while it was read; write a temporary file and rename it")]
    Changing(PathBuf),
    #[error("{0} is not a complete MaxMind-format file: {1}")]
    Malformed(PathBuf, MaxMindDbError),
    #[error("{0} (of type {1}) has no {2}; is it the right file?")]
    WrongKind(PathBuf, String, Field),
}

#[derive(Debug)]
struct LoadedFile {
    // In memory and not mapped: overwriting the file in place would truncate the mapping, and the SIGBUS would end
    // the whole edge.
    reader: Reader<Vec<u8>>,
    layout: RecordLayout,
    ipv4: Ranges,
}

/// A file that can be replaced during lookups.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    field: Field,
    max_bytes: u64,
    loaded: ArcSwapOption<LoadedFile>,
    watched: Mutex<WatchedFiles>,
}

impl Database {
    /// Reads the file, or returns the error. An existing file that can't be opened is tried again at each refresh, any
    /// other once it changes.
    pub(super) fn open(path: &Path, field: Field, max_bytes: u64) -> (Self, Option<DatabaseError>) {
        let database = Self {
            path: path.into(),
            field,
            max_bytes,
            loaded: ArcSwapOption::empty(),
            // Before the file is read, or a change may be missed.
            watched: Mutex::new(WatchedFiles::new([path])),
        };
        let problem = database.load().err();
        (database, problem)
    }

    /// Whether a replaced file was loaded; none if nothing changed.
    pub(super) fn refresh(&self) -> Option<bool> {
        if !self.watched.lock().changed() {
            return None;
        }
        Some(match self.load() {
            Ok(()) => {
                tracing::info!(path = %self.path.display(), "geo file reloaded");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "rejected a new geo file, keeping the active one");
                false
            }
        })
    }

    /// The build time of the loaded file, in seconds since 1970.
    pub(super) fn built(&self) -> Option<u64> {
        self.loaded
            .load()
            .as_ref()
            .map(|loaded| loaded.reader.metadata().build_epoch)
    }

    /// Adds the file's fields for `address` to `place`.
    pub(super) fn fill(&self, address: IpAddr, place: &mut Location) {
        if let Some(loaded) = self.loaded.load().as_ref() {
            // A damaged record in a file that passed validation: unknown, like a missing record.
            let _ = loaded.fill(address, place);
        }
    }

    fn load(&self) -> Result<(), DatabaseError> {
        let loaded = self.read();
        if let Err(DatabaseError::Unreadable(_, error)) = &loaded
            && error.kind() != io::ErrorKind::NotFound
        {
            self.watched.lock().report_again();
        }
        loaded
    }

    fn read(&self) -> Result<(), DatabaseError> {
        let unreadable = |error| DatabaseError::Unreadable(self.path.clone(), error);
        let mut file = File::open(&self.path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let (version, length) = (FileVersion::from(&metadata), metadata.len());
        if length > self.max_bytes {
            return Err(DatabaseError::TooLarge(self.path.clone(), length));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        (&mut file)
            .take(self.max_bytes)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if FileVersion::from(&file.metadata().map_err(unreadable)?) != version {
            return Err(DatabaseError::Changing(self.path.clone()));
        }
        let reader = Reader::from_source(bytes)
            .map_err(|error| DatabaseError::Malformed(self.path.clone(), error))?;
        let layout = shape_of(&reader, self.field)
            .map_err(|error| DatabaseError::Malformed(self.path.clone(), error))?
            .ok_or_else(|| {
                let kind = reader.metadata().database_type.clone();
                DatabaseError::WrongKind(self.path.clone(), kind, self.field)
            })?;
        let ipv4 = Ranges::of(&reader, |address| {
            let mut place = Location::default();
            let _ = layout.fill(&reader, address, &mut place);
            place
        });
        self.loaded.store(Some(Arc::new(LoadedFile {
            reader,
            layout,
            ipv4,
        })));
        Ok(())
    }
}

impl LoadedFile {
    fn fill(&self, address: IpAddr, place: &mut Location) -> Result<(), MaxMindDbError> {
        match address {
            IpAddr::V4(address) => {
                place.merge(self.ipv4.lookup(address));
                Ok(())
            }
            IpAddr::V6(_) if self.reader.metadata().ip_version == 4 => Ok(()),
            IpAddr::V6(_) => self.layout.fill(&self.reader, address, place),
        }
    }
}

impl RecordLayout {
    fn fill(
        self,
        reader: &Reader<Vec<u8>>,
        address: IpAddr,
        place: &mut Location,
    ) -> Result<(), MaxMindDbError> {
        let record = reader.lookup(address)?;
        match self {
            Self::Nested => {
                place.set_country(record.decode_path(NESTED_COUNTRY)?.unwrap_or_default());
                place.set_region(record.decode_path(NESTED_REGION)?.unwrap_or_default());
            }
            Self::Flat => {
                place.set_country(record.decode_path(FLAT_COUNTRY)?.unwrap_or_default());
            }
            Self::Asn => place.asn = record.decode_path(ASN)?.unwrap_or_default(),
        }
        Ok(())
    }
}

/// The layout of the first record that has the field; none when no record does.
fn shape_of(
    reader: &Reader<Vec<u8>>,
    field: Field,
) -> Result<Option<RecordLayout>, MaxMindDbError> {
    for record in reader.networks(Default::default())?.take(PROBED_NETWORKS) {
        let record = record?;
        match field {
            Field::Asn if record.decode_path::<u32>(ASN)?.is_some() => {
                return Ok(Some(RecordLayout::Asn));
            }
            Field::Country if record.decode_path::<&str>(FLAT_COUNTRY)?.is_some() => {
                return Ok(Some(RecordLayout::Flat));
            }
            // Checked last: a flat file may have a text under `country`, which has no nested path.
            Field::Country => {
                if let Ok(Some(_)) = record.decode_path::<&str>(NESTED_COUNTRY) {
                    return Ok(Some(RecordLayout::Nested));
                }
            }
            Field::Asn => {}
        }
    }
    Ok(None)
}
