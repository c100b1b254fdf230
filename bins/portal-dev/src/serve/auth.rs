//! `AuthService`: may this user in, and may she stay?

use std::sync::Arc;

use ocserv_agent_model::{Grant, Verdict};
use ocserv_agent_proto::vpn::v1::auth_service_server::AuthService;
use ocserv_agent_proto::vpn::v1::{
    CheckPolicyRequest, CheckPolicyResponse, ValidateSessionRequest, ValidateSessionResponse,
};
use tonic::{Request, Response, Status};

use super::connection::Caller;
use super::journal::Journal;
use super::known::{Known, KnownSessions};
use super::policy_watch::CurrentPolicy;
use super::record::What;
use super::request::{self, BadField};

pub(super) struct Auth {
    policy: CurrentPolicy,
    known: Arc<KnownSessions>,
    journal: Journal,
}

impl Auth {
    pub(super) fn new(policy: CurrentPolicy, known: Arc<KnownSessions>, journal: Journal) -> Self {
        Self {
            policy,
            known,
            journal,
        }
    }

    fn check(&self, peer: &str, asked: CheckPolicyRequest) -> Result<(CheckPolicyResponse, What), BadField> {
        let username = request::username(&asked.username)?;
        let group = request::groupname(&asked.groupname)?;
        let client_ip = request::client_ip(&asked.client_ip)?;
        let vpn_ip = request::vpn_ip(&asked.vpn_ip)?;
        let id = request::session_id(&asked.session_id)?;
        let request_time = request::time("request_time", asked.request_time)?;

        let policy = self.policy.borrow().clone();
        let answer = policy.evaluate(&username, group.as_ref(), client_ip);
        let (allowed, deny_reason, grant) = match answer.verdict {
            Verdict::Allow(grant) => (true, None, grant),
            Verdict::Deny(refusal) => (false, Some(refusal.reason), Grant::default()),
        };
        if allowed {
            self.known
                .insert((peer.to_owned(), username, id), Known { group, client_ip });
        }
        let ttl_seconds = answer.ttl.map(|ttl| ttl.as_secs());
        let policy_version = policy.fingerprint().to_owned();
        let dns_servers: Vec<String> = grant.dns_servers.iter().map(ToString::to_string).collect();

        let ttl = ttl_seconds.map(|seconds| ("cache_ttl_seconds".to_owned(), seconds.to_string()));
        let version = ("policy_version".to_owned(), policy_version.clone());
        let response = CheckPolicyResponse {
            allowed,
            deny_reason: deny_reason.clone().unwrap_or_default(),
            routes: grant.routes.clone(),
            dns_servers: dns_servers.clone(),
            should_disconnect: false,
            metadata: ttl.into_iter().chain([version]).collect(),
        };
        let line = What::CheckPolicy {
            peer: peer.to_owned(),
            username: asked.username,
            groupname: Some(asked.groupname).filter(|group| !group.is_empty()),
            client_ip,
            vpn_ip,
            session_id: asked.session_id,
            device: asked.device,
            request_time,
            allowed,
            deny_reason,
            routes: grant.routes,
            dns_servers,
            ttl_seconds,
            rule: answer.rule,
            policy_version,
        };
        Ok((response, line))
    }

    fn validate(
        &self,
        peer: &str,
        asked: ValidateSessionRequest,
    ) -> Result<(ValidateSessionResponse, What), BadField> {
        let username = request::username(&asked.username)?;
        let client_ip = request::client_ip(&asked.client_ip)?;
        let id = request::session_id(&asked.session_id)?;
        let request_time = request::time("request_time", asked.request_time)?;

        let policy = self.policy.borrow().clone();
        // The request names no group. Of a session that this portal was not told about (it began before the portal
        // did), only what holds for every group can be said; where that is nothing, the session is left alone.
        let known = self.known.get(&(peer.to_owned(), username.clone(), id));
        let answer = match &known {
            Some(known) => Some(policy.evaluate(&username, known.group.as_ref(), client_ip)),
            None => policy.evaluate_without_group(&username, client_ip),
        };
        let invalid_reason = answer.and_then(|answer| match answer.verdict {
            Verdict::Allow(_) => None,
            Verdict::Deny(refusal) => Some(refusal.reason),
        });
        let valid = invalid_reason.is_none();
        let response = ValidateSessionResponse {
            valid,
            invalid_reason: invalid_reason.clone().unwrap_or_default(),
            force_disconnect: !valid,
        };
        let line = What::ValidateSession {
            peer: peer.to_owned(),
            username: asked.username,
            session_known: known.is_some(),
            groupname: known.and_then(|known| known.group).map(|group| group.to_string()),
            client_ip,
            session_id: asked.session_id,
            request_time,
            valid,
            invalid_reason,
            force_disconnect: !valid,
            policy_version: policy.fingerprint().to_owned(),
        };
        Ok((response, line))
    }
}

#[tonic::async_trait]
impl AuthService for Auth {
    async fn check_policy(
        &self,
        request: Request<CheckPolicyRequest>,
    ) -> Result<Response<CheckPolicyResponse>, Status> {
        let peer = Caller::of(request.extensions());
        match self.check(&peer, request.into_inner()) {
            Ok((response, line)) => {
                self.journal.note(line).await;
                Ok(Response::new(response))
            }
            Err(bad) => Err(bad.refuse(&self.journal, &peer, "CheckPolicy").await),
        }
    }

    async fn validate_session(
        &self,
        request: Request<ValidateSessionRequest>,
    ) -> Result<Response<ValidateSessionResponse>, Status> {
        let peer = Caller::of(request.extensions());
        match self.validate(&peer, request.into_inner()) {
            Ok((response, line)) => {
                self.journal.note(line).await;
                Ok(Response::new(response))
            }
            Err(bad) => Err(bad.refuse(&self.journal, &peer, "ValidateSession").await),
        }
    }
}
