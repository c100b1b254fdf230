//! Validates the fields of requests; an error names the field.

use std::fmt::Display;
use std::net::IpAddr;

use ocserv_agent_model::{GroupName, OcservId, Username, VhostName};
use prost_types::Timestamp;
use tonic::Status;

use super::journal::Journal;
use super::journal_entry::JournalEntry;
use crate::rfc3339;

/// An invalid field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadField(String);

impl BadField {
    pub(super) fn new(field: &str, reason: impl Display) -> Self {
        Self(format!("{field}: {reason}"))
    }

    /// Records the invalid request and returns its status.
    pub(super) async fn reject(self, journal: &Journal, peer: &str, rpc: &'static str) -> Status {
        let error = self.0.clone();
        journal
            .append(JournalEntry::BadRequest {
                peer: peer.to_owned(),
                rpc,
                error,
            })
            .await;
        Status::invalid_argument(self.0)
    }
}

pub(super) fn username(text: &str) -> Result<Username, BadField> {
    Username::parse(text).map_err(|error| BadField::new("username", error))
}

/// Empty: the user is in no group.
pub(super) fn groupname(text: &str) -> Result<Option<GroupName>, BadField> {
    let parse = || GroupName::parse(text).map_err(|error| BadField::new("groupname", error));
    (!text.is_empty()).then(parse).transpose()
}

/// Empty: the default virtual host.
pub(super) fn vhost(text: &str) -> Result<VhostName, BadField> {
    if text.is_empty() {
        return Ok(VhostName::default());
    }
    VhostName::parse(text).map_err(|error| BadField::new("vhost", error))
}

pub(super) fn session_id(text: &str) -> Result<OcservId, BadField> {
    OcservId::parse(text).map_err(|error| BadField::new("session_id", error))
}

pub(super) fn client_ip(text: &str) -> Result<IpAddr, BadField> {
    address("client_ip", text)
}

/// Empty: unknown.
pub(super) fn optional_client_ip(text: &str) -> Result<Option<IpAddr>, BadField> {
    (!text.is_empty()).then(|| client_ip(text)).transpose()
}

/// Empty: unknown.
pub(super) fn vpn_ip(text: &str) -> Result<Option<IpAddr>, BadField> {
    (!text.is_empty()).then(|| address("vpn_ip", text)).transpose()
}

fn address(field: &str, text: &str) -> Result<IpAddr, BadField> {
    match text.parse() {
        Ok(address) => Ok(address),
        Err(_) if text.is_empty() => Err(BadField::new(field, "is empty")),
        Err(_) => Err(BadField::new(field, "is not an IP address")),
    }
}

/// Formats a time as RFC 3339, UTC; absent: unknown.
pub(super) fn time(field: &str, time: Option<Timestamp>) -> Result<Option<String>, BadField> {
    let text = |time| {
        rfc3339::text(time).ok_or_else(|| BadField::new(field, "is not between the years 1970 and 9999"))
    };
    time.map(text).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_field() {
        assert_eq!(
            username("").unwrap_err(),
            BadField("username: is empty".to_owned())
        );
        assert_eq!(
            client_ip("10.0.0.1:80").unwrap_err(),
            BadField("client_ip: is not an IP address".to_owned())
        );
        let late = Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        let error = BadField("request_time: is not between the years 1970 and 9999".to_owned());
        assert_eq!(time("request_time", Some(late)), Err(error));
        assert_eq!(groupname(""), Ok(None));
        assert_eq!(vpn_ip(""), Ok(None));
    }
}
