//! The deadlines of a login.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// Part of the helper's own deadline that is reserved for the response.
const RESPONSE_MARGIN: Duration = Duration::from_millis(50);
/// The largest distance of a helper's deadline: one further away was set by another clock, such as
/// that of another time namespace, and is ignored. No helper waits longer.
const MAX_DISTANCE: Duration = Duration::from_hours(1);

/// Until when a login is decided, and until when its response is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) decide_by: Instant,
    /// The helper's deadline; `None` for a helper that names none.
    awaited_until: Option<Instant>,
}

/// The helper's deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLate;

impl Times {
    /// The deadlines of a login that was accepted at `arrived`: `limit` after that, or
    /// [`RESPONSE_MARGIN`] before the helper's.
    pub(super) fn of(request: &ipc::Request, arrived: Instant, limit: Duration) -> Result<Self, TooLate> {
        let left = left(request, clock::boottime())?;
        let now = clock::now();
        let helper = left.map(|left| now + left.saturating_sub(RESPONSE_MARGIN));
        let agent = arrived + limit;
        Ok(Self {
            decide_by: helper.map_or(agent, |helper| helper.min(agent)),
            awaited_until: left.map(|left| now + left),
        })
    }

    /// Whether the helper still waits for the response.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited_until.is_none_or(|until| clock::now() < until)
    }
}

/// The time that the helper still waits, where it says so: `answer_by_boottime_ms` counts from when
/// the helper started, and so also the time that its request waited to be read. It only ever
/// shortens `deadline_ms`.
fn left(request: &ipc::Request, since_boot: Option<Duration>) -> Result<Option<Duration>, TooLate> {
    let stated = request.deadline_ms.map(Duration::from_millis);
    let stated = stated.map(|left| left.min(MAX_DISTANCE));
    let answer_by = request.answer_by_boottime_ms.map(Duration::from_millis);
    let (Some(answer_by), Some(now)) = (answer_by, since_boot) else {
        return Ok(stated);
    };
    if answer_by.abs_diff(now) > MAX_DISTANCE {
        return Ok(stated);
    }
    match answer_by.checked_sub(now) {
        Some(left) if !left.is_zero() => Ok(Some(stated.map_or(left, |stated| stated.min(left)))),
        _ => Err(TooLate),
    }
}

#[cfg(test)]
mod tests;
