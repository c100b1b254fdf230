//! `agent.v1.VPNAgentService`: lists and disconnects the sessions of this server.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ocserv::LiveSession;
use ocserv_agent_model::{DisconnectReason, Username, error_chain, one_line};
use ocserv_agent_proto::agent::v1::vpn_agent_service_server::VpnAgentService;
use ocserv_agent_proto::agent::v1::{
    DisconnectUserRequest, DisconnectUserResponse, GetActiveSessionsRequest, GetActiveSessionsResponse,
    NotifyConnectRequest, NotifyConnectResponse, NotifyDisconnectRequest, NotifyDisconnectResponse,
    UpdateUserRoutesRequest, UpdateUserRoutesResponse, VpnSession,
};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use super::call::Call;
use super::roles::{Role, Roles};
use crate::operations::Operations;
use crate::operations::disconnect_user::{DisconnectError, DisconnectSummary};
use crate::operations::list_sessions::ListedSession;

/// Longest text from a request in a log line, in characters.
const MAX_LOGGED_TEXT: usize = 200;

/// Most disconnects that run or wait for ocserv, with those whose caller has cancelled.
const MAX_DISCONNECTS: usize = 1_024;

/// The service; clones share its limits.
#[derive(Clone)]
pub(crate) struct VpnAgent {
    operations: Operations,
    roles: Roles,
    /// Runs disconnects to completion when their caller cancels.
    tasks: TaskTracker,
    disconnects: Arc<Semaphore>,
}

impl VpnAgent {
    pub(super) fn new(operations: Operations, roles: Roles, tasks: TaskTracker) -> Self {
        Self {
            operations,
            roles,
            tasks,
            disconnects: Arc::new(Semaphore::new(MAX_DISCONNECTS)),
        }
    }

    async fn list_sessions(
        &self,
        request: &GetActiveSessionsRequest,
    ) -> Result<GetActiveSessionsResponse, Status> {
        let username = match request.username_filter.as_str() {
            "" => None,
            name => Some(username("username_filter", name)?),
        };
        let list = &self.operations.list_sessions;
        let sessions = list.run(username.as_ref(), request.include_stats).await;
        let sessions = sessions.map_err(|error| unavailable(&error))?;
        Ok(GetActiveSessionsResponse {
            total_count: u32::try_from(sessions.len()).unwrap_or(u32::MAX),
            sessions: sessions.into_iter().map(to_proto).collect(),
        })
    }

    async fn disconnect(
        &self,
        request: &DisconnectUserRequest,
        note: &str,
    ) -> Result<DisconnectUserResponse, Status> {
        let username = username("username", &request.username)?;
        let only_one = !request.disconnect_all_sessions;
        let disconnect = &self.operations.disconnect_user;
        let summary = disconnect.run(&username, only_one, DisconnectReason::AdminForced, note);
        match summary.await {
            Ok(summary) => Ok(response(&summary)),
            Err(error @ DisconnectError::SeveralSessions(_)) => Ok(DisconnectUserResponse {
                success: false,
                sessions_disconnected: 0,
                error_message: format!("{error}: set disconnect_all_sessions to disconnect them all"),
            }),
            Err(error @ DisconnectError::Ocserv(_)) => Err(unavailable(&error)),
        }
    }

    /// Rejects a call beyond the limit. The user is revoked all the same: that waits for nothing.
    fn reject_disconnect(&self, mut call: Call, request: &DisconnectUserRequest, note: &str) -> Status {
        let mut message = "too many disconnects are in progress: try again".to_owned();
        if request.disconnect_all_sessions
            && let Ok(username) = Username::parse(&request.username)
        {
            self.operations.disconnect_user.revoke_only(&username, note);
            message.push_str("; the user is revoked, and no session is disconnected");
        }
        call.reject(Status::resource_exhausted(message))
    }
}

/// Reports success when no session, pending login or cookie of the user is left, and the revocation
/// is stored.
fn response(summary: &DisconnectSummary) -> DisconnectUserResponse {
    let problems = summary.problems();
    DisconnectUserResponse {
        success: problems.is_empty(),
        sessions_disconnected: summary.disconnected,
        error_message: problems.join("; "),
    }
}

/// Returns `count` as text: "1 session".
fn sessions(count: u32) -> String {
    match count {
        1 => "1 session".to_owned(),
        _ => format!("{count} sessions"),
    }
}

fn username(field: &str, text: &str) -> Result<Username, Status> {
    Username::parse(text).map_err(|error| Status::invalid_argument(format!("{field} {error}")))
}

fn unavailable(error: &dyn Error) -> Status {
    Status::unavailable(error_chain(error))
}

fn to_proto(listed: ListedSession) -> VpnSession {
    let ListedSession { session, usage } = listed;
    let LiveSession {
        username,
        id,
        connected_at,
        uid,
        row,
    } = session;
    let usage = usage.unwrap_or_default();
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
        bytes_in: usage.received,
        bytes_out: usage.sent,
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
        let call = Call::authorize("GetActiveSessions", Role::Viewer, &self.roles, &request)?;
        let result = self.list_sessions(request.get_ref()).await;
        call.finish(result, |response| sessions(response.total_count))
    }

    /// Disconnects the user and writes the audit line, even if the caller cancels.
    async fn disconnect_user(
        &self,
        request: Request<DisconnectUserRequest>,
    ) -> Result<Response<DisconnectUserResponse>, Status> {
        let call = Call::authorize("DisconnectUser", Role::Operator, &self.roles, &request)?;
        let request = request.into_inner();
        let call = call.with_user(one_line(&request.username, MAX_LOGGED_TEXT));
        let note = one_line(&request.reason, MAX_LOGGED_TEXT);
        let Ok(permit) = Arc::clone(&self.disconnects).try_acquire_owned() else {
            return Err(self.reject_disconnect(call, &request, &note));
        };
        let this = self.clone();
        let disconnect = self.tasks.spawn(async move {
            let _permit = permit;
            let result = this.disconnect(&request, &note).await;
            call.finish(result, |response| match response.sessions_disconnected {
                count if response.success => format!("{} disconnected: {note}", sessions(count)),
                _ => response.error_message.clone(),
            })
        });
        let interrupted = |_| Err(Status::internal("the disconnect was interrupted"));
        disconnect.await.unwrap_or_else(interrupted)
    }

    async fn notify_connect(
        &self,
        request: Request<NotifyConnectRequest>,
    ) -> Result<Response<NotifyConnectResponse>, Status> {
        let call = Call::authorize("NotifyConnect", Role::Operator, &self.roles, &request)?;
        Err(unimplemented(
            call,
            "not supported: ocserv reports connects to the agent",
        ))
    }

    async fn notify_disconnect(
        &self,
        request: Request<NotifyDisconnectRequest>,
    ) -> Result<Response<NotifyDisconnectResponse>, Status> {
        let call = Call::authorize("NotifyDisconnect", Role::Operator, &self.roles, &request)?;
        Err(unimplemented(
            call,
            "not supported: ocserv reports disconnects to the agent",
        ))
    }

    async fn update_user_routes(
        &self,
        request: Request<UpdateUserRoutesRequest>,
    ) -> Result<Response<UpdateUserRoutesResponse>, Status> {
        let call = Call::authorize("UpdateUserRoutes", Role::Operator, &self.roles, &request)?;
        Err(unimplemented(
            call,
            "not supported: the agent does not write ocserv's per-user files",
        ))
    }
}

fn unimplemented(mut call: Call, message: &'static str) -> Status {
    call.reject(Status::unimplemented(message))
}

#[cfg(test)]
mod tests;
