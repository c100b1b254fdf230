//! Errors of calls to the portal, and their meaning for a login.

use std::sync::Arc;
use std::time::Duration;

use ocserv_agent_model::{Denial, DenyCode, error_chain};
use tonic::Code;

use crate::answer::AnswerError;
use crate::text::one_line;

/// Why a call returned no usable reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// There is no connection, and none could be made in time; the reason.
    #[error("portal is not connected: {0}")]
    NotConnected(String),
    /// The portal did not reply in time.
    #[error("portal gave no answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke during the call; the reason.
    #[error("connection to the portal broke: {0}")]
    Transport(String),
    /// The answer has no gRPC status, so it is not the portal's; its HTTP status.
    #[error("answer without a gRPC status, such as a proxy sends (HTTP {0})")]
    NoStatus(u16),
    /// The portal sent a gRPC status other than OK.
    #[error("portal refused the call as {code:?}: {message}")]
    Refused {
        /// The gRPC status code.
        code: Code,
        /// The portal's message; one line.
        message: String,
    },
    /// The portal answered, and its answer cannot be used; what is wrong with it.
    #[error("portal answered with {0}")]
    Invalid(String),
    /// The portal's answer allows and denies the login at once.
    #[error("portal answered with a contradiction: {0}")]
    Contradiction(&'static str),
}

/// The meaning of a failed check for the login. None of them is a decision to keep: an error is not
/// policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// The portal did not decide: count it against the portal, decide by the fail mode.
    Outage,
    /// The portal says that it failed: decide by the fail mode. It is an outage if it happens to
    /// more than one user; for one user it may be a bug that this user triggers.
    Failed,
    /// The portal works, and its answer about this login cannot be used: decide by the fail mode.
    InvalidAnswer,
    /// The portal works and rejects this login: deny it in every fail mode.
    Denied(Denial),
}

impl CheckError {
    /// Whether the portal did not decide, for whatever reason.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self.meaning(), Meaning::Outage | Meaning::Failed)
    }

    /// Returns what the error means for the login.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        match self {
            Self::NotConnected(_) | Self::Timeout(_) | Self::Transport(_) | Self::NoStatus(_) => {
                Meaning::Outage
            }
            Self::Invalid(_) => Meaning::InvalidAnswer,
            Self::Contradiction(_) => self.denied(DenyCode::Policy),
            // What gRPC libraries send for an exception in a handler.
            Self::Refused {
                code: Code::Unknown | Code::Internal,
                ..
            } => Meaning::Failed,
            Self::Refused { code, .. } => match deny_code(*code) {
                Some(code) => self.denied(code),
                None => Meaning::Outage,
            },
        }
    }

    fn denied(&self, code: DenyCode) -> Meaning {
        Meaning::Denied(Denial {
            code,
            reason: self.to_string(),
        })
    }
}

/// Maps a status code that the portal sent to the denial of the login; `None` is an outage. A
/// verdict is carried by a message, so no status is a verdict. Three of them, though, come from a
/// portal that works, evaluated this very request and rejects it. To call those an outage would let
/// `open` and `stale` allow a login that the portal rejected, and would let one odd username trip
/// the breaker for every user.
fn deny_code(code: Code) -> Option<DenyCode> {
    match code {
        // Never an error.
        Code::Ok => None,
        // The portal, or a proxy before it, cancelled the call.
        Code::Cancelled => None,
        // The portal failed and could not say how.
        Code::Unknown => None,
        // The portal parsed the request and rejects a value in it, such as a username or an
        // address.
        Code::InvalidArgument => Some(DenyCode::BadRequest),
        // Too slow, by the portal's own clock.
        Code::DeadlineExceeded => None,
        // The contract's code for "no such user" where a message has no field for it: unknown users
        // are denied.
        Code::NotFound => Some(DenyCode::Policy),
        // A check creates nothing: the portal is faulty.
        Code::AlreadyExists => None,
        // The portal rejects this user or this agent. Either way no fail mode overrules it.
        Code::PermissionDenied => Some(DenyCode::Policy),
        // The portal has too many calls or too little memory.
        Code::ResourceExhausted => None,
        // The state of the portal as a whole, such as a migration that has not run.
        Code::FailedPrecondition => None,
        // A transaction of the portal's lost a race.
        Code::Aborted => None,
        // A check has no range: the portal is faulty.
        Code::OutOfRange => None,
        // No such service: an old portal, or another server on that port.
        Code::Unimplemented => None,
        // A bug in the portal.
        Code::Internal => None,
        // The portal or a dependency of it is down. The right code for a portal that cannot decide.
        Code::Unavailable => None,
        // The portal's data is damaged.
        Code::DataLoss => None,
        // The portal does not know this agent, so it evaluated nothing: the same fault as a
        // certificate that is refused in the TLS handshake, and the same meaning.
        Code::Unauthenticated => None,
    }
}

impl From<tonic::Status> for CheckError {
    fn from(status: tonic::Status) -> Self {
        // What went wrong before the message is in the sources. Without one the status on the wire
        // was OK, and tonic could not decode the message.
        let Some(source) = std::error::Error::source(&status) else {
            let problem = one_line(status.message());
            return Self::Invalid(format!("a message that cannot be decoded: {problem}"));
        };
        if let Some(NotConnected(reason)) = find(source) {
            return Self::NotConnected(reason.to_string());
        }
        match find(source) {
            Some(AnswerError::Status { code, message }) => Self::Refused {
                code: *code,
                message: message.clone(),
            },
            Some(AnswerError::NoStatus(http)) => Self::NoStatus(http.as_u16()),
            Some(AnswerError::TooLarge(max)) => {
                Self::Invalid(format!("more than {max} bytes, which portal.limits allow"))
            }
            Some(AnswerError::BrokenOff(error)) => Self::Transport(one_line(&error_chain(error))),
            None => Self::Transport(one_line(&error_chain(source))),
        }
    }
}

/// There is no connection; the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotConnected(pub(crate) Arc<str>);

impl NotConnected {
    pub(crate) fn stopped() -> Self {
        Self("the client stopped".into())
    }
}

/// Why an event was not reported. It may be reported again any number of times with the same
/// `event_id`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CheckError),
    /// The portal received the event and did not accept it; its message, one line.
    #[error("portal did not acknowledge the event: {0}")]
    NotAcknowledged(String),
}

impl ReportError {
    /// Whether the portal rejects this very event, so that a retry may never succeed.
    #[must_use]
    pub fn rejects_event(&self) -> bool {
        match self {
            Self::Call(CheckError::Refused { code, .. }) => *code == Code::InvalidArgument,
            Self::Call(_) | Self::NotAcknowledged(_) => false,
        }
    }
}

/// Finds an error of type `E` in a chain of sources.
fn find<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_17_codes_is_an_outage_or_a_denial_on_purpose() {
        let denied = [
            (Code::InvalidArgument, DenyCode::BadRequest),
            (Code::NotFound, DenyCode::Policy),
            (Code::PermissionDenied, DenyCode::Policy),
        ];
        for number in 0..17 {
            let code = Code::from(number);
            assert_eq!(code as i32, number);
            let error = CheckError::Refused {
                code,
                message: String::new(),
            };
            let expected = denied.iter().find(|(denied, _)| *denied == code);
            match (error.meaning(), expected) {
                (Meaning::Denied(denial), Some((_, deny))) => assert_eq!(denial.code, *deny, "{code:?}"),
                (meaning @ (Meaning::Failed | Meaning::Outage), None) => {
                    // What an exception in a handler becomes, which one user may cause.
                    let is_exception = matches!(code, Code::Unknown | Code::Internal);
                    assert_eq!(meaning == Meaning::Failed, is_exception, "{code:?}");
                }
                (meaning, _) => panic!("{code:?}: {meaning:?}"),
            }
        }
    }

    #[test]
    fn check_that_was_never_evaluated_is_an_outage() {
        for error in [
            CheckError::NotConnected("connection refused".into()),
            CheckError::Timeout(Duration::from_secs(2)),
            CheckError::Transport("reset".into()),
            CheckError::NoStatus(403),
        ] {
            assert_eq!(error.meaning(), Meaning::Outage, "{error}");
        }
    }
}
