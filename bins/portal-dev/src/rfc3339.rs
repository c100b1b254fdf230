//! Timestamps as text.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

/// The year 10000, the first that RFC 3339 cannot express.
const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);

/// Formats a timestamp as RFC 3339 in UTC with milliseconds; `None` outside of the years 1970 to
/// 9999.
pub(crate) fn text(time: Timestamp) -> Option<String> {
    let time = SystemTime::try_from(time).ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since < YEAR_10000).then(|| humantime::format_rfc3339_millis(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_formatted_in_utc_within_the_range_of_rfc_3339() {
        let at = |seconds, nanos| text(Timestamp { seconds, nanos });
        assert_eq!(at(0, 0).unwrap(), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_700_000_000, 5_000_000).unwrap(), "2023-11-14T22:13:20.005Z");
        assert_eq!(
            at(253_402_300_799, 999_999_999).unwrap(),
            "9999-12-31T23:59:59.999Z"
        );
        for (seconds, nanos) in [
            (-1, 0),
            (253_402_300_800, 0),
            (253_402_300_799, i32::MAX),
            (i64::MAX, i32::MAX),
            (i64::MIN, i32::MIN),
        ] {
            assert_eq!(at(seconds, nanos), None, "{seconds} {nanos}");
        }
    }
}
