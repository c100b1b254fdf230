//! The roles of callers.

use std::collections::BTreeMap;

use arc_swap::ArcSwap;
use tls::Peer;

pub use crate::config::Role;

/// Roles by the names in certificates; a reload replaces them as a whole.
#[derive(Debug, Default)]
pub struct Roles(ArcSwap<BTreeMap<String, Role>>);

impl Roles {
    /// `roles` has subject alternative names as keys.
    #[must_use]
    pub fn new(roles: BTreeMap<String, Role>) -> Self {
        Self(ArcSwap::from_pointee(roles))
    }

    /// Replaces all roles; calls in progress keep theirs.
    pub fn replace(&self, roles: BTreeMap<String, Role>) {
        self.0.store(roles.into());
    }

    /// Returns the highest role of the peer's names, or `None`. The common name does not count.
    #[must_use]
    pub fn of(&self, peer: &Peer) -> Option<Role> {
        let roles = self.0.load();
        peer.names
            .iter()
            .filter_map(|name| roles.get(name).copied())
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(names: &[&str]) -> Peer {
        Peer {
            names: names.iter().map(ToString::to_string).collect(),
            common_name: Some("portal".into()),
        }
    }

    #[test]
    fn the_highest_role_of_any_name_counts_and_the_common_name_does_not() {
        let roles = Roles::new(BTreeMap::from([
            ("watch.example".to_owned(), Role::Viewer),
            ("portal.example".to_owned(), Role::Operator),
            ("portal".to_owned(), Role::Operator),
        ]));
        assert_eq!(
            roles.of(&peer(&["watch.example", "portal.example"])),
            Some(Role::Operator)
        );
        assert_eq!(roles.of(&peer(&["watch.example"])), Some(Role::Viewer));
        assert_eq!(roles.of(&peer(&["Portal.example", "other"])), None);
        assert_eq!(roles.of(&peer(&[])), None);
    }

    #[test]
    fn a_removed_role_is_gone_at_once() {
        let roles = Roles::new(BTreeMap::from([("portal.example".to_owned(), Role::Operator)]));
        roles.replace(BTreeMap::new());
        assert_eq!(roles.of(&peer(&["portal.example"])), None);
    }
}
