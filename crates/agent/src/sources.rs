//! Who knows the policy: the portal, or a policy file on this server.

use std::time::SystemTime;

use authz::{Answer, Check, PolicySource, SourceError};
use ocserv::LiveSession;
use ocserv_agent_model::{GroupName, Login, Source, Username, Verdict};
use policy::Policy;
use portal::{CheckError, Portal};
use tokio::time::Instant;

use crate::clock;
use crate::embedded::CurrentPolicy;

/// The policy that this agent goes by; clones share it.
#[derive(Clone)]
pub(crate) enum Authority {
    /// The company's portal.
    Portal(Portal),
    /// The policy file of this server.
    Embedded(CurrentPolicy),
}

/// What became of a look at a session that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is in order.
    Valid,
    /// It is not, but may stay for now; with the reason.
    Doubtful(String),
    /// It has to end; with the reason.
    Revoked(String),
    /// Nobody could say; with what stood in the way.
    Unknown(String),
}

impl Authority {
    /// Asks whether a session that is up is still in order.
    pub(crate) async fn standing(&self, session: &LiveSession, now: SystemTime) -> Standing {
        let Ok(username) = Username::parse(&session.username) else {
            return Standing::Unknown("its user has a name that cannot be asked about".to_owned());
        };
        match self {
            Self::Portal(portal) => {
                match portal
                    .validate_session(&username, session.id, session.row.client_ip, now)
                    .await
                {
                    Ok(answer) if answer.force_disconnect => Standing::Revoked(answer.reason),
                    Ok(answer) if answer.valid => Standing::Valid,
                    Ok(answer) => Standing::Doubtful(answer.reason),
                    Err(error) => Standing::Unknown(error.to_string()),
                }
            }
            Self::Embedded(policy) => file_standing(&policy.load(), &username, session),
        }
    }
}

fn file_standing(policy: &Policy, username: &Username, session: &LiveSession) -> Standing {
    let Some(client_ip) = session.row.client_ip else {
        return Standing::Unknown("ocserv does not say where it comes from".to_owned());
    };
    let group = match session.row.group.as_deref().map(GroupName::parse).transpose() {
        Ok(group) => group,
        Err(error) => return Standing::Unknown(format!("its group {error}")),
    };
    match policy.evaluate(username, group.as_ref(), client_ip).verdict {
        Verdict::Allow(_) => Standing::Valid,
        Verdict::Deny(refusal) => Standing::Revoked(refusal.reason),
    }
}

impl PolicySource for Authority {
    fn source(&self) -> Source {
        match self {
            Self::Portal(_) => Source::Portal,
            Self::Embedded(_) => Source::Embedded,
        }
    }

    fn check<'a>(&'a self, login: &'a Login, deadline: Instant) -> Check<'a> {
        match self {
            Self::Portal(portal) => Box::pin(async move {
                match portal.check_policy(login, deadline, clock::wall()).await {
                    Ok(answer) => Ok(Answer {
                        verdict: answer.verdict,
                        ttl: answer.ttl,
                    }),
                    Err(error) => refused_or_out(&error),
                }
            }),
            Self::Embedded(policy) => Box::pin(async move {
                let answer = policy
                    .load()
                    .evaluate(&login.username, login.group.as_ref(), login.client_ip);
                Ok(Answer {
                    verdict: answer.verdict,
                    ttl: answer.ttl,
                })
            }),
        }
    }
}

/// A status that is the portal's own no is a verdict of this moment, so it is not kept; everything else is an outage.
fn refused_or_out(error: &CheckError) -> Result<Answer, SourceError> {
    match error.denial() {
        Some(denial) => Ok(Answer {
            verdict: Verdict::Deny(denial),
            ttl: Some(std::time::Duration::ZERO),
        }),
        None => Err(SourceError::Outage(error.to_string())),
    }
}
