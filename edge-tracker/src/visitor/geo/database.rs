//! One MaxMind-format file: its shape, the fields read from it, and its replacement.

use super::Place;
use super::ranges::Ranges;
use arc_swap::ArcSwapOption;
use maxminddb::{MaxMindDbError, PathElement, Reader};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// How many networks of a new file are looked at before it is said to lack its field.
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

/// What a file is asked for.
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

/// How a file's records are laid out; found out once, when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `country.iso_code` and `subdivisions[0].iso_code`: GeoLite2, GeoIP2, DB-IP.
    Nested,
    /// `country_code` at the top.
    Flat,
    /// `autonomous_system_number` at the top.
    Asn,
}

/// Why a file is not used.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    #[error("{0} can't be read: {1}")]
    Unreadable(PathBuf, io::Error),
    #[error("{0} has {1} bytes, more than max_file_bytes")]
    TooLarge(PathBuf, u64),
    #[error("{0} changed while it was read; write beside it and rename")]
    Changing(PathBuf),
    #[error("{0} is not a whole MaxMind-format file: {1}")]
    Malformed(PathBuf, MaxMindDbError),
    #[error("{0} (of type {1}) says nothing about the {2}; is it the right file?")]
    WrongKind(PathBuf, String, Field),
}

/// A file's identity: any of these differs after a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

#[derive(Debug)]
struct Loaded {
    // In memory and not mapped: an operator who copies a new file onto the old one truncates the
    // mapping under us, and the SIGBUS would take the whole edge down.
    reader: Reader<Vec<u8>>,
    shape: Shape,
    ipv4: Ranges,
}

/// A file that can be replaced while it is looked up.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    field: Field,
    max_bytes: u64,
    loaded: ArcSwapOption<Loaded>,
    /// What was last tried, loaded or refused; `None` when there was no file.
    tried: Mutex<Option<Stamp>>,
}

impl Database {
    /// Reads the file if it is there and good, else says what is wrong; a later refresh may find
    /// it.
    pub(super) fn open(path: &Path, field: Field, max_bytes: u64) -> (Self, Option<Refusal>) {
        let database = Self {
            path: path.into(),
            field,
            max_bytes,
            loaded: ArcSwapOption::empty(),
            tried: Mutex::new(None),
        };
        let mut tried = None;
        let problem = database.load(&mut tried).err();
        (
            Self {
                tried: Mutex::new(tried),
                ..database
            },
            problem,
        )
    }

    /// Whether a replaced file was taken up; none if nothing changed.
    pub(super) fn refresh(&self) -> Option<bool> {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let present = fs::metadata(&self.path).ok().as_ref().map(Stamp::of);
        if present == *tried {
            return None;
        }
        Some(match self.load(&mut tried) {
            Ok(()) => {
                tracing::info!(path = %self.path.display(), "took up a new geo file");
                true
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "a new geo file is refused, the last good one stays");
                false
            }
        })
    }

    /// When the loaded file was built, in seconds since 1970.
    pub(super) fn built(&self) -> Option<u64> {
        self.loaded
            .load()
            .as_ref()
            .map(|loaded| loaded.reader.metadata().build_epoch)
    }

    /// Writes what the file says of `address` into `place`.
    pub(super) fn fill(&self, address: IpAddr, place: &mut Place) {
        if let Some(loaded) = self.loaded.load().as_ref() {
            // A damaged record in a file that was good at first sight: unknown, like no record.
            let _ = loaded.fill(address, place);
        }
    }

    fn load(&self, tried: &mut Option<Stamp>) -> Result<(), Refusal> {
        *tried = None;
        let unreadable = |error| Refusal::Unreadable(self.path.clone(), error);
        let mut file = File::open(&self.path).map_err(unreadable)?;
        let stamp = Stamp::of(&file.metadata().map_err(unreadable)?);
        *tried = Some(stamp);
        if stamp.len > self.max_bytes {
            return Err(Refusal::TooLarge(self.path.clone(), stamp.len));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(stamp.len).unwrap_or_default());
        (&mut file)
            .take(self.max_bytes)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if Stamp::of(&file.metadata().map_err(unreadable)?) != stamp {
            return Err(Refusal::Changing(self.path.clone()));
        }
        let reader = Reader::from_source(bytes)
            .map_err(|error| Refusal::Malformed(self.path.clone(), error))?;
        let shape = shape_of(&reader, self.field)
            .map_err(|error| Refusal::Malformed(self.path.clone(), error))?
            .ok_or_else(|| {
                let kind = reader.metadata().database_type.clone();
                Refusal::WrongKind(self.path.clone(), kind, self.field)
            })?;
        let ipv4 = Ranges::of(&reader, |address| {
            let mut place = Place::default();
            let _ = shape.fill(&reader, address, &mut place);
            place
        });
        self.loaded.store(Some(Arc::new(Loaded {
            reader,
            shape,
            ipv4,
        })));
        Ok(())
    }
}

impl Loaded {
    fn fill(&self, address: IpAddr, place: &mut Place) -> Result<(), MaxMindDbError> {
        match address {
            IpAddr::V4(address) => {
                place.add(self.ipv4.lookup(address));
                Ok(())
            }
            IpAddr::V6(_) if self.reader.metadata().ip_version == 4 => Ok(()),
            IpAddr::V6(_) => self.shape.fill(&self.reader, address, place),
        }
    }
}

impl Shape {
    fn fill(
        self,
        reader: &Reader<Vec<u8>>,
        address: IpAddr,
        place: &mut Place,
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

/// The shape of the first record that has the field; none when no record does.
fn shape_of(reader: &Reader<Vec<u8>>, field: Field) -> Result<Option<Shape>, MaxMindDbError> {
    for record in reader.networks(Default::default())?.take(PROBED_NETWORKS) {
        let record = record?;
        match field {
            Field::Asn if record.decode_path::<u32>(ASN)?.is_some() => {
                return Ok(Some(Shape::Asn));
            }
            Field::Country if record.decode_path::<&str>(FLAT_COUNTRY)?.is_some() => {
                return Ok(Some(Shape::Flat));
            }
            // Asked last: a flat file may have a text under `country`, where a path can't go.
            Field::Country => {
                if let Ok(Some(_)) = record.decode_path::<&str>(NESTED_COUNTRY) {
                    return Ok(Some(Shape::Nested));
                }
            }
            Field::Asn => {}
        }
    }
    Ok(None)
}
