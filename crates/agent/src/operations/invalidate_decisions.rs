//! Drops cached decisions, so that the portal is asked again. Nobody is denied by it.

use authz::Authorizer;
use ocserv_agent_model::Username;

/// Drops cached decisions; clones share everything.
#[derive(Clone)]
pub(crate) struct InvalidateDecisions(Authorizer);

impl InvalidateDecisions {
    pub(crate) fn new(authorizer: Authorizer) -> Self {
        Self(authorizer)
    }

    /// Drops the decisions about `username`; returns how many there were.
    pub(crate) fn user(&self, username: &Username) -> usize {
        self.0.invalidate_user(username)
    }

    /// Drops all decisions; returns how many there were. Takes some milliseconds with many.
    pub(crate) fn all(&self) -> usize {
        self.0.invalidate_all()
    }
}
