//! Numbered faults of requests, each with the field that it is about.

use sql_store::{IsConflict, SqlError};
use std::fmt;
use thiserror::Error;

/// What a client can do about a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// Correct the request.
    Correct,
    /// Choose another id: the object does not exist in the network.
    Find,
    /// Read the present state, then decide again.
    Reread,
}

numbered_reasons::numbered_reasons! {
    /// Why a request to the catalog is refused. Numbers never change their meaning.
    pub enum Reason: Remedy;

    /// The network has no such object. Correct the id.
    NotFound = 1001, "object_not_found", Remedy::Find;
    /// The object has another revision than the one that was changed. Read it again, and repeat the change.
    RevisionConflict = 1002, "revision_conflict", Remedy::Reread;
    /// Another object has this name, slug or domain. Choose another one.
    NameTaken = 1003, "name_taken", Remedy::Reread;
    /// The status can't follow the present one. The text names the possible ones.
    StatusNotPossible = 1004, "status_not_possible", Remedy::Reread;
    /// The status needs a reason of 1 to 500 characters.
    ReasonMissing = 1005, "reason_missing", Remedy::Correct;
    /// An object that is referred to does not exist in the network, or is archived. Choose another one.
    UnknownReference = 1006, "unknown_reference", Remedy::Correct;
    /// The object belongs to another offer, affiliate or campaign than its parent. Choose one of the parent's.
    ForeignReference = 1007, "foreign_reference", Remedy::Correct;
    /// A parent can't be changed after creation. Archive the object, and create another one.
    FixedReference = 1008, "fixed_reference", Remedy::Correct;
    /// An archived object can't be changed. Create another one.
    Archived = 1009, "archived", Remedy::Reread;
    /// The domain is in use by links, so the network can't give it up. Archive the links first.
    DomainInUse = 1010, "domain_in_use", Remedy::Reread;
    /// The domain is not one of the network's. Add it to the network first.
    UnknownDomain = 1011, "unknown_domain", Remedy::Correct;
    /// A network can only be created by an administrator of the installation, and only networks outside one.
    OutsideNetwork = 1012, "outside_network", Remedy::Find;
    /// The id was used before, or is above 4,000,000,000. Leave it out for the next free one.
    IdTaken = 1013, "id_taken", Remedy::Correct;
    /// Only links of the default network are served on every domain. Name a domain of the network.
    DomainMissing = 1014, "domain_missing", Remedy::Correct;
    /// The default network can't be archived.
    NeedsDefaultNetwork = 1015, "needs_default_network", Remedy::Correct;

    /// A name has 1 to 120 characters without control or invisible ones, and no white space at its ends.
    InvalidName = 1020, "invalid_name", Remedy::Correct;
    /// A text is too long, or contains control characters.
    InvalidText = 1021, "invalid_text", Remedy::Correct;
    /// A slug has 1 to 64 of the characters A-Z a-z 0-9 - _ .
    InvalidSlug = 1022, "invalid_slug", Remedy::Correct;
    /// A domain is a host name without port, such as `go.example.com`.
    InvalidDomain = 1023, "invalid_domain", Remedy::Correct;
    /// A URL must be http or https, without macros in its host.
    InvalidUrl = 1024, "invalid_url", Remedy::Correct;
    /// A currency is a code of ISO 4217 with minor units, such as `EUR`.
    InvalidCurrency = 1025, "invalid_currency", Remedy::Correct;
    /// A time zone is a name of the IANA database, such as `Europe/Oslo`.
    InvalidTimeZone = 1026, "invalid_time_zone", Remedy::Correct;
    /// A country is a code of ISO 3166-1, such as `NO`.
    InvalidCountry = 1027, "invalid_country", Remedy::Correct;
    /// A number is out of its range.
    OutOfRange = 1028, "out_of_range", Remedy::Correct;
    /// A list has too many or too few entries.
    WrongCount = 1029, "wrong_count", Remedy::Correct;
    /// A list has an entry twice.
    Repeated = 1030, "repeated_entry", Remedy::Correct;
    /// A period ends before it begins.
    InvalidPeriod = 1031, "invalid_period", Remedy::Correct;
    /// A word is not one of the known ones.
    UnknownWord = 1032, "unknown_word", Remedy::Correct;
    /// Two fields contradict each other.
    Contradiction = 1033, "contradiction", Remedy::Correct;

    /// Other terms of the owner are in force in this period. Begin after them, or end them.
    TermsOverlap = 1040, "terms_overlap", Remedy::Correct;
    /// Terms can't begin, or be ended, in the past: clicks were already made under the earlier ones.
    TermsInPast = 1041, "terms_in_past", Remedy::Correct;
    /// Terms that have been in force are kept. End them instead.
    TermsInForce = 1042, "terms_in_force", Remedy::Reread;
    /// The time is not before the catalog's clock, so terms may still begin then. Ask for an earlier one, or move the
    /// clock.
    NotFinal = 1043, "not_final", Remedy::Reread;

    /// A secret has 16 to 1,024 bytes.
    InvalidSecret = 1050, "invalid_secret", Remedy::Correct;
    /// The object's settings name no such secret.
    UnknownSecret = 1051, "unknown_secret", Remedy::Correct;

    /// The cursor was altered, or belongs to another list. Start again without one.
    InvalidCursor = 1060, "invalid_cursor", Remedy::Correct;
}

/// A fault of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its number.
    pub reason: Reason,
    /// The field in the request, as a JSON pointer (RFC 6901), such as `/destinations/0/url`; empty for the whole.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "" } else { ": " };
        let (pointer, message, number) = (&self.pointer, &self.message, self.reason.number());
        write!(f, "{pointer}{place}{message} (reason {number})")
    }
}

/// A request was refused, or the database failed.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The request is refused for these reasons, at least one. Nothing was changed.
    #[error("{}", list(.0))]
    Refused(Vec<Fault>),
    /// The database can't be used now.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A stored object can't be read.
    #[error("{kind} {id} can't be read from the store: {cause}; restore it from a backup")]
    Unreadable {
        /// The kind of the object.
        kind: &'static str,
        /// Its id.
        id: u32,
        /// The parser's error.
        cause: serde_json::Error,
    },
    /// All ids of a kind are used.
    #[error("no {0} can be created: all ids are used")]
    IdsExhausted(&'static str),
}

impl CatalogError {
    /// A refusal for one reason.
    #[must_use]
    pub fn refused(reason: Reason, pointer: &str, message: impl Into<String>) -> Self {
        let mut faults = Faults::default();
        faults.add(reason, pointer, message);
        Self::Refused(faults.found)
    }

    /// The faults of a refused request.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Refused(faults) => faults,
            _ => &[],
        }
    }
}

impl IsConflict for CatalogError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Sql(error) if error.is_conflict())
    }
}

/// Checks how many objects a request asks for.
pub(crate) fn check_limit(limit: usize, most: usize) -> Result<(), CatalogError> {
    if (1..=most).contains(&limit) {
        return Ok(());
    }
    let message = format!("the limit is {limit}; 1 to {most} are possible");
    Err(CatalogError::refused(Reason::OutOfRange, "/limit", message))
}

fn list(faults: &[Fault]) -> String {
    let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
    faults.join("; ")
}

/// The faults that were found in a request so far.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The pointer to the object within the request; empty if it is the request.
    base: String,
    found: Vec<Fault>,
}

impl Faults {
    /// The pointers of the faults that follow start with `/{row}`.
    pub(crate) fn enter_row(&mut self, row: usize) {
        self.base = format!("/{row}");
    }

    /// Adds a fault at `pointer`.
    pub(crate) fn add(&mut self, reason: Reason, pointer: &str, message: impl Into<String>) {
        self.found.push(Fault {
            reason,
            pointer: format!("{}{pointer}", self.base),
            message: message.into(),
        });
    }

    /// Adds faults of the present row.
    pub(crate) fn append(&mut self, faults: Vec<Fault>) {
        for fault in faults {
            self.add(fault.reason, &fault.pointer, fault.message);
        }
    }

    /// Adds a fault unless `holds`.
    pub(crate) fn require(&mut self, holds: bool, reason: Reason, pointer: &str, message: &str) {
        if !holds {
            self.add(reason, pointer, message);
        }
    }

    /// Succeeds if there are none.
    pub(crate) fn finish(&mut self) -> Result<(), CatalogError> {
        match std::mem::take(&mut self.found) {
            found if found.is_empty() => Ok(()),
            found => Err(CatalogError::Refused(found)),
        }
    }
}
