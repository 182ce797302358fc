//! The tables of reports and the reasons of the quarantine. Metrics have a series for each.

/// Tables with a row for each evaluated report.
pub(crate) const REPORT_TABLES: [&str; 4] = [
    "conversions",
    "conversion_repeats",
    "kyc_events",
    "rejections",
];

/// The reasons for which events or batches are quarantined.
pub(crate) const QUARANTINE_REASONS: [&str; 7] = [
    "batch",
    "sequence",
    "time",
    "frame",
    "version",
    "malformed",
    "trailing_bytes",
];
