//! When certificates expire.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use x509_parser::time::ASN1Time;

const DAY: Duration = Duration::from_hours(24);

/// When the first certificate in a file expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The file.
    pub path: PathBuf,
    /// The last second in which the certificate is valid.
    pub at: SystemTime,
}

/// How near an expiry is, when it is near; later stages are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExpiryStage {
    /// Within 30 days.
    Month,
    /// Within 7 days.
    Week,
    /// Within a day.
    Day,
    /// The certificate has expired.
    Expired,
}

impl Expiry {
    /// Returns the stage at `now`; `None` while the expiry is further than 30 days.
    #[must_use]
    pub fn stage(&self, now: SystemTime) -> Option<ExpiryStage> {
        let Ok(left) = self.at.duration_since(now) else {
            return Some(ExpiryStage::Expired);
        };
        let stages = [
            (DAY, ExpiryStage::Day),
            (7 * DAY, ExpiryStage::Week),
            (30 * DAY, ExpiryStage::Month),
        ];
        stages
            .into_iter()
            .find(|(within, _)| left <= *within)
            .map(|(_, stage)| stage)
    }

    /// Describes the expiry as seen at `now`, a fragment that fits after the certificate's name:
    /// `expires in 6 days, on 2026-01-31`.
    #[must_use]
    pub fn describe(&self, now: SystemTime) -> String {
        let on = self.day();
        match self
            .at
            .duration_since(now)
            .map(|left| left.as_secs() / DAY.as_secs())
        {
            Err(_) => format!("expired on {on}"),
            Ok(0) => format!("expires in less than a day, on {on}"),
            Ok(1) => format!("expires in a day, on {on}"),
            Ok(days) => format!("expires in {days} days, on {on}"),
        }
    }

    /// Returns the day as in `2026-01-31`, UTC.
    pub(crate) fn day(&self) -> String {
        let since = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        ASN1Time::from_timestamp(seconds).map_or_else(|_| "an unknown day".to_owned(), day)
    }
}

/// Formats the day as in `2026-01-31`, UTC.
pub(crate) fn day(time: ASN1Time) -> String {
    time.to_datetime().date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_has_a_stage_and_a_description_by_the_time_that_is_left() {
        let at = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let expiry = Expiry {
            path: "cert.pem".into(),
            at,
        };
        let second = Duration::from_secs(1);
        for (left, stage, text) in [
            (30 * DAY + second, None, "expires in 30 days, on 2024-10-04"),
            (
                30 * DAY,
                Some(ExpiryStage::Month),
                "expires in 30 days, on 2024-10-04",
            ),
            (
                7 * DAY + second,
                Some(ExpiryStage::Month),
                "expires in 7 days, on 2024-10-04",
            ),
            (
                7 * DAY,
                Some(ExpiryStage::Week),
                "expires in 7 days, on 2024-10-04",
            ),
            (
                DAY + second,
                Some(ExpiryStage::Week),
                "expires in a day, on 2024-10-04",
            ),
            (DAY, Some(ExpiryStage::Day), "expires in a day, on 2024-10-04"),
            (
                DAY - second,
                Some(ExpiryStage::Day),
                "expires in less than a day, on 2024-10-04",
            ),
            (
                Duration::ZERO,
                Some(ExpiryStage::Day),
                "expires in less than a day, on 2024-10-04",
            ),
        ] {
            assert_eq!(expiry.stage(at - left), stage, "{left:?}");
            assert_eq!(expiry.describe(at - left), text, "{left:?}");
        }
        assert_eq!(expiry.stage(at + second), Some(ExpiryStage::Expired));
        assert_eq!(expiry.describe(at + second), "expired on 2024-10-04");
        assert!(ExpiryStage::Month < ExpiryStage::Week && ExpiryStage::Day < ExpiryStage::Expired);
    }
}
