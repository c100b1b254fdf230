//! `agent.v1.VPNAgentService`: the sessions of this server.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use authz::Authorizer;
use occtl::ControlError;
use ocserv_agent_model::{DisconnectReason, OcservId, Usage, Username, one_line};
use ocserv_agent_proto::agent::v1::vpn_agent_service_server::VpnAgentService;
use ocserv_agent_proto::agent::v1::{
    DisconnectUserRequest, DisconnectUserResponse, GetActiveSessionsRequest, GetActiveSessionsResponse,
    NotifyConnectRequest, NotifyConnectResponse, NotifyDisconnectRequest, NotifyDisconnectResponse,
    UpdateUserRoutesRequest, UpdateUserRoutesResponse, VpnSession,
};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status};

use super::caller::Call;
use super::roles::{Role, Roles};
use super::usage;
use crate::ocserv::{LetIn, LiveSession, Ocserv};

/// The most of a portal's free text that goes into a log line, in characters.
const MAX_REASON: usize = 200;

/// Users whose sessions are being ended at once; one more waits.
const MAX_ENDINGS: usize = 64;

/// The service.
#[derive(Clone)]
pub struct VpnAgent {
    ocserv: Ocserv,
    authorizer: Authorizer,
    roles: Arc<Roles>,
    /// Where the ending of a user's sessions goes on when its caller does not wait for it.
    tasks: TaskTracker,
    endings: Arc<Semaphore>,
}

impl VpnAgent {
    pub(super) fn new(ocserv: Ocserv, authorizer: Authorizer, roles: Arc<Roles>, tasks: TaskTracker) -> Self {
        Self {
            ocserv,
            authorizer,
            roles,
            tasks,
            endings: Arc::new(Semaphore::new(MAX_ENDINGS)),
        }
    }

    async fn list(&self, request: &GetActiveSessionsRequest) -> Result<GetActiveSessionsResponse, Status> {
        let wanted = match request.username_filter.as_str() {
            "" => None,
            name => Some(username("username_filter", name)?),
        };
        let mut sessions = self.ocserv.live().await.map_err(|error| unavailable(&error))?;
        sessions.retain(|session| {
            wanted
                .as_ref()
                .is_none_or(|name| name.as_str() == session.username)
        });
        let usage = if request.include_stats {
            usage::devices()
                .await
                .map_err(|error| Status::unavailable(format!("could not read the byte counts: {error}")))?
        } else {
            HashMap::new()
        };
        let sessions: Vec<_> = sessions
            .into_iter()
            .map(|session| on_the_wire(session, &usage))
            .collect();
        let total_count = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
        Ok(GetActiveSessionsResponse {
            sessions,
            total_count,
        })
    }

    /// Ends what the user has, and says so in the audit line, whether or not the caller still waits.
    async fn disconnect(
        self,
        mut call: Call,
        request: DisconnectUserRequest,
    ) -> Result<DisconnectUserResponse, Status> {
        let why = one_line(&request.reason, MAX_REASON);
        let result = self.throw_out(&request, &why).await;
        match &result {
            Ok(response) if response.success => {
                let count = response.sessions_disconnected;
                call.done(Code::Ok, &format!("{count} sessions ended: {why}"));
            }
            Ok(response) => call.done(Code::Ok, &response.error_message),
            Err(status) => call.done(status.code(), status.message()),
        }
        result
    }

    async fn throw_out(
        &self,
        request: &DisconnectUserRequest,
        why: &str,
    ) -> Result<DisconnectUserResponse, Status> {
        let name = username("username", &request.username)?;
        if !request.disconnect_all_sessions {
            let sessions = self.ocserv.sessions_of(&name).await;
            let count = sessions.map_err(|error| unavailable(&error))?.len();
            if count > 1 {
                return Ok(refused(format!(
                    "the user has {count} sessions: set disconnect_all_sessions to end them all"
                )));
            }
        }
        // First the decisions: a client that is thrown out tries again at once, and no login is let in after this by a
        // decision from before.
        let let_in: Vec<LetIn> = self
            .authorizer
            .revoke_user(&name, why)
            .iter()
            .map(|record| LetIn {
                id: record.id,
                at: record.at,
            })
            .collect();
        let out = self
            .ocserv
            .throw_out(&name, &let_in, DisconnectReason::AdminForced);
        let out = out.await.map_err(|error| unavailable(&error))?;
        let mut problems: Vec<String> = out.failed.iter().map(failed).collect();
        problems.extend(out.under_way.iter().map(under_way));
        // Without a connection she may still have a login that brings her back without a password.
        match self.ocserv.forget_logins(&name).await {
            Ok(0) if out.found == 0 => problems.push("the user has no session".to_owned()),
            Ok(_) => {}
            Err(error) => problems.push(format!("could not have ocserv forget the user's logins: {error}")),
        }
        Ok(DisconnectUserResponse {
            success: problems.is_empty(),
            sessions_disconnected: out.ended,
            error_message: problems.join("; "),
        })
    }
}

fn failed((id, error): &(OcservId, ControlError)) -> String {
    format!("could not end session {id}: {error}")
}

fn under_way(id: &OcservId) -> String {
    format!("login {id} is still in its connect-script: ask again")
}

fn refused(error_message: String) -> DisconnectUserResponse {
    DisconnectUserResponse {
        success: false,
        sessions_disconnected: 0,
        error_message,
    }
}

fn username(field: &str, text: &str) -> Result<Username, Status> {
    Username::parse(text).map_err(|error| Status::invalid_argument(format!("{field} {error}")))
}

fn unavailable(error: &ControlError) -> Status {
    Status::unavailable(format!("ocserv does not answer: {error}"))
}

fn on_the_wire(session: LiveSession, usage: &HashMap<String, Usage>) -> VpnSession {
    let LiveSession {
        username,
        id,
        connected_at,
        uid,
        row,
    } = session;
    let bytes = row
        .device
        .as_ref()
        .and_then(|device| usage.get(device))
        .copied()
        .unwrap_or_default();
    let text = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let known = [
        ("session_uid", Some(uid.to_string())),
        ("groupname", row.group),
        ("vhost", row.vhost),
        ("hostname", row.hostname),
        ("user_agent", row.user_agent),
    ];
    let metadata = known
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect();
    let vpn_ip = row.vpn_ipv4.map(IpAddr::V4).or(row.vpn_ipv6.map(IpAddr::V6));
    VpnSession {
        session_id: id.to_string(),
        username,
        client_ip: text(row.client_ip),
        vpn_ip: text(vpn_ip),
        connected_at: Some((UNIX_EPOCH + Duration::from_secs(connected_at)).into()),
        bytes_in: bytes.received,
        bytes_out: bytes.sent,
        device_id: row.device.unwrap_or_default(),
        metadata,
    }
}

#[tonic::async_trait]
impl VpnAgentService for VpnAgent {
    async fn get_active_sessions(
        &self,
        request: Request<GetActiveSessionsRequest>,
    ) -> Result<Response<GetActiveSessionsResponse>, Status> {
        let mut call = Call::admit("GetActiveSessions", Role::Viewer, &self.roles, &request)?;
        let result = self.list(request.get_ref()).await;
        match &result {
            Ok(response) => call.done(Code::Ok, &format!("{} sessions", response.total_count)),
            Err(status) => call.done(status.code(), status.message()),
        }
        result.map(Response::new)
    }

    async fn disconnect_user(
        &self,
        request: Request<DisconnectUserRequest>,
    ) -> Result<Response<DisconnectUserResponse>, Status> {
        let call = Call::admit("DisconnectUser", Role::Operator, &self.roles, &request)?;
        let request = request.into_inner();
        let call = call.about(one_line(&request.username, MAX_REASON));
        let (this, slot) = (self.clone(), Arc::clone(&self.endings).acquire_owned().await);
        let ending = self.tasks.spawn(async move {
            let _slot = slot;
            this.disconnect(call, request).await
        });
        let result = ending
            .await
            .unwrap_or_else(|_| Err(Status::internal("the call was lost")));
        result.map(Response::new)
    }

    async fn notify_connect(
        &self,
        request: Request<NotifyConnectRequest>,
    ) -> Result<Response<NotifyConnectResponse>, Status> {
        let call = Call::admit("NotifyConnect", Role::Operator, &self.roles, &request)?;
        Err(not_served(
            call,
            "this agent learns of connects from ocserv itself",
        ))
    }

    async fn notify_disconnect(
        &self,
        request: Request<NotifyDisconnectRequest>,
    ) -> Result<Response<NotifyDisconnectResponse>, Status> {
        let call = Call::admit("NotifyDisconnect", Role::Operator, &self.roles, &request)?;
        Err(not_served(
            call,
            "this agent learns of disconnects from ocserv itself",
        ))
    }

    async fn update_user_routes(
        &self,
        request: Request<UpdateUserRoutesRequest>,
    ) -> Result<Response<UpdateUserRoutesResponse>, Status> {
        let call = Call::admit("UpdateUserRoutes", Role::Operator, &self.roles, &request)?;
        Err(not_served(
            call,
            "this agent does not write ocserv's per-user files",
        ))
    }
}

fn not_served(mut call: Call, why: &'static str) -> Status {
    call.done(Code::Unimplemented, why);
    Status::unimplemented(why)
}

#[cfg(test)]
mod tests;
