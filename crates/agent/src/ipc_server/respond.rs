//! From a decision to what the helper is told.

use ocserv_agent_model::{Decision, DenyCode, Source, Verdict, one_line};

/// The longest reason that is passed on, in characters: it goes into one line of ocserv's log.
pub(super) const MAX_REASON: usize = 256;

/// The answer to a login.
pub(super) fn decision(decision: &Decision) -> ipc::Response {
    let source = Some(decision.source.as_str().to_owned());
    match &decision.verdict {
        Verdict::Allow(_) => ipc::Response {
            source,
            ..ipc::Response::new(true)
        },
        Verdict::Deny(refusal) => ipc::Response {
            error: Some(one_line(&refusal.reason, MAX_REASON)).filter(|reason| !reason.is_empty()),
            source,
            deny_code: Some(refusal.code.as_str().to_owned()),
            ..ipc::Response::new(false)
        },
    }
}

/// A refusal by the agent itself.
pub(super) fn refusal(code: DenyCode, reason: &str) -> ipc::Response {
    ipc::Response {
        error: Some(one_line(reason, MAX_REASON)),
        source: Some(Source::Agent.as_str().to_owned()),
        deny_code: Some(code.as_str().to_owned()),
        ..ipc::Response::new(false)
    }
}

/// The answer to a report.
pub(super) fn noted() -> ipc::Response {
    ipc::Response::new(true)
}
