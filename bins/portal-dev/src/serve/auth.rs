//! `AuthService`: decides logins and validates sessions.

use std::sync::Arc;

use ocserv_agent_model::{Grant, Verdict};
use ocserv_agent_proto::vpn::v1::auth_service_server::AuthService;
use ocserv_agent_proto::vpn::v1::{
    CheckPolicyRequest, CheckPolicyResponse, ValidateSessionRequest, ValidateSessionResponse,
};
use tonic::{Request, Response, Status};

use super::caller::caller;
use super::fields::{self, BadField};
use super::journal::Journal;
use super::journal_entry::JournalEntry;
use super::policy_watch::CurrentPolicy;
use super::session_registry::{SessionInfo, SessionRegistry};

pub(super) struct Auth {
    policy: CurrentPolicy,
    sessions: Arc<SessionRegistry>,
    journal: Journal,
}

impl Auth {
    pub(super) fn new(policy: CurrentPolicy, sessions: Arc<SessionRegistry>, journal: Journal) -> Self {
        Self {
            policy,
            sessions,
            journal,
        }
    }

    fn check(
        &self,
        peer: &str,
        request: CheckPolicyRequest,
    ) -> Result<(CheckPolicyResponse, JournalEntry), BadField> {
        let username = fields::username(&request.username)?;
        let group = fields::groupname(&request.groupname)?;
        let vhost = fields::vhost(&request.vhost)?;
        let client_ip = fields::client_ip(&request.client_ip)?;
        let vpn_ip = fields::vpn_ip(&request.vpn_ip)?;
        let id = fields::session_id(&request.session_id)?;
        let request_time = fields::time("request_time", request.request_time)?;

        let policy = self.policy.borrow().clone();
        let evaluation = policy.evaluate(&username, group.as_ref(), &vhost, client_ip);
        let (allowed, deny_reason, grant) = match evaluation.verdict {
            Verdict::Allow(grant) => (true, None, grant),
            Verdict::Deny(denial) => (false, Some(denial.reason), Grant::default()),
        };
        if allowed {
            let session = SessionInfo {
                group,
                vhost: Some(vhost.clone()),
                client_ip,
            };
            self.sessions.insert((peer.to_owned(), username, id), session);
        }
        let ttl_seconds = evaluation.ttl.map(|ttl| ttl.as_secs());
        let policy_version = policy.fingerprint().to_owned();
        let dns_servers: Vec<String> = grant.dns_servers.iter().map(ToString::to_string).collect();

        let ttl = ttl_seconds.map(|seconds| ("cache_ttl_seconds".to_owned(), seconds.to_string()));
        let version = ("policy_version".to_owned(), policy_version.clone());
        let response = CheckPolicyResponse {
            allowed,
            deny_reason: deny_reason.clone().unwrap_or_default(),
            routes: grant.routes.to_vec(),
            dns_servers: dns_servers.clone(),
            should_disconnect: false,
            metadata: ttl.into_iter().chain([version]).collect(),
        };
        let entry = JournalEntry::CheckPolicy {
            peer: peer.to_owned(),
            username: request.username,
            groupname: Some(request.groupname).filter(|group| !group.is_empty()),
            vhost: vhost.to_string(),
            client_ip,
            vpn_ip,
            session_id: request.session_id,
            device: request.device,
            request_time,
            allowed,
            deny_reason,
            routes: grant.routes.to_vec(),
            dns_servers,
            ttl_seconds,
            rule: evaluation.rule,
            policy_version,
        };
        Ok((response, entry))
    }

    fn validate(
        &self,
        peer: &str,
        request: ValidateSessionRequest,
    ) -> Result<(ValidateSessionResponse, JournalEntry), BadField> {
        let username = fields::username(&request.username)?;
        let client_ip = fields::client_ip(&request.client_ip)?;
        let id = fields::session_id(&request.session_id)?;
        let request_time = fields::time("request_time", request.request_time)?;

        let policy = self.policy.borrow().clone();
        // The request has no group and no virtual host. A session that started before the portal is
        // valid unless it is denied with every group on every virtual host.
        let session = self.sessions.get(&(peer.to_owned(), username.clone(), id));
        let evaluation = match &session {
            Some(session) => session.evaluate(&policy, &username, client_ip),
            None => policy.evaluate_without_group(&username, client_ip),
        };
        let invalid_reason = evaluation.and_then(|evaluation| match evaluation.verdict {
            Verdict::Allow(_) => None,
            Verdict::Deny(denial) => Some(denial.reason),
        });
        let valid = invalid_reason.is_none();
        let response = ValidateSessionResponse {
            valid,
            invalid_reason: invalid_reason.clone().unwrap_or_default(),
            force_disconnect: !valid,
        };
        let entry = JournalEntry::ValidateSession {
            peer: peer.to_owned(),
            username: request.username,
            session_known: session.is_some(),
            groupname: session
                .and_then(|session| session.group)
                .map(|group| group.to_string()),
            client_ip,
            session_id: request.session_id,
            request_time,
            valid,
            invalid_reason,
            force_disconnect: !valid,
            policy_version: policy.fingerprint().to_owned(),
        };
        Ok((response, entry))
    }
}

#[tonic::async_trait]
impl AuthService for Auth {
    async fn check_policy(
        &self,
        request: Request<CheckPolicyRequest>,
    ) -> Result<Response<CheckPolicyResponse>, Status> {
        let peer = caller(&request);
        match self.check(&peer, request.into_inner()) {
            Ok((response, entry)) => {
                self.journal.append(entry).await;
                Ok(Response::new(response))
            }
            Err(error) => Err(error.reject(&self.journal, &peer, "CheckPolicy").await),
        }
    }

    async fn validate_session(
        &self,
        request: Request<ValidateSessionRequest>,
    ) -> Result<Response<ValidateSessionResponse>, Status> {
        let peer = caller(&request);
        match self.validate(&peer, request.into_inner()) {
            Ok((response, entry)) => {
                self.journal.append(entry).await;
                Ok(Response::new(response))
            }
            Err(error) => Err(error.reject(&self.journal, &peer, "ValidateSession").await),
        }
    }
}
