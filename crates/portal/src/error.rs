//! How calls to the portal fail, and what that means for a login.

use std::time::Duration;

use ocserv_agent_model::{Denial, DenyCode};
use tonic::Code;

use crate::convert::one_line;

/// Why a question got no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// There is no connection, and none could be made in time; says why.
    #[error("portal is not connected: {0}")]
    NotConnected(String),
    /// No answer in the time that there was.
    #[error("portal gave no answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke under the call; says how.
    #[error("connection to the portal broke: {0}")]
    Transport(String),
    /// The portal answered with a gRPC error.
    #[error("portal refused the call as {code:?}: {message}")]
    Refused {
        /// The gRPC status code.
        code: Code,
        /// The portal's own words; one line.
        message: String,
    },
    /// The portal answered, and the answer means nothing.
    #[error("portal answered with {0}")]
    Nonsense(&'static str),
}

/// What a failed question means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The portal did not judge: count it against the portal, decide by the fail mode.
    Outage,
    /// The portal works, and it will not have this login: keep the client out, whatever the fail mode.
    Denied(DenyCode),
}

impl CheckError {
    /// Whether the portal failed to judge, so that the fail mode decides and a breaker counts it. Otherwise the portal
    /// is well and [`CheckError::refusal`] keeps the client out.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        self.meaning() == Meaning::Outage
    }

    /// The refusal of the login, where the error is no outage. Never worth caching: it is an error and no policy.
    #[must_use]
    pub fn refusal(&self) -> Option<Denial> {
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

/// A verdict travels in a message, so no status is a verdict. Three of them, though, come from a portal that works and
/// looked at this very question, and say no. To call those an outage would let `open` and `stale` admit whom the portal
/// turned away, and would let one odd user name trip the breaker for everybody.
fn meaning_of(code: Code) -> Meaning {
    match code {
        // An error that claims success: there is no message with it, so there is no verdict.
        Code::Ok => Meaning::Outage,
        // The portal, or a proxy before it, gave up on the call.
        Code::Cancelled => Meaning::Outage,
        // Whatever broke, the portal could not name it.
        Code::Unknown => Meaning::Outage,
        // The portal read the question and will not have it: a name or an address that it holds impossible.
        Code::InvalidArgument => Meaning::Denied(DenyCode::BadRequest),
        // Too slow, by the portal's own clock.
        Code::DeadlineExceeded => Meaning::Outage,
        // The contract's word for "no such user" where a message has no field for it: nobody unknown gets in.
        Code::NotFound => Meaning::Denied(DenyCode::Policy),
        // Nothing is created by a question: the portal is confused.
        Code::AlreadyExists => Meaning::Outage,
        // The portal says no, to this user or to this agent. Either way it is a no, and no fail mode overrules it.
        Code::PermissionDenied => Meaning::Denied(DenyCode::Policy),
        // Too many calls or too little memory over there.
        Code::ResourceExhausted => Meaning::Outage,
        // The state of the portal as a whole, such as a migration that has not run.
        Code::FailedPrecondition => Meaning::Outage,
        // A transaction over there that lost a race.
        Code::Aborted => Meaning::Outage,
        // What our side reports for an answer that is larger than we take.
        Code::OutOfRange => Meaning::Outage,
        // No such service: an old portal, or something else that listens there (HTTP 404 reads like this).
        Code::Unimplemented => Meaning::Outage,
        // A bug over there, or an answer that cannot be decoded.
        Code::Internal => Meaning::Outage,
        // The portal, or what it leans on, is away. The right word from a portal that cannot decide.
        Code::Unavailable => Meaning::Outage,
        // Something over there is damaged.
        Code::DataLoss => Meaning::Outage,
        // The portal does not know who we are, so it never got to the question: the same fault as a certificate that is
        // refused in the TLS handshake, and the same meaning.
        Code::Unauthenticated => Meaning::Outage,
    }
}

impl From<tonic::Status> for CheckError {
    fn from(status: tonic::Status) -> Self {
        // What tonic makes of a broken connection carries its cause; what the portal sent carries none.
        match std::error::Error::source(&status) {
            Some(cause) => match find::<crate::service::Unavailable>(cause) {
                Some(unavailable) => Self::NotConnected(unavailable.0.to_string()),
                None => Self::Transport(one_line(&chain(cause))),
            },
            None => Self::Refused {
                code: status.code(),
                message: one_line(status.message()),
            },
        }
    }
}

/// Why an event was not delivered. The same event may be sent again as often as it takes: its `event_id` stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CheckError),
    /// The portal got it and would not take it; in its own words, one line.
    #[error("portal did not acknowledge the event: {0}")]
    NotAcknowledged(String),
}

impl DeliverError {
    /// Whether the portal finds fault with this very event, so that it may not take it tomorrow either.
    #[must_use]
    pub fn is_about_the_event(&self) -> bool {
        match self {
            Self::Call(CheckError::Refused { code, .. }) => *code == Code::InvalidArgument,
            Self::Call(_) | Self::NotAcknowledged(_) => false,
        }
    }
}

/// The error of a type among the causes.
fn find<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

/// The error and its causes, from the outside in.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let parts: Vec<_> = std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect();
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_17_codes_is_an_outage_or_a_refusal_on_purpose() {
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
            assert_eq!(error.refusal().map(|refusal| refusal.code), expected, "{code:?}");
        }
    }

    #[test]
    fn whatever_never_reached_a_judgement_is_an_outage() {
        for error in [
            CheckError::NotConnected("nobody listens there".into()),
            CheckError::Timeout(Duration::from_secs(2)),
            CheckError::Transport("reset".into()),
            CheckError::Nonsense("an empty message"),
        ] {
            assert!(error.is_outage(), "{error}");
            assert_eq!(error.refusal(), None, "{error}");
        }
    }
}
