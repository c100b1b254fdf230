//! Who may call what.

use std::collections::BTreeMap;

use arc_swap::ArcSwap;
use tls::Peer;

pub use crate::config::Role;

/// The roles that names in certificates have; replaced as a whole on reload.
#[derive(Debug, Default)]
pub struct Roles(ArcSwap<BTreeMap<String, Role>>);

impl Roles {
    /// Gives each subject alternative name its role.
    #[must_use]
    pub fn new(roles: BTreeMap<String, Role>) -> Self {
        Self(ArcSwap::from_pointee(roles))
    }

    /// Takes the roles anew; calls that are under way keep the role they began with.
    pub fn replace(&self, roles: BTreeMap<String, Role>) {
        self.0.store(roles.into());
    }

    /// The highest role that any name of the peer has. The common name counts for nothing.
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
    fn a_role_that_was_taken_away_is_gone_at_once() {
        let roles = Roles::new(BTreeMap::from([("portal.example".to_owned(), Role::Operator)]));
        roles.replace(BTreeMap::new());
        assert_eq!(roles.of(&peer(&["portal.example"])), None);
    }
}
