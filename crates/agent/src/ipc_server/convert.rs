//! From what the helper says to what the agent knows: the conversion is the check.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ocserv_agent_model::{GroupName, Login, OcservId, Usage, Username, VhostName};

use sessions::DisconnectReport;

/// The longest name of a network device, in bytes (`IFNAMSIZ` 16 with its NUL).
const MAX_DEVICE: usize = 15;

/// What the helper wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// May this client come in?
    Connect(Arc<Login>),
    /// This session is over.
    Disconnect(DisconnectReport),
    /// The client told its host name: nothing to decide.
    HostUpdate,
    /// An operator wants to see the last decisions: about one user, or all.
    Decisions(Option<Username>),
}

/// A request that does not make sense. Names the field, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct BadRequest {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

fn bad(field: &'static str, problem: impl Into<String>) -> BadRequest {
    BadRequest {
        field,
        problem: problem.into(),
    }
}

/// The refusal of `field` for what its type found.
fn not<E: fmt::Display>(field: &'static str) -> impl Fn(E) -> BadRequest {
    move |error| bad(field, error.to_string())
}

/// Checks a request.
///
/// # Errors
/// The first field that cannot be what it says.
pub fn read_request(request: &ipc::Request) -> Result<Ask, BadRequest> {
    match request.reason.as_str() {
        "connect" => login(request).map(|login| Ask::Connect(Arc::new(login))),
        "disconnect" => ended(request).map(Ask::Disconnect),
        "host-update" => Ok(Ask::HostUpdate),
        "decisions" => decisions(request).map(Ask::Decisions),
        _ => Err(bad(
            "reason",
            "is none of connect, disconnect, host-update, decisions",
        )),
    }
}

fn login(request: &ipc::Request) -> Result<Login, BadRequest> {
    let group = Some(request.groupname.as_str()).filter(|name| !name.is_empty());
    let vhost = request.vhost.as_deref().filter(|name| !name.is_empty());
    let vpn_v4 = optional_address("ip_remote", Some(&request.ip_remote))?;
    let vpn_v6 = optional_address("ipv6_remote", request.ipv6_remote.as_deref())?;
    Ok(Login {
        username: Username::parse(&request.username).map_err(not("username"))?,
        group: group
            .map(GroupName::parse)
            .transpose()
            .map_err(not("groupname"))?,
        client_ip: address("ip_real", &request.ip_real)?,
        vhost: vhost.map(VhostName::parse).transpose().map_err(not("vhost"))?,
        id: id(request)?,
        vpn_ip: vpn_v4.or(vpn_v6),
        device: device(&request.device)?,
    })
}

fn decisions(request: &ipc::Request) -> Result<Option<Username>, BadRequest> {
    let user = Some(request.username.as_str()).filter(|name| !name.is_empty());
    user.map(Username::parse).transpose().map_err(not("username"))
}

fn ended(request: &ipc::Request) -> Result<DisconnectReport, BadRequest> {
    Ok(DisconnectReport {
        id: id(request)?,
        username: Username::parse(&request.username).map_err(not("username"))?,
        usage: request
            .bytes_in
            .zip(request.bytes_out)
            .map(|(received, sent)| Usage { received, sent }),
        duration: request.duration_seconds.map(Duration::from_secs),
    })
}

fn id(request: &ipc::Request) -> Result<OcservId, BadRequest> {
    OcservId::parse(&request.session_id).map_err(not("session_id"))
}

fn device(name: &str) -> Result<String, BadRequest> {
    let printable = name.chars().all(|c| c.is_ascii_graphic() && c != '/');
    if name.len() > MAX_DEVICE || !printable {
        return Err(bad("device", "is no name of a network device"));
    }
    Ok(name.to_owned())
}

/// Reads an address. ocserv hands out IPv6 addresses with a scope that is garbage (`fd88::1%4095080704`): it is cut off.
/// An IPv4 address in IPv6 clothes is undressed, so that one client has one address.
fn address(field: &'static str, text: &str) -> Result<IpAddr, BadRequest> {
    let plain = text.split('%').next().unwrap_or_default();
    let address: IpAddr = plain.parse().map_err(|_| bad(field, "is no IP address"))?;
    Ok(address.to_canonical())
}

fn optional_address(field: &'static str, text: Option<&str>) -> Result<Option<IpAddr>, BadRequest> {
    text.filter(|text| !text.is_empty())
        .map(|text| address(field, text))
        .transpose()
}

#[cfg(test)]
mod tests;
