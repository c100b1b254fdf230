//! Entries for the fuzz targets; no part of the interface.

use ocserv_agent_proto::vpn::v1::{CheckPolicyResponse, ValidateSessionResponse};

use crate::{CheckError, PolicyReply, SessionValidity, convert};

/// Converts the portal's answer about a login.
///
/// # Errors
/// As the conversion.
pub fn policy_reply(wire: &CheckPolicyResponse) -> Result<PolicyReply, CheckError> {
    convert::policy_reply(wire)
}

/// Converts the portal's answer about a session.
///
/// # Errors
/// As the conversion.
pub fn session_validity(wire: &ValidateSessionResponse) -> Result<SessionValidity, CheckError> {
    convert::session_validity(wire)
}
