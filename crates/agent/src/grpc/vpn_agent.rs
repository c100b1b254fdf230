//! `agent.v1.VPNAgentService`: the sessions of this server.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use authz::Authorizer;
use model::{DisconnectReason, Usage, Username};
use occtl::ControlError;
use proto::agent::v1::vpn_agent_service_server::VpnAgentService;
use proto::agent::v1::{
    DisconnectUserRequest, DisconnectUserResponse, GetActiveSessionsRequest, GetActiveSessionsResponse,
    NotifyConnectRequest, NotifyConnectResponse, NotifyDisconnectRequest, NotifyDisconnectResponse,
    UpdateUserRoutesRequest, UpdateUserRoutesResponse, VpnSession,
};
use tonic::{Code, Request, Response, Status};

use super::caller::Call;
use super::roles::{Role, Roles};
use super::usage;
use crate::ocserv::{LiveSession, Ocserv};

/// The most of a portal's free text that goes into a log line, in characters.
const MAX_REASON: usize = 200;

/// The service.
pub struct VpnAgent {
    ocserv: Ocserv,
    authorizer: Authorizer,
    roles: Arc<Roles>,
}

impl VpnAgent {
    pub(super) fn new(ocserv: Ocserv, authorizer: Authorizer, roles: Arc<Roles>) -> Self {
        Self {
            ocserv,
            authorizer,
            roles,
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

    async fn disconnect(&self, request: &DisconnectUserRequest) -> Result<DisconnectUserResponse, Status> {
        let name = username("username", &request.username)?;
        // First the decisions: a client that is thrown out tries again at once.
        self.authorizer.revoke_user(&name, &one_line(&request.reason));
        let mut sessions = self.ocserv.live().await.map_err(|error| unavailable(&error))?;
        sessions.retain(|session| session.username == name.as_str());
        if sessions.len() > 1 && !request.disconnect_all_sessions {
            let count = sessions.len();
            return Ok(refused(format!(
                "the user has {count} sessions: set disconnect_all_sessions to end them all"
            )));
        }
        let mut response = DisconnectUserResponse {
            success: true,
            ..Default::default()
        };
        for session in &sessions {
            match self.ocserv.end(session, DisconnectReason::AdminForced).await {
                Ok(true) => response.sessions_disconnected += 1,
                // It ended by itself between the list and now, which is what was asked for.
                Ok(false) => {}
                Err(error) => {
                    response.success = false;
                    response.error_message = format!("could not end session {}: {error}", session.id);
                }
            }
        }
        // Without a connection she may still have a login that brings her back without a password.
        match self.ocserv.forget_logins(&name).await {
            Ok(0) if sessions.is_empty() => return Ok(refused("the user has no session".to_owned())),
            Ok(_) => {}
            Err(error) => {
                response.success = false;
                response.error_message = format!("could not have ocserv forget the user's logins: {error}");
            }
        }
        Ok(response)
    }
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

/// One line of a text that a caller wrote, short enough for a log.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_REASON)
        .collect()
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
        let request = request.get_ref();
        let mut call = call.about(one_line(&request.username));
        let result = self.disconnect(request).await;
        match &result {
            Ok(response) if response.success => {
                let count = response.sessions_disconnected;
                let why = one_line(&request.reason);
                call.done(Code::Ok, &format!("{count} sessions ended: {why}"));
            }
            Ok(response) => call.done(Code::Ok, &response.error_message),
            Err(status) => call.done(status.code(), status.message()),
        }
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
