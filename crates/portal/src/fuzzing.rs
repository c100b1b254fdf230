//! Entries for the fuzz targets; no part of the interface.

use ocserv_agent_proto::agent::v1::ServerMessage;
use ocserv_agent_proto::vpn::v1::{CheckPolicyResponse, ValidateSessionResponse};

use crate::{CheckError, Instruction, Limits, PolicyReply, SessionValidity, control_stream, convert};

const LIMITS: Limits = Limits {
    max_routes: 2_000,
    max_dns: 16,
    max_text: 4_096,
};

/// Converts the portal's answer about a login.
///
/// # Errors
/// As the conversion.
pub fn policy_reply(wire: &CheckPolicyResponse) -> Result<PolicyReply, CheckError> {
    convert::policy_reply(wire, &LIMITS)
}

/// Converts the portal's answer about a session.
///
/// # Errors
/// As the conversion.
pub fn session_validity(wire: &ValidateSessionResponse) -> Result<SessionValidity, CheckError> {
    convert::session_validity(wire)
}

/// Converts a message on the control stream; `None` where it is no instruction.
#[must_use]
pub fn instruction(wire: ServerMessage) -> Option<Instruction> {
    control_stream::instruction(wire)
}
