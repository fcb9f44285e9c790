//! Moments, as the API server writes them: RFC 3339, in UTC.

use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, macros::format_description};

/// Seconds since 1970 as RFC 3339, such as `2026-11-27T14:09:47Z`.
#[must_use]
pub fn timestamp(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
}

/// Seconds since 1970 of a moment as RFC 3339, or of the beginning of a day as `YYYY-MM-DD`; nothing for another text.
#[must_use]
pub fn seconds(text: &str) -> Option<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .or_else(|| Some(Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?.midnight().assume_utc()));
    u64::try_from(moment?.unix_timestamp()).ok()
}

/// The day of a moment.
#[must_use]
pub fn day(moment: &str) -> &str {
    moment.get(..10).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leap_days_and_year_ends_are_right() {
        for (moment, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (19_782 * 86_400, "2024-02-29T00:00:00Z"),
            (20_818 * 86_400 + 86_399, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp(moment), text);
            assert_eq!(seconds(text), Some(moment));
        }
        assert_eq!(seconds("2026-12-31"), Some(20_818 * 86_400));
        assert_eq!(seconds("2026-12-31T23:59:59.25+01:00"), Some(20_818 * 86_400 + 86_399 - 3600));
        assert_eq!(timestamp(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in ["", "yesterday", "2026-13-01", "1969-12-31", "2026-11-27T14:09"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
