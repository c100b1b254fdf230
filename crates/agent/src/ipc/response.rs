//! The responses to `vpn-auth`.

use ocserv_agent_model::{Decision, DenyCode, Source, Verdict, one_line};

/// The longest reason in a response, in characters: it becomes one line of ocserv's log.
const MAX_REASON: usize = 256;

/// Converts the decision on a login.
pub(super) fn decision(decision: &Decision) -> ipc::Response {
    let source = Some(decision.source.as_str().to_owned());
    match &decision.verdict {
        Verdict::Allow(_) => ipc::Response {
            source,
            ..ipc::Response::new(true)
        },
        Verdict::Deny(denial) => ipc::Response {
            error: Some(one_line(&denial.reason, MAX_REASON)).filter(|reason| !reason.is_empty()),
            source,
            deny_code: Some(denial.code.as_str().to_owned()),
            ..ipc::Response::new(false)
        },
    }
}

/// Creates a rejection by the agent itself.
pub(super) fn rejection(code: DenyCode, reason: &str) -> ipc::Response {
    ipc::Response {
        error: Some(one_line(reason, MAX_REASON)),
        source: Some(Source::Agent.as_str().to_owned()),
        deny_code: Some(code.as_str().to_owned()),
        ..ipc::Response::new(false)
    }
}

/// Creates the acknowledgement of a report.
pub(super) fn acknowledged() -> ipc::Response {
    ipc::Response::new(true)
}

/// Creates the response with the decisions table. It authorizes no login, so `allowed` is false.
pub(super) fn table(text: String) -> ipc::Response {
    ipc::Response {
        message: Some(text),
        ..ipc::Response::new(false)
    }
}
