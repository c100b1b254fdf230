//! The cache's content in a form that can be persisted.

use std::time::SystemTime;

use ocserv_agent_model::{Username, Verdict};

use super::key::{AccessScope, CacheKey};

/// One answer. It has no TTL: a restored answer is never fresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The login that it answers.
    pub key: CacheKey,
    /// The source's verdict.
    pub verdict: Verdict,
    /// When the source was asked.
    pub asked: SystemTime,
}

/// What denies one user in outages: a revocation, or denies of the user's logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The user.
    pub username: Username,
    /// The source's reason.
    pub reason: String,
    /// When the user was revoked or denied last.
    pub at: SystemTime,
    /// When the user was revoked last.
    pub revoked_at: Option<SystemTime>,
    /// The scopes in which the source denied the user, and has not allowed them since.
    pub denied_in: Vec<AccessScope>,
    /// The scopes in which the source has allowed the user since.
    pub allowed_since: Vec<AccessScope>,
}

/// Answers and revocations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Records {
    /// The source's answers.
    pub decisions: Vec<Record>,
    /// The users that it revoked or denied.
    pub revocations: Vec<Revocation>,
}

/// Changes of the cache, to be applied to a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Single entries changed.
    Partial {
        /// Entries to write.
        put: Records,
        /// Answers to delete.
        removed_answers: Vec<CacheKey>,
        /// Users whose revocations to delete.
        removed_revocations: Vec<Username>,
    },
    /// The whole content; delete all other entries of the copy.
    Full(Records),
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Partial {
                put,
                removed_answers,
                removed_revocations,
            } => *put == Records::default() && removed_answers.is_empty() && removed_revocations.is_empty(),
            Self::Full(_) => false,
        }
    }
}
