//! Errors of calls to the portal, and their meaning for a login.

use std::sync::Arc;
use std::time::Duration;

use ocserv_agent_model::{Denial, DenyCode, error_chain};
use tonic::Code;

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
    /// The portal answered with a gRPC error.
    #[error("portal refused the call as {code:?}: {message}")]
    Refused {
        /// The gRPC status code.
        code: Code,
        /// The portal's message; one line.
        message: String,
    },
    /// The portal's reply is empty or contradicts itself.
    #[error("portal answered with {0}")]
    Nonsense(&'static str),
}

/// The meaning of a failed check for the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The portal did not decide: count it against the portal, decide by the fail mode.
    Outage,
    /// The portal works and rejects the login: deny it in every fail mode.
    Denied(DenyCode),
}

impl CheckError {
    /// Whether the portal failed to decide, so that the fail mode decides and a breaker counts it.
    /// Otherwise the portal works and [`CheckError::denial`] denies the login.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        self.meaning() == Meaning::Outage
    }

    /// Returns the denial of the login, unless the error is an outage. Must not be cached: it is an
    /// error, not policy.
    #[must_use]
    pub fn denial(&self) -> Option<Denial> {
        match self.meaning() {
            Meaning::Outage => None,
            Meaning::Denied(code) => Some(Denial {
                code,
                reason: self.to_string(),
            }),
        }
    }

    fn meaning(&self) -> Meaning {
        match self {
            Self::NotConnected(_) | Self::Timeout(_) | Self::Transport(_) | Self::Nonsense(_) => {
                Meaning::Outage
            }
            Self::Refused { code, .. } => meaning_of(*code),
        }
    }
}

/// Maps a status code. A verdict is carried by a message, so no status is a verdict. Three of them,
/// though, come from a portal that works, evaluated this very request and rejects it. To call those
/// an outage would let `open` and `stale` allow a login that the portal rejected, and would let one
/// odd username trip the breaker for every user.
fn meaning_of(code: Code) -> Meaning {
    match code {
        // An error that claims success: there is no message with it, so there is no verdict.
        Code::Ok => Meaning::Outage,
        // The portal, or a proxy before it, cancelled the call.
        Code::Cancelled => Meaning::Outage,
        // The portal failed and could not say how.
        Code::Unknown => Meaning::Outage,
        // The portal parsed the request and rejects a value in it, such as a username or an
        // address.
        Code::InvalidArgument => Meaning::Denied(DenyCode::BadRequest),
        // Too slow, by the portal's own clock.
        Code::DeadlineExceeded => Meaning::Outage,
        // The contract's code for "no such user" where a message has no field for it: unknown users
        // are denied.
        Code::NotFound => Meaning::Denied(DenyCode::Policy),
        // A check creates nothing: the portal is faulty.
        Code::AlreadyExists => Meaning::Outage,
        // The portal rejects this user or this agent. Either way no fail mode overrules it.
        Code::PermissionDenied => Meaning::Denied(DenyCode::Policy),
        // The portal has too many calls or too little memory.
        Code::ResourceExhausted => Meaning::Outage,
        // The state of the portal as a whole, such as a migration that has not run.
        Code::FailedPrecondition => Meaning::Outage,
        // A transaction of the portal's lost a race.
        Code::Aborted => Meaning::Outage,
        // Our side reports this for a reply above the size limit.
        Code::OutOfRange => Meaning::Outage,
        // No such service: an old portal, or another server on that port (HTTP 404 maps to this).
        Code::Unimplemented => Meaning::Outage,
        // A bug in the portal, or a reply that cannot be decoded.
        Code::Internal => Meaning::Outage,
        // The portal or a dependency of it is down. The right code for a portal that cannot decide.
        Code::Unavailable => Meaning::Outage,
        // The portal's data is damaged.
        Code::DataLoss => Meaning::Outage,
        // The portal does not know this agent, so it evaluated nothing: the same fault as a
        // certificate that is refused in the TLS handshake, and the same meaning.
        Code::Unauthenticated => Meaning::Outage,
    }
}

impl From<tonic::Status> for CheckError {
    fn from(status: tonic::Status) -> Self {
        // A status that tonic makes of a broken connection has a source; one that the portal sent
        // has none.
        match std::error::Error::source(&status) {
            Some(source) => match find::<NotConnected>(source) {
                Some(NotConnected(reason)) => Self::NotConnected(reason.to_string()),
                None => Self::Transport(one_line(&error_chain(source))),
            },
            None => Self::Refused {
                code: status.code(),
                message: one_line(status.message()),
            },
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
            let expected = denied
                .iter()
                .find(|(denied, _)| *denied == code)
                .map(|(_, deny)| *deny);
            assert_eq!(error.is_outage(), expected.is_none(), "{code:?}");
            assert_eq!(error.denial().map(|denial| denial.code), expected, "{code:?}");
        }
    }

    #[test]
    fn check_that_was_never_evaluated_is_an_outage() {
        for error in [
            CheckError::NotConnected("connection refused".into()),
            CheckError::Timeout(Duration::from_secs(2)),
            CheckError::Transport("reset".into()),
            CheckError::Nonsense("an empty message"),
        ] {
            assert!(error.is_outage(), "{error}");
            assert_eq!(error.denial(), None, "{error}");
        }
    }
}
