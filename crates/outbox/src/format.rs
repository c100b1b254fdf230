//! The encoding of events: a version, a checksum of key and body, and the body in JSON.
//!
//! A field that is added later has a default, so that it needs no new version. A version that this
//! program does not know is only in a file that it does not open.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{
    Connected, DisconnectReason, Disconnected, Event, EventId, EventKind, GroupName, OcservId, Reconciled,
    SessionStatus, SessionUid, Source, Updated, Usage, Username, VhostName,
};
use serde::{Deserialize, Serialize};
use storage::{CHECKSUM_START, checksum};

/// Version of the encoding of one event.
const VERSION: u8 = 1;
/// Length of the version and the checksum, in bytes.
const HEADER_LEN: usize = 1 + size_of::<u64>();

/// An event and when it was queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedEvent {
    /// The event.
    pub event: Event,
    /// When it was queued.
    pub queued: SystemTime,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EventRecord {
    /// Nanoseconds since 1970, as all times here.
    queued: u64,
    user: String,
    id: i32,
    uid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vhost: Option<String>,
    /// The accuracy of the time of a reconciled event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reconciled: Option<u64>,
    kind: KindRecord,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindRecord {
    Connected {
        at: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_ip: Option<IpAddr>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpn_ip: Option<IpAddr>,
        #[serde(default)]
        device: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
    },
    Disconnected {
        at: u64,
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<UsageRecord>,
        #[serde(default)]
        is_sampled: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<u64>,
    },
    Updated {
        at: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<UsageRecord>,
        duration: u64,
        is_idle: bool,
    },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct UsageRecord {
    received: u64,
    sent: u64,
}

/// Encodes the event with number `sequence`.
pub(crate) fn encode(sequence: u64, event: &Event, queued: SystemTime) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&[0; size_of::<u64>()]);
    #[expect(
        clippy::expect_used,
        reason = "the record holds only strings, numbers and addresses, and a vector grows"
    )]
    serde_json::to_writer(&mut bytes, &record(event, queued)).expect("plain data serializes");
    let sum = checksum_of(sequence, bytes.get(HEADER_LEN..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(1..HEADER_LEN) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// Whether the checksum of an encoded event is right.
pub(crate) fn is_intact(sequence: u64, bytes: &[u8]) -> bool {
    body(sequence, bytes).is_some()
}

/// Decodes the event with number `sequence`; `None` for anything that [`encode`] does not return.
pub(crate) fn decode(sequence: u64, bytes: &[u8]) -> Option<QueuedEvent> {
    let record: EventRecord = serde_json::from_slice(body(sequence, bytes)?).ok()?;
    event(record)
}

fn body(sequence: u64, bytes: &[u8]) -> Option<&[u8]> {
    let (header, body) = bytes.split_at_checked(HEADER_LEN)?;
    let (version, sum) = header.split_first()?;
    let is_intact = *version == VERSION && *sum == checksum_of(sequence, body).to_be_bytes();
    is_intact.then_some(body)
}

fn checksum_of(sequence: u64, body: &[u8]) -> u64 {
    checksum(checksum(CHECKSUM_START, &sequence.to_be_bytes()), body)
}

pub(crate) fn record(event: &Event, queued: SystemTime) -> EventRecord {
    let usage = |usage: Option<Usage>| usage.map(|Usage { received, sent }| UsageRecord { received, sent });
    let kind = match &event.kind {
        EventKind::Connected(connected) => KindRecord::Connected {
            at: nanoseconds(connected.at),
            client_ip: connected.client_ip,
            vpn_ip: connected.vpn_ip,
            device: connected.device.clone(),
            group: connected.group.as_ref().map(ToString::to_string),
        },
        EventKind::Disconnected(end) => KindRecord::Disconnected {
            at: nanoseconds(end.at),
            reason: end.reason.as_str().to_owned(),
            usage: usage(end.usage),
            is_sampled: end.is_sampled,
            duration: end.duration.map(whole_nanoseconds),
        },
        EventKind::Updated(update) => KindRecord::Updated {
            at: nanoseconds(update.at),
            usage: usage(update.usage),
            duration: whole_nanoseconds(update.duration),
            is_idle: update.status == SessionStatus::Idle,
        },
    };
    EventRecord {
        queued: nanoseconds(queued),
        user: event.username.to_string(),
        id: event.id.get(),
        uid: event.uid.to_string(),
        source: event.decision_source.map(|source| source.as_str().to_owned()),
        vhost: event.vhost.as_ref().map(ToString::to_string),
        reconciled: event
            .reconciled
            .map(|reconciled| whole_nanoseconds(reconciled.time_accuracy)),
        kind,
    }
}

/// Checks a record; `None` for one that [`record`] does not return.
pub(crate) fn event(record: EventRecord) -> Option<QueuedEvent> {
    let uid = SessionUid::restore(&record.uid);
    let kind = kind(record.kind)?;
    let event = Event {
        event_id: EventId::new(&uid, &kind),
        username: Username::parse(&record.user).ok()?,
        id: OcservId::new(record.id).ok()?,
        uid,
        decision_source: match record.source {
            Some(name) => Some(Source::ALL.into_iter().find(|source| source.as_str() == name)?),
            None => None,
        },
        vhost: parse_optional(record.vhost, VhostName::parse)?,
        reconciled: record.reconciled.map(|nanoseconds| Reconciled {
            time_accuracy: Duration::from_nanos(nanoseconds),
        }),
        kind,
    };
    Some(QueuedEvent {
        event,
        queued: time(record.queued)?,
    })
}

fn kind(record: KindRecord) -> Option<EventKind> {
    let usage =
        |usage: Option<UsageRecord>| usage.map(|UsageRecord { received, sent }| Usage { received, sent });
    Some(match record {
        KindRecord::Connected {
            at,
            client_ip,
            vpn_ip,
            device,
            group,
        } => EventKind::Connected(Connected {
            at: time(at)?,
            client_ip,
            vpn_ip,
            device,
            group: parse_optional(group, GroupName::parse)?,
        }),
        KindRecord::Disconnected {
            at,
            reason,
            usage: used,
            is_sampled,
            duration,
        } => EventKind::Disconnected(Disconnected {
            at: time(at)?,
            reason: DisconnectReason::ALL
                .into_iter()
                .find(|known| known.as_str() == reason)?,
            usage: usage(used),
            is_sampled,
            duration: duration.map(Duration::from_nanos),
        }),
        KindRecord::Updated {
            at,
            usage: used,
            duration,
            is_idle,
        } => EventKind::Updated(Updated {
            at: time(at)?,
            usage: usage(used),
            duration: Duration::from_nanos(duration),
            status: if is_idle {
                SessionStatus::Idle
            } else {
                SessionStatus::Active
            },
        }),
    })
}

/// Parses an optional name; `None` when it is invalid.
fn parse_optional<T, E>(name: Option<String>, parse: impl Fn(&str) -> Result<T, E>) -> Option<Option<T>> {
    name.map(|name| parse(&name)).transpose().ok()
}

fn nanoseconds(time: SystemTime) -> u64 {
    whole_nanoseconds(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn whole_nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn time(nanoseconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests;
