//! Replies on ocserv's control socket.

use occtl::{Command, decode_bool, decode_cookies, decode_list, decode_status, frame};

/// A reply is decoded or refused. A list is not longer than its bytes allow.
pub fn occtl_reply(data: &[u8]) {
    let _ = frame::frame_end(data);
    let _ = decode_status(data);
    let _ = decode_cookies(data);
    let _ = decode_bool(data, Command::DisconnectId);
    let _ = decode_bool(data, Command::TerminateSession);
    if let Ok(sessions) = decode_list(data) {
        assert!(sessions.len() <= data.len());
    }
}
