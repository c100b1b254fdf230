//! What tests are about.

use ocserv_agent_model::{Login, OcservId, Username};

/// A login of this user, with this number, and nothing else that matters.
pub(crate) fn login(id: i32, user: &str) -> Login {
    Login {
        username: Username::parse(user).unwrap(),
        group: None,
        client_ip: [192, 0, 2, 1].into(),
        vhost: None,
        id: OcservId::new(id).unwrap(),
        vpn_ip: None,
        device: String::new(),
    }
}
