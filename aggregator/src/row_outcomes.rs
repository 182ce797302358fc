//! Where an event can end up: a table of reports, or the quarantine for one of its reasons. Metrics have a series
//! for each.

/// Tables with a row for each evaluated report.
pub(crate) const REPORT_TABLES: [&str; 4] = [
    "conversions",
    "conversion_repeats",
    "kyc_events",
    "rejections",
];

/// All reasons for which an event or batch is quarantined.
pub(crate) const QUARANTINE_REASONS: [&str; 7] = [
    "batch",
    "sequence",
    "time",
    "frame",
    "version",
    "malformed",
    "trailing_bytes",
];
