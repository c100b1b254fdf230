//! Tells a source that fails from one that fails on the logins of one user.

use ocserv_agent_model::Username;

use crate::source::{PolicyAnswer, SourceError};

/// The users for whom the source has failed since it last answered anyone.
#[derive(Debug, Default)]
pub(super) enum Failures {
    #[default]
    None,
    OneUser(Username),
    ManyUsers,
}

impl Failures {
    /// Records the result of a query about `username`.
    pub(super) fn record(&mut self, username: &Username, result: &Result<PolicyAnswer, SourceError>) {
        *self = match (result, std::mem::take(self)) {
            (Ok(_) | Err(SourceError::InvalidAnswer(_) | SourceError::Rejected(_)), _) => Self::None,
            // Whoever failed, it was not the source.
            (Err(SourceError::Outage(_)), before) => before,
            (Err(SourceError::Failed(_)), Self::None) => Self::OneUser(username.clone()),
            (Err(SourceError::Failed(_)), Self::OneUser(first)) if first == *username => Self::OneUser(first),
            (Err(SourceError::Failed(_)), Self::OneUser(_) | Self::ManyUsers) => Self::ManyUsers,
        };
    }

    /// Whether the source fails for more than one user.
    pub(super) fn are_of_many_users(&self) -> bool {
        matches!(self, Self::ManyUsers)
    }
}
