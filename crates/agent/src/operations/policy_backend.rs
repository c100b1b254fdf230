//! The policy backend, which decides logins and validates sessions: the portal or a policy file.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use authz::{CheckFuture, PolicyAnswer, PolicySource, SourceError};
use ocserv::LiveSession;
use ocserv_agent_model::{GroupName, Login, Source, Username, Verdict, VhostName};
use policy::Policy;
use portal::{CheckError, Meaning, Portal};
use tokio::time::Instant;

use crate::clock;

/// The embedded policy in effect.
pub(crate) type CurrentPolicy = Arc<ArcSwap<Policy>>;

/// The policy backend; clones share it.
#[derive(Clone)]
pub(crate) enum PolicyBackend {
    Portal(Portal),
    Embedded(CurrentPolicy),
}

/// The verdict on a connected session, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionValidity {
    Valid,
    /// Not valid, but must stay connected.
    Invalid(String),
    /// Must be disconnected.
    Revoked(String),
    /// Could not be determined.
    Unknown(String),
}

impl PolicyBackend {
    /// Validates a connected session.
    pub(crate) async fn validate(&self, session: &LiveSession, now: SystemTime) -> SessionValidity {
        let Ok(username) = Username::parse(&session.username) else {
            return SessionValidity::Unknown("its username is invalid".to_owned());
        };
        match self {
            Self::Portal(portal) => {
                let answer = portal.validate_session(&username, session.id, session.row.client_ip, now);
                match answer.await {
                    Ok(answer) if answer.force_disconnect => SessionValidity::Revoked(answer.reason),
                    Ok(answer) if answer.valid => SessionValidity::Valid,
                    Ok(answer) => SessionValidity::Invalid(answer.reason),
                    Err(error) => SessionValidity::Unknown(error.to_string()),
                }
            }
            Self::Embedded(policy) => validate_embedded(&policy.load(), &username, session),
        }
    }
}

fn validate_embedded(policy: &Policy, username: &Username, session: &LiveSession) -> SessionValidity {
    let Some(client_ip) = session.row.client_ip else {
        return SessionValidity::Unknown("ocserv reports no client address".to_owned());
    };
    let group = match session.row.group.as_deref().map(GroupName::parse).transpose() {
        Ok(group) => group,
        Err(error) => return SessionValidity::Unknown(format!("its group {error}")),
    };
    let vhost = match session.row.vhost.as_deref().map(VhostName::parse).transpose() {
        Ok(vhost) => vhost,
        Err(error) => return SessionValidity::Unknown(format!("its virtual host {error}")),
    };
    let evaluation = match &vhost {
        Some(vhost) => Some(policy.evaluate(username, group.as_ref(), vhost, client_ip)),
        None => policy.evaluate_without_vhost(username, group.as_ref(), client_ip),
    };
    match evaluation.map(|evaluation| evaluation.verdict) {
        Some(Verdict::Allow(_)) => SessionValidity::Valid,
        Some(Verdict::Deny(denial)) => SessionValidity::Revoked(denial.reason),
        None => SessionValidity::Unknown("ocserv reports no virtual host".to_owned()),
    }
}

impl PolicySource for PolicyBackend {
    fn source(&self) -> Source {
        match self {
            Self::Portal(_) => Source::Portal,
            Self::Embedded(_) => Source::Embedded,
        }
    }

    fn check<'a>(&'a self, login: &'a Login, deadline: Instant) -> CheckFuture<'a> {
        match self {
            Self::Portal(portal) => Box::pin(async move {
                match portal.check_policy(login, deadline, clock::wall()).await {
                    Ok(answer) => Ok(PolicyAnswer {
                        verdict: answer.verdict,
                        ttl: answer.ttl,
                        disconnect: answer.disconnect,
                    }),
                    Err(error) => Err(source_error(&error)),
                }
            }),
            Self::Embedded(policy) => Box::pin(async move {
                let vhost = login.vhost.clone().unwrap_or_default();
                let answer =
                    policy
                        .load()
                        .evaluate(&login.username, login.group.as_ref(), &vhost, login.client_ip);
                Ok(PolicyAnswer {
                    verdict: answer.verdict,
                    ttl: answer.ttl,
                    disconnect: false,
                })
            }),
        }
    }
}

/// What an error of the portal means for the login.
fn source_error(error: &CheckError) -> SourceError {
    match error.meaning() {
        Meaning::Outage => SourceError::Outage(error.to_string()),
        Meaning::Failed => SourceError::Failed(error.to_string()),
        Meaning::InvalidAnswer => SourceError::InvalidAnswer(error.to_string()),
        Meaning::Denied(denial) => SourceError::Rejected(denial),
    }
}
