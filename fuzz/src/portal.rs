//! Answers of the portal.

use ocserv_agent_model::Verdict;
use ocserv_agent_proto::agent::v1::ServerMessage;
use ocserv_agent_proto::vpn::v1::{CheckPolicyResponse, ValidateSessionResponse};
use portal::{InstructionKind, fuzzing};
use prost::Message as _;

/// An answer is refused, or means what its fields say: only a plain allow allows. An instruction
/// can be answered, in one line of the log.
pub fn portal_answer(data: &[u8]) {
    if let Ok(wire) = CheckPolicyResponse::decode(data)
        && let Ok(reply) = fuzzing::policy_reply(&wire)
    {
        let allows = matches!(reply.verdict, Verdict::Allow(_));
        assert_eq!(allows, wire.allowed);
        assert!(!(allows && (wire.should_disconnect || !wire.deny_reason.is_empty())));
    }
    if let Ok(wire) = ValidateSessionResponse::decode(data)
        && let Ok(validity) = fuzzing::session_validity(&wire)
    {
        assert_eq!(
            (validity.valid, validity.force_disconnect),
            (wire.valid, wire.force_disconnect)
        );
        assert!(!(validity.valid && validity.force_disconnect));
        crate::assert_printable(&validity.reason);
    }
    if let Ok(wire) = ServerMessage::decode(data)
        && let Some(instruction) = fuzzing::instruction(wire.clone())
    {
        // Another id than the portal's would answer nothing.
        assert_eq!(instruction.request_id, wire.request_id);
        assert!(!instruction.request_id.is_empty());
        crate::assert_printable(&instruction.request_id);
        if let InstructionKind::Action { name, .. } = &instruction.kind {
            crate::assert_printable(name);
        }
    }
}
