//! The differences between two configurations, and which of them need a restart.

use std::collections::BTreeMap;

use super::check;
use super::schema::Config;

/// The keys that SIGHUP applies; every other key needs a restart. A key that ends in a dot means
/// all keys below it. The files that `portal.tls` and `grpc.tls` name are read again on every
/// SIGHUP.
pub const RELOADABLE: [&str; 7] = [
    "grpc.roles.",
    "ipc.allowed_uids",
    "ipc.deadline",
    "ipc.helper_deadline",
    "log.level",
    "portal.role",
    "resilience.",
];

impl Config {
    /// This configuration with the keys of [`RELOADABLE`] from `fresh`.
    #[must_use]
    pub fn taking_over(&self, fresh: &Self) -> Self {
        let mut effective = self.clone();
        if let (Some(running), Some(fresh)) = (&mut effective.grpc, &fresh.grpc) {
            running.roles.clone_from(&fresh.roles);
        }
        effective.ipc.allowed_uids.clone_from(&fresh.ipc.allowed_uids);
        effective.ipc.deadline = fresh.ipc.deadline;
        effective.ipc.helper_deadline = fresh.ipc.helper_deadline;
        effective.portal.role = fresh.portal.role;
        effective.log.level.clone_from(&fresh.log.level);
        effective.resilience = fresh.resilience.clone();
        effective
    }

    /// The values that contradict each other: a mix of an old and a fresh configuration may be
    /// neither.
    #[must_use]
    pub fn contradictions(&self) -> Vec<String> {
        let text = |(key, what)| format!("{key}: {what}");
        check::cross_check(self).into_iter().map(text).collect()
    }
}

/// Every key that is set, with its value in TOML, as `--check-config` lists it.
pub(super) fn flat(config: &Config) -> BTreeMap<String, String> {
    fn walk(prefix: &str, table: &toml::Table, into: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let key = format!("{prefix}{key}");
            match value {
                toml::Value::Table(inner) => walk(&format!("{key}."), inner, into),
                plain => {
                    into.insert(key, plain.to_string());
                }
            }
        }
    }
    let mut keys = BTreeMap::new();
    // The schema consists of tables, texts, numbers and lists, all of which TOML can express.
    if let Ok(table) = toml::Table::try_from(config) {
        walk("", &table, &mut keys);
    }
    keys
}

/// The keys that differ between `old` and `new` and need a restart.
#[must_use]
pub fn needing_restart(old: &Config, new: &Config) -> Vec<String> {
    let (old, new) = (flat(old), flat(new));
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key) && !reloadable(key))
        .cloned()
        .collect()
}

fn reloadable(key: &str) -> bool {
    RELOADABLE
        .iter()
        .any(|known| key == *known || (known.ends_with('.') && key.starts_with(known)))
}
