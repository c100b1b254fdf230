//! Untrusted text for log lines and replies.

/// Longest text of a portal in a log line or a reply, in characters.
const MAX_CHARS: usize = 300;

/// Makes a text of the portal one line of bounded length.
pub(crate) fn one_line(text: &str) -> String {
    ocserv_agent_model::one_line(text, MAX_CHARS)
}
