//! The roles of callers.

use std::collections::BTreeMap;

use tls::Peer;

use crate::live::Live;

/// The role of a caller; a higher role includes the lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Lists sessions.
    Viewer,
    /// Calls every method.
    Operator,
}

/// The configured roles by subject alternative name; a reload replaces all of them.
#[derive(Debug, Clone)]
pub(crate) struct Roles(Live<BTreeMap<String, Role>>);

impl Roles {
    /// Creates roles that read `names` at each call.
    #[must_use]
    pub(crate) fn new(names: Live<BTreeMap<String, Role>>) -> Self {
        Self(names)
    }

    /// Returns the highest role of any name of the peer. The common name grants none.
    #[must_use]
    pub(crate) fn role_of(&self, peer: &Peer) -> Option<Role> {
        let roles = self.0.current();
        peer.names
            .iter()
            .filter_map(|name| roles.get(name).copied())
            .max()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;

    fn peer(names: &[&str]) -> Peer {
        Peer {
            names: names.iter().map(ToString::to_string).collect(),
            common_name: Some("portal".into()),
        }
    }

    #[test]
    fn the_highest_role_of_any_name_applies_and_the_common_name_grants_none() {
        let roles = Roles::new(Live::fixed(BTreeMap::from([
            ("watch.example".to_owned(), Role::Viewer),
            ("portal.example".to_owned(), Role::Operator),
            ("portal".to_owned(), Role::Operator),
        ])));
        assert_eq!(
            roles.role_of(&peer(&["watch.example", "portal.example"])),
            Some(Role::Operator)
        );
        assert_eq!(roles.role_of(&peer(&["watch.example"])), Some(Role::Viewer));
        assert_eq!(roles.role_of(&peer(&["Portal.example", "other"])), None);
        assert_eq!(roles.role_of(&peer(&[])), None);
    }

    #[test]
    fn a_removed_role_is_revoked_at_once() {
        let operator = BTreeMap::from([("portal.example".to_owned(), Role::Operator)]);
        let (sender, configured) = watch::channel(Arc::new(operator));
        let roles = Roles::new(Live::new(move || Arc::clone(&configured.borrow())));
        assert_eq!(roles.role_of(&peer(&["portal.example"])), Some(Role::Operator));
        sender.send_replace(Arc::default());
        assert_eq!(roles.role_of(&peer(&["portal.example"])), None);
    }
}
