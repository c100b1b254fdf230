//! Who decides a login: the portal, and nobody else.

use std::time::Duration;

use model::{Decision, DenyCode, Login, Source, Verdict};
use portal::Portal;
use tokio::time::Instant;

use crate::clock;

/// Decides logins. Clones share what stands behind it.
#[derive(Clone)]
pub(crate) struct Logins {
    portal: Portal,
}

impl Logins {
    /// Asks `portal`.
    #[must_use]
    pub(crate) fn new(portal: Portal) -> Self {
        Self { portal }
    }

    /// Decides `login` by `deadline`. Without an answer of the portal the client is kept out.
    pub(crate) async fn decide(&self, login: &Login, deadline: Instant) -> Decision {
        let (verdict, source) = match self.portal.check_policy(login, deadline, clock::wall()).await {
            Ok(answer) => (answer.verdict, Source::Portal),
            Err(error) => match error.refusal() {
                Some(refusal) => (Verdict::Deny(refusal), Source::Portal),
                None => (
                    Verdict::deny(DenyCode::Outage, error.to_string()),
                    Source::FailClose,
                ),
            },
        };
        Decision {
            verdict,
            source,
            age: Duration::ZERO,
        }
    }
}
