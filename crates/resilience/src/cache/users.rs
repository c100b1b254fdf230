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
    pub(super) answers: Vec<IndexedKey>,
    pub(super) denied: Option<DeniedUser>,
}

/// The key of an answer, and whether it is an allow.
#[derive(Debug, Clone)]
pub(super) struct IndexedKey {
    pub(super) key: Arc<CacheKey>,
    pub(super) is_allow: bool,
}

impl Users {
    /// Returns how many users are denied.
    pub(super) fn denied_count(&self) -> usize {
        self.denied
    }

    pub(super) fn get(&self, user: &Username) -> Option<&User> {
        self.users.get(user)
    }

    pub(super) fn answers(&self, user: &Username) -> &[IndexedKey] {
        self.users.get(user).map_or(&[], |user| &user.answers)
    }

    /// Adds a key as the user's latest.
    pub(super) fn add_answer(&mut self, key: &Arc<CacheKey>, is_allow: bool) {
        let user = self.users.entry(key.username.clone()).or_default();
        user.answers.retain(|other| other.key != *key);
        user.answers.push(IndexedKey {
            key: Arc::clone(key),
            is_allow,
        });
    }

    /// Returns the oldest of the user's answers of one kind, if there are more than `max`.
    pub(super) fn surplus_answer(
        &self,
        user: &Username,
        is_allow: bool,
        max: usize,
    ) -> Option<Arc<CacheKey>> {
        let mut same = self
            .answers(user)
            .iter()
            .filter(|answer| answer.is_allow == is_allow);
        let is_over = same.clone().count() > max;
        same.next()
            .filter(|_| is_over)
            .map(|answer| Arc::clone(&answer.key))
    }

    pub(super) fn remove_answer(&mut self, key: &CacheKey) {
        if let Some(user) = self.users.get_mut(&key.username) {
            user.answers.retain(|other| *other.key != *key);
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
