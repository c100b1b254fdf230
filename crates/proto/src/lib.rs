//! The messages, clients and servers that agents and portals speak.
/// `agent.v1`
pub mod agent {
    /// Version 1.
    #[expect(missing_docs, reason = "generated")]
    pub mod v1 { include!("generated/agent.v1.rs"); }
}
/// `vpn.v1`
pub mod vpn {
    /// Version 1.
    #[expect(missing_docs, reason = "generated")]
    pub mod v1 { include!("generated/vpn.v1.rs"); }
}
