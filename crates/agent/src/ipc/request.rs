//! Parses requests into checked types.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ocserv_agent_model::{GroupName, Login, OcservId, Usage, Username, VhostName};
use sessions::DisconnectReport;

use crate::operations::list_events::EventsRequest;

/// The longest name of a network device, in bytes (`IFNAMSIZ` 16 with its NUL).
const MAX_DEVICE: usize = 15;

/// A valid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Authorizes a login.
    Connect(Arc<Login>),
    /// Reports the end of a session.
    Disconnect(DisconnectReport),
    /// Reports that the client sent its host name; acknowledged without effect.
    HostUpdate,
    /// Shows that requests are served; without any other effect.
    Ping,
    /// Lists the last decisions: those of one user, or all.
    Decisions(Option<Username>),
    /// Lists events, or sends rejected ones again.
    Events(EventsRequest),
}

/// Why a request is invalid: the field and its problem, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub(crate) struct BadRequest {
    pub field: &'static str,
    pub problem: String,
}

fn bad(field: &'static str, problem: impl Into<String>) -> BadRequest {
    BadRequest {
        field,
        problem: problem.into(),
    }
}

/// Converts the parse error of `field`.
fn invalid<E: fmt::Display>(field: &'static str) -> impl Fn(E) -> BadRequest {
    move |error| bad(field, error.to_string())
}

/// Parses and checks a request.
///
/// # Errors
/// The first field that is invalid.
pub(crate) fn parse_request(request: &ipc::Request) -> Result<Command, BadRequest> {
    match request.reason.as_str() {
        "connect" => login(request).map(|login| Command::Connect(Arc::new(login))),
        "disconnect" => disconnect_report(request).map(Command::Disconnect),
        "host-update" => Ok(Command::HostUpdate),
        "ping" => Ok(Command::Ping),
        "decisions" => of_user(request).map(Command::Decisions),
        "events" => of_user(request).map(|user| Command::Events(EventsRequest::List(user))),
        "dead-letters" => of_user(request).map(|user| Command::Events(EventsRequest::Dead(user))),
        "retry-dead-letters" => Ok(Command::Events(EventsRequest::Retry(request.event_id.clone()))),
        _ => Err(bad(
            "reason",
            "is not one of connect, disconnect, host-update, decisions, events, dead-letters, retry-dead-letters",
        )),
    }
}

fn login(request: &ipc::Request) -> Result<Login, BadRequest> {
    let group = Some(request.groupname.as_str()).filter(|name| !name.is_empty());
    let vhost = request.vhost.as_deref().filter(|name| !name.is_empty());
    Ok(Login {
        username: Username::parse(&request.username).map_err(invalid("username"))?,
        group: group
            .map(GroupName::parse)
            .transpose()
            .map_err(invalid("groupname"))?,
        client_ip: address("ip_real", &request.ip_real)?,
        vhost: vhost
            .map(VhostName::parse)
            .transpose()
            .map_err(invalid("vhost"))?,
        id: id(request)?,
        vpn_ip: vpn_ip(request)?,
        device: device(&request.device)?,
    })
}

/// The user that a request of an operator is about.
fn of_user(request: &ipc::Request) -> Result<Option<Username>, BadRequest> {
    let user = Some(request.username.as_str()).filter(|name| !name.is_empty());
    user.map(Username::parse).transpose().map_err(invalid("username"))
}

fn disconnect_report(request: &ipc::Request) -> Result<DisconnectReport, BadRequest> {
    Ok(DisconnectReport {
        id: id(request)?,
        username: Username::parse(&request.username).map_err(invalid("username"))?,
        usage: request
            .bytes_in
            .zip(request.bytes_out)
            .map(|(received, sent)| Usage { received, sent }),
        duration: request.duration_seconds.map(Duration::from_secs),
        // What is invalid is unknown: the end of a session must be reported.
        vhost: request
            .vhost
            .as_deref()
            .and_then(|name| VhostName::parse(name).ok()),
        group: GroupName::parse(&request.groupname).ok(),
        client_ip: optional_address("ip_real", Some(&request.ip_real)).ok().flatten(),
        vpn_ip: vpn_ip(request).ok().flatten(),
        device: device(&request.device).unwrap_or_default(),
    })
}

/// The client's address inside the VPN: IPv4 where there is one, else IPv6.
fn vpn_ip(request: &ipc::Request) -> Result<Option<IpAddr>, BadRequest> {
    let v4 = optional_address("ip_remote", Some(&request.ip_remote))?;
    let v6 = optional_address("ipv6_remote", request.ipv6_remote.as_deref())?;
    Ok(v4.or(v6))
}

fn id(request: &ipc::Request) -> Result<OcservId, BadRequest> {
    OcservId::parse(&request.session_id).map_err(invalid("session_id"))
}

fn device(name: &str) -> Result<String, BadRequest> {
    let printable = name.chars().all(|c| c.is_ascii_graphic() && c != '/');
    if name.len() > MAX_DEVICE || !printable {
        return Err(bad("device", "is not a network device name"));
    }
    Ok(name.to_owned())
}

/// Parses an address. Removes an IPv6 scope, which ocserv sets to an arbitrary number
/// (`fd88::1%4095080704`), and canonicalises IPv4-mapped IPv6, so that a client has one address.
fn address(field: &'static str, text: &str) -> Result<IpAddr, BadRequest> {
    let plain = text.split('%').next().unwrap_or_default();
    let address: IpAddr = plain.parse().map_err(|_| bad(field, "is not an IP address"))?;
    Ok(address.to_canonical())
}

fn optional_address(field: &'static str, text: Option<&str>) -> Result<Option<IpAddr>, BadRequest> {
    text.filter(|text| !text.is_empty())
        .map(|text| address(field, text))
        .transpose()
}

#[cfg(test)]
mod tests;
