//! The identities to issue.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::subject_name::{ExtraNames, San};

/// The roles of an identity in TLS connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
    Both,
}

/// An identity to be issued.
#[derive(Debug)]
pub(super) struct Identity {
    /// Common name, and stem of the file names.
    pub(super) name: String,
    pub(super) side: Side,
    pub(super) names: Vec<San>,
    pub(super) purpose: &'static str,
}

impl Identity {
    fn new(name: &str, side: Side, purpose: &'static str) -> Self {
        let local = [
            San::Dns("localhost".to_owned()),
            San::Ip(Ipv4Addr::LOCALHOST.into()),
            San::Ip(Ipv6Addr::LOCALHOST.into()),
        ];
        let mut names = vec![San::Dns(name.to_owned())];
        match side {
            Side::Server | Side::Both => names.extend(local),
            // The agent grants roles by name: a client must not have the role of "localhost".
            Side::Client => {}
        }
        Self {
            name: name.to_owned(),
            side,
            names,
            purpose,
        }
    }
}

/// Returns the default identities with the additional names and identities.
pub(super) fn identities(extra: &[ExtraNames]) -> Vec<Identity> {
    let mut all = vec![
        Identity::new(
            "portal",
            Side::Both,
            "portal-dev serve, and its calls to the agent",
        ),
        Identity::new(
            "agent",
            Side::Both,
            "ocserv-agent: its gRPC server and its calls to the portal",
        ),
        Identity::new(
            "operator",
            Side::Client,
            "portal-dev sessions and portal-dev disconnect",
        ),
        Identity::new(
            "ocserv",
            Side::Server,
            "ocserv itself: server-cert and server-key",
        ),
    ];
    for ExtraNames { identity, names } in extra {
        let index = all.iter().position(|known| known.name == *identity);
        let identity = match index.and_then(|index| all.get_mut(index)) {
            Some(identity) => identity,
            None => all.push_mut(Identity {
                names: Vec::new(),
                ..Identity::new(identity, Side::Both, "any use")
            }),
        };
        for name in names {
            if !identity.names.contains(name) {
                identity.names.push(name.clone());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_added_to_an_identity_or_create_another() {
        let extra =
            ["agent=vpn1.example.org,192.0.2.7,localhost", "second=second"].map(|text| text.parse().unwrap());
        let identities = identities(&extra);
        let names = |of: &str| {
            identities
                .iter()
                .find(|identity| identity.name == of)
                .unwrap()
                .names
                .len()
        };
        assert_eq!(
            (
                names("agent"),
                names("portal"),
                names("operator"),
                names("second")
            ),
            (6, 4, 1, 1)
        );
    }
}
