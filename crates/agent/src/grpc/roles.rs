//! The roles of callers.

use std::collections::BTreeMap;

use tls::{Peer, SubjectName};

use crate::live::Live;
pub(crate) use crate::operations::role::Role;

/// The configured roles by subject alternative name and its type; a reload replaces all of them.
#[derive(Debug, Clone)]
pub(crate) struct Roles(Live<BTreeMap<SubjectName, Role>>);

impl Roles {
    /// Creates roles that read `names` at each call.
    #[must_use]
    pub(crate) fn new(names: Live<BTreeMap<SubjectName, Role>>) -> Self {
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

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use testkit::pki::{Pki, Validity};
    use tokio::sync::watch;

    use super::*;

    fn name(text: &str) -> SubjectName {
        text.parse().unwrap()
    }

    fn peer(names: &[&str]) -> Peer {
        Peer {
            names: names.iter().map(|text| name(text)).collect(),
            common_name: Some("portal".into()),
        }
    }

    #[test]
    fn the_highest_role_of_any_name_applies_and_the_common_name_grants_none() {
        let roles = Roles::new(Live::fixed(BTreeMap::from([
            (name("watch.example"), Role::Viewer),
            (name("portal.example"), Role::Operator),
            (name("portal"), Role::Operator),
        ])));
        assert_eq!(
            roles.role_of(&peer(&["watch.example", "portal.example"])),
            Some(Role::Operator)
        );
        assert_eq!(roles.role_of(&peer(&["watch.example"])), Some(Role::Viewer));
        assert_eq!(roles.role_of(&peer(&["portal2.example", "other"])), None);
        assert_eq!(roles.role_of(&peer(&[])), None);
    }

    /// The role of the holder of a certificate for `name`, as `testkit::pki` writes it.
    fn role_of_certificate(roles: &Roles, name: &str) -> Option<Role> {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::create(dir.path()).unwrap();
        let files = pki.issue("caller", &[name], Validity::Now).unwrap();
        let der = CertificateDer::from_pem_file(&files.cert).unwrap();
        roles.role_of(&tls::peer_of(&[der]).unwrap())
    }

    #[test]
    fn a_role_of_a_name_is_not_given_to_a_name_of_another_type() {
        let roles = Roles::new(Live::fixed(BTreeMap::from([
            (name("portal.example.com"), Role::Operator),
            (name("ip:10.9.8.7"), Role::Operator),
        ])));
        assert_eq!(
            role_of_certificate(&roles, "portal.example.com"),
            Some(Role::Operator)
        );
        assert_eq!(role_of_certificate(&roles, "10.9.8.7"), Some(Role::Operator));
        assert_eq!(role_of_certificate(&roles, "uri:portal.example.com"), None);
        assert_eq!(role_of_certificate(&roles, "dns:10.9.8.7"), None);
    }

    #[test]
    fn a_removed_role_is_revoked_at_once() {
        let operator = BTreeMap::from([(name("portal.example"), Role::Operator)]);
        let (sender, configured) = watch::channel(Arc::new(operator));
        let roles = Roles::new(Live::new(move || Arc::clone(&configured.borrow())));
        assert_eq!(roles.role_of(&peer(&["portal.example"])), Some(Role::Operator));
        sender.send_replace(Arc::default());
        assert_eq!(roles.role_of(&peer(&["portal.example"])), None);
    }
}
