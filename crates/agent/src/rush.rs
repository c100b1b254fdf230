//! Logins go first: what can wait is done when no login has come for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// How long no login has to come for a rush to be over. ocserv itself needs longer for one: only when several of its
/// clients are through at once is there a rush at all.
const LULL: Duration = Duration::from_millis(5);

/// When the last login came. Clones share it.
#[derive(Debug, Clone)]
pub struct Rush(Arc<Last>);

#[derive(Debug)]
struct Last {
    begin: Instant,
    /// In microseconds since `begin`; zero before the first login.
    login: AtomicU64,
}

impl Default for Rush {
    fn default() -> Self {
        Self(Arc::new(Last {
            begin: clock::now(),
            login: AtomicU64::new(0),
        }))
    }
}

impl Rush {
    /// A login came at `now`.
    pub fn login(&self, now: Instant) {
        let since = now.saturating_duration_since(self.0.begin).as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX).max(1);
        self.0.login.fetch_max(since, Ordering::Relaxed);
    }

    /// When the rush will be over if no further login comes; `None` when there is none at `now`.
    #[must_use]
    pub fn until(&self, now: Instant) -> Option<Instant> {
        let micros = self.0.login.load(Ordering::Relaxed);
        let until = self.0.begin + Duration::from_micros(micros) + LULL;
        (micros > 0 && until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rush_lasts_until_no_login_has_come_for_a_moment() {
        let rush = Rush::default();
        let begin = clock::now() + LULL;
        assert_eq!(rush.until(begin), None, "no login has ever come");
        rush.login(begin);
        let over = rush.until(begin).unwrap();
        assert!(over > begin && over <= begin + LULL);
        rush.login(begin + LULL / 2);
        assert!(rush.until(over).is_some(), "another login came");
        assert_eq!(rush.until(begin + 2 * LULL), None);
    }
}
