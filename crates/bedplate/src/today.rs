//! The day, for exemptions that expire. The only place that reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Today in UTC, as `YYYY-MM-DD`.
pub(crate) fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    day(seconds / 86_400)
}

/// A moment in UTC, as `YYYY-MM-DD HH:MM:SS`.
pub(crate) fn moment(since_1970: u64) -> String {
    let second = since_1970 % 86_400;
    format!("{} {:02}:{:02}:{:02}", day(since_1970 / 86_400), second / 3600, second / 60 % 60, second % 60)
}

/// A day since 1970 by the proleptic Gregorian calendar (H. Hinnant, `civil_from_days`).
fn day(since_1970: u64) -> String {
    let z = since_1970 + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{:02}", doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn leap_days_and_year_ends_are_right() {
        assert_eq!(super::day(0), "1970-01-01");
        assert_eq!(super::day(19_782), "2024-02-29");
        assert_eq!(super::day(20_818), "2026-12-31");
        assert_eq!(super::moment(20_818 * 86_400 + 86_399), "2026-12-31 23:59:59");
    }
}
