//! The stored form of a session: a version, then fields of fixed order.
//!
//! Numbers are little-endian; a text is its length in two bytes and its bytes; an optional field is
//! a byte that says whether it follows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ocserv_agent_model::{
    DisconnectReason, GroupName, OcservId, SessionUid, Source, Usage, Username, VhostName,
};

use crate::changes::RowChange;
use crate::session::Session;

/// The version of the format.
const VERSION: u8 = 1;

/// Why a stored row cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowError {
    /// A newer program wrote it.
    Version(u8),
    /// It is cut off or invalid.
    Damaged,
}

impl std::fmt::Display for RowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => write!(f, "format {version} is of a newer program"),
            Self::Damaged => f.write_str("the row is damaged"),
        }
    }
}

impl std::error::Error for RowError {}

/// The change that writes the row of a session.
pub(crate) fn change(session: &Session) -> RowChange {
    RowChange {
        uid: session.uid.clone(),
        row: Some(encode(session)),
    }
}

fn encode(session: &Session) -> Vec<u8> {
    let mut out = Writer(vec![VERSION]);
    out.number(session.id.get().unsigned_abs().into());
    out.text(session.username.as_str());
    out.text(session.uid.as_str());
    out.number(session.uid_second);
    out.optional(session.connected_at, Writer::number);
    out.optional(session.group.as_ref(), |out, name| out.text(name.as_str()));
    out.optional(session.client_ip, Writer::address);
    out.optional(session.vpn_ip, Writer::address);
    out.text(&session.device);
    out.optional(session.vhost.as_ref(), |out, name| out.text(name.as_str()));
    out.optional(session.source, |out, source| out.text(source.as_str()));
    out.text(session.reason.as_str());
    out.optional(session.usage, |out, usage| {
        out.number(usage.received);
        out.number(usage.sent);
    });
    out.time(session.last_activity);
    out.time(session.confirmed_at);
    out.0
}

/// Reads a stored row.
pub(crate) fn decode(row: &[u8]) -> Result<Session, RowError> {
    match row.first() {
        Some(&VERSION) => {}
        Some(&version) if version > VERSION => return Err(RowError::Version(version)),
        _ => return Err(RowError::Damaged),
    }
    let mut input = Reader(row.get(1..).unwrap_or_default());
    input
        .session()
        .filter(|_| input.0.is_empty())
        .ok_or(RowError::Damaged)
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Writes a text. Names in the model are far shorter than the limit.
    fn text(&mut self, text: &str) {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend(text.bytes().take(length.into()));
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.0.push(4);
                self.0.extend_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                self.0.push(6);
                self.0.extend_from_slice(&address.octets());
            }
        }
    }

    fn time(&mut self, time: SystemTime) {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.number(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX));
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl Fn(&mut Self, T)) {
        self.0.push(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn session(&mut self) -> Option<Session> {
        Some(Session {
            id: OcservId::new(i32::try_from(self.number()?).ok()?).ok()?,
            username: Username::parse(self.text()?).ok()?,
            uid: SessionUid::restore(self.text()?),
            uid_second: self.number()?,
            connected_at: self.optional(Self::number)?,
            group: self.optional(|input| GroupName::parse(input.text()?).ok())?,
            client_ip: self.optional(Self::address)?,
            vpn_ip: self.optional(Self::address)?,
            device: self.text()?.to_owned(),
            vhost: self.optional(|input| VhostName::parse(input.text()?).ok())?,
            source: self.optional(|input| {
                let name = input.text()?;
                Source::ALL.into_iter().find(|source| source.as_str() == name)
            })?,
            reason: {
                let name = self.text()?;
                DisconnectReason::ALL
                    .into_iter()
                    .find(|reason| reason.as_str() == name)?
            },
            usage: self.optional(|input| {
                Some(Usage {
                    received: input.number()?,
                    sent: input.number()?,
                })
            })?,
            last_activity: self.time()?,
            confirmed_at: self.time()?,
            missing_since: None,
        })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_le_bytes(self.take()?);
        let (text, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.take()? {
            [4] => self.take::<4>().map(|octets| Ipv4Addr::from(octets).into()),
            [6] => self.take::<16>().map(|octets| Ipv6Addr::from(octets).into()),
            _ => None,
        }
    }

    fn time(&mut self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_millis(self.number()?))
    }

    /// `None` when the input is invalid.
    #[expect(clippy::option_option, reason = "an absent field, and an invalid one")]
    fn optional<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.take()? {
            [0] => Some(None),
            [1] => read(self).map(Some),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
