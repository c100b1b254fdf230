//! The index by user: the keys of each user's answers, and what denies the user.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use ocserv_agent_model::Username;

use super::denied_user::DeniedUser;
use super::key::CacheKey;

/// The users about whom anything is remembered.
#[derive(Debug, Default)]
pub(super) struct Users {
    users: BTreeMap<Username, User>,
    denied: usize,
}

/// What is remembered about one user.
#[derive(Debug, Default)]
pub(super) struct User {
    /// The keys of the user's answers, the one stored last at the end.
    pub(super) answers: Vec<Arc<CacheKey>>,
    pub(super) denied: Option<DeniedUser>,
}

impl Users {
    /// Returns how many users are denied.
    pub(super) fn denied_count(&self) -> usize {
        self.denied
    }

    pub(super) fn get(&self, user: &Username) -> Option<&User> {
        self.users.get(user)
    }

    pub(super) fn answers(&self, user: &Username) -> &[Arc<CacheKey>] {
        self.users.get(user).map_or(&[], |user| &user.answers)
    }

    /// Adds a key as the user's latest.
    pub(super) fn add_answer(&mut self, key: &Arc<CacheKey>) {
        let user = self.users.entry(key.username.clone()).or_default();
        user.answers.retain(|other| other != key);
        user.answers.push(Arc::clone(key));
    }

    pub(super) fn remove_answer(&mut self, key: &CacheKey) {
        if let Some(user) = self.users.get_mut(&key.username) {
            user.answers.retain(|other| **other != *key);
            self.drop_if_empty(&key.username);
        }
    }

    pub(super) fn denied_mut(&mut self, user: &Username) -> Option<&mut DeniedUser> {
        self.users.get_mut(user)?.denied.as_mut()
    }

    /// Sets what denies a user of whom nothing does yet.
    pub(super) fn add_denied(&mut self, user: &Username, denied: DeniedUser) {
        let before = self.users.entry(user.clone()).or_default().denied.replace(denied);
        self.denied += usize::from(before.is_none());
    }

    pub(super) fn remove_denied(&mut self, user: &Username) {
        if let Some(entry) = self.users.get_mut(user) {
            self.denied -= usize::from(entry.denied.take().is_some());
            self.drop_if_empty(user);
        }
    }

    /// Iterates over the users in order, from the one after `user`.
    pub(super) fn after(&self, user: Option<&Username>) -> impl Iterator<Item = (&Username, &User)> {
        let start = user.map_or(Bound::Unbounded, Bound::Excluded);
        self.users.range::<Username, _>((start, Bound::Unbounded))
    }

    fn drop_if_empty(&mut self, user: &Username) {
        if let Some(entry) = self.users.get(user)
            && entry.answers.is_empty()
            && entry.denied.is_none()
        {
            self.users.remove(user);
        }
    }
}
