//! The policy file.

use std::net::{IpAddr, Ipv4Addr};

use ocserv_agent_model::{Username, VhostName};
use policy::Policy;

/// A policy is refused with a printable error, or decides: a verdict that is said not to depend on
/// group and virtual host is that of a user without a group on the default virtual host.
pub fn policy_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Policy::parse(text, "policy.toml") {
        Err(error) => crate::assert_printable(&error.to_string()),
        Ok(policy) => {
            let user = Username::parse("alice").expect("a plain name");
            let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let evaluation = policy.evaluate(&user, None, &VhostName::default(), address);
            if let Some(known) = policy.evaluate_without_group(&user, address) {
                assert_eq!(known.verdict.is_allow(), evaluation.verdict.is_allow());
            }
        }
    }
}
