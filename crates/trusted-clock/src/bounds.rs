//! The range of plausible times.

use domain::Micros;

const MICROS_PER_SECOND: u64 = 1_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
const MAX_AGE_YEARS: u64 = 20;
/// The build machine's clock may be in another time zone, or a little ahead.
const BUILD_TIME_TOLERANCE_SECONDS: u64 = SECONDS_PER_DAY;

const BUILD_SECONDS: u64 = match u64::from_str_radix(env!("BUILD_SECONDS"), 10) {
    Ok(seconds) => seconds,
    Err(_) => panic!("build.rs writes a number"),
};

/// The earliest plausible time: a day before the program was built.
pub const EARLIEST_TIME: Micros =
    Micros(BUILD_SECONDS.saturating_sub(BUILD_TIME_TOLERANCE_SECONDS) * MICROS_PER_SECOND);

/// The latest plausible time: no build is in use that long.
pub const LATEST_TIME: Micros =
    Micros(EARLIEST_TIME.0 + MAX_AGE_YEARS * 366 * SECONDS_PER_DAY * MICROS_PER_SECOND);

/// Whether `time` is plausible.
pub(crate) const fn contain(time: Micros) -> bool {
    EARLIEST_TIME.0 <= time.0 && time.0 <= LATEST_TIME.0
}

/// The range as text.
pub(crate) fn format_range() -> String {
    format!(
        "{} to {} (the build date and 20 years after it)",
        format_date(EARLIEST_TIME),
        format_date(LATEST_TIME)
    )
}

/// The date in UTC, such as 2026-11-30, by Howard Hinnant's `civil_from_days`.
pub(crate) fn format_date(time: Micros) -> String {
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
    fn dates_follow_the_calendar() {
        let shown = |seconds: u64| super::format_date(Micros(seconds * MICROS_PER_SECOND));
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
