//! Between which times a clock can be right.

use tracking_events::Micros;

const MICROS_PER_SECOND: u64 = 1_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
const MAX_AGE_YEARS: u64 = 20;
/// The machine that built the program may be in another time zone, or a little ahead.
const BUILD_CLOCK_TOLERANCE_SECONDS: u64 = SECONDS_PER_DAY;

const BUILD_SECONDS: u64 = match u64::from_str_radix(env!("BUILD_SECONDS"), 10) {
    Ok(seconds) => seconds,
    Err(_) => panic!("build.rs writes a number"),
};

/// The earliest time that a clock can be right about: a day before the program was built.
pub const EARLIEST: Micros =
    Micros(BUILD_SECONDS.saturating_sub(BUILD_CLOCK_TOLERANCE_SECONDS) * MICROS_PER_SECOND);

/// The latest one: no build is run for as long.
pub const LATEST: Micros =
    Micros(EARLIEST.0 + MAX_AGE_YEARS * 366 * SECONDS_PER_DAY * MICROS_PER_SECOND);

/// Whether a clock that shows `time` can be right.
pub(crate) const fn contain(time: Micros) -> bool {
    EARLIEST.0 <= time.0 && time.0 <= LATEST.0
}

/// The bounds, for people.
pub(crate) fn shown_range() -> String {
    format!(
        "{} to {} (the build date and 20 years after it)",
        shown(EARLIEST),
        shown(LATEST)
    )
}

/// A day in UTC, such as 2026-11-30. (After Howard Hinnant's `civil_from_days`.)
pub(crate) fn shown(time: Micros) -> String {
    let days = time.0 / MICROS_PER_SECOND / SECONDS_PER_DAY + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (year, month + 3),
        _ => (year + 1, month - 9),
    };
    format!("{:04}-{month:02}-{day:02}", year + era * 400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_shown_as_the_calendar_has_them() {
        let shown = |seconds: u64| super::shown(Micros(seconds * MICROS_PER_SECOND));
        assert_eq!(shown(0), "1970-01-01");
        assert_eq!(shown(951_782_400), "2000-02-29");
        assert_eq!(shown(1_796_083_199), "2026-11-30");
        assert_eq!(shown(4_102_444_800), "2100-01-01");
    }

    #[test]
    fn present_is_within_the_bounds() {
        assert!(contain(Micros::now()));
        assert!(!contain(Micros(0)) && !contain(Micros(u64::MAX)));
    }
}
