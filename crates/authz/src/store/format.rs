//! The encoding of decisions and revocations: keys and values are JSON, and a checksum of both
//! precedes the value, so that a damaged name cannot become another user's.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{Denial, DenyCode, Grant, GroupName, Username, Verdict, VhostName};
use resilience::{AccessScope, CacheKey, Record, Revocation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use storage::{CHECKSUM_START, checksum};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRecord {
    user: String,
    group: Option<String>,
    client_ip: IpAddr,
    vhost: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerRecord {
    /// Milliseconds since 1970.
    asked: u64,
    verdict: VerdictRecord,
}

// The routes are stored: an allow without its routes would allow more.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum VerdictRecord {
    Allow {
        routes: Vec<String>,
        dns_servers: Vec<IpAddr>,
    },
    Deny {
        code: String,
        reason: String,
    },
}

/// The value of a denied user; its key is the user name.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevocationRecord {
    /// Milliseconds since 1970.
    at: u64,
    reason: String,
    #[serde(rename = "let_in")]
    allowed_since: Vec<ScopeRecord>,
    /// Milliseconds since 1970. A record that has neither this nor `denied_in` is of a program
    /// that knew revocations only.
    #[serde(default)]
    revoked_at: Option<u64>,
    #[serde(default)]
    denied_in: Vec<ScopeRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeRecord {
    group: Option<String>,
    vhost: Option<String>,
}

/// Encodes and decodes entries. Their checksums depend on the agent's ID; they detect damage and
/// are no signature.
#[derive(Debug)]
pub(super) struct Codec(u64);

/// Length of a checksum, in bytes.
const CHECKSUM_LEN: usize = size_of::<u64>();

impl Codec {
    pub(super) fn new(agent_id: &str) -> Self {
        Self(checksum(CHECKSUM_START, agent_id.as_bytes()))
    }

    pub(super) fn encode(&self, record: &Record) -> (Vec<u8>, Vec<u8>) {
        let key = key(&record.key);
        let verdict = match &record.verdict {
            Verdict::Allow(Grant { routes, dns_servers }) => VerdictRecord::Allow {
                routes: routes.to_vec(),
                dns_servers: dns_servers.to_vec(),
            },
            Verdict::Deny(Denial { code, reason }) => VerdictRecord::Deny {
                code: code.as_str().to_owned(),
                reason: reason.clone(),
            },
        };
        let value = self.with_checksum(
            &key,
            &AnswerRecord {
                asked: milliseconds(record.asked),
                verdict,
            },
        );
        (key, value)
    }

    /// Decodes an entry; `None` for anything that [`Self::encode`] does not return.
    pub(super) fn decode(&self, key: &[u8], value: &[u8]) -> Option<Record> {
        let AnswerRecord { asked, verdict } = self.verified(key, value)?;
        let KeyRecord {
            user,
            group,
            client_ip,
            vhost,
        } = serde_json::from_slice(key).ok()?;
        let key = CacheKey {
            username: Username::parse(&user).ok()?,
            group: parse_optional(group, GroupName::parse)?,
            client_ip,
            vhost: parse_optional(vhost, VhostName::parse)?,
        };
        let verdict = match verdict {
            VerdictRecord::Allow { routes, dns_servers } => Verdict::Allow(Grant {
                routes: routes.into(),
                dns_servers: dns_servers.into(),
            }),
            VerdictRecord::Deny { code, reason } => {
                let code = DenyCode::ALL.into_iter().find(|known| known.as_str() == code)?;
                Verdict::Deny(Denial { code, reason })
            }
        };
        Some(Record {
            key,
            verdict,
            asked: at(asked)?,
        })
    }

    pub(super) fn encode_revocation(&self, revocation: &Revocation) -> (Vec<u8>, Vec<u8>) {
        let key = user(&revocation.username);
        let scope = |AccessScope { group, vhost }: &AccessScope| ScopeRecord {
            group: group.as_ref().map(|name| name.as_str().to_owned()),
            vhost: vhost.as_ref().map(|name| name.as_str().to_owned()),
        };
        let record = RevocationRecord {
            at: milliseconds(revocation.at),
            reason: revocation.reason.clone(),
            allowed_since: revocation.allowed_since.iter().map(scope).collect(),
            revoked_at: revocation.revoked_at.map(milliseconds),
            denied_in: revocation.denied_in.iter().map(scope).collect(),
        };
        let value = self.with_checksum(&key, &record);
        (key, value)
    }

    /// Decodes an entry; `None` for anything that [`Self::encode_revocation`] does not return.
    pub(super) fn decode_revocation(&self, key: &[u8], value: &[u8]) -> Option<Revocation> {
        let RevocationRecord {
            at: denied_at,
            reason,
            allowed_since,
            revoked_at,
            denied_in,
        } = self.verified(key, value)?;
        let revoked_at = revoked_at.or(denied_in.is_empty().then_some(denied_at));
        let user: String = serde_json::from_slice(key).ok()?;
        let scope = |ScopeRecord { group, vhost }| {
            Some(AccessScope {
                group: parse_optional(group, GroupName::parse)?,
                vhost: parse_optional(vhost, VhostName::parse)?,
            })
        };
        Some(Revocation {
            username: Username::parse(&user).ok()?,
            reason,
            at: at(denied_at)?,
            allowed_since: allowed_since.into_iter().map(scope).collect::<Option<_>>()?,
            revoked_at: match revoked_at {
                Some(revoked_at) => Some(at(revoked_at)?),
                None => None,
            },
            denied_in: denied_in.into_iter().map(scope).collect::<Option<_>>()?,
        })
    }

    fn with_checksum(&self, key: &[u8], value: &impl Serialize) -> Vec<u8> {
        self.checked(key, &json(value))
    }

    /// The value of `body` with its checksum.
    pub(super) fn checked(&self, key: &[u8], body: &[u8]) -> Vec<u8> {
        let mut bytes = self.checksum(key, body).to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    fn verified<T: DeserializeOwned>(&self, key: &[u8], value: &[u8]) -> Option<T> {
        let (checksum, body) = value.split_at_checked(CHECKSUM_LEN)?;
        if checksum != self.checksum(key, body).to_be_bytes() {
            return None;
        }
        serde_json::from_slice(body).ok()
    }

    pub(super) fn checksum(&self, key: &[u8], body: &[u8]) -> u64 {
        // The length between the two detects a byte that moved from one to the other.
        let with_key = checksum(checksum(self.0, key), &key.len().to_be_bytes());
        checksum(with_key, body)
    }
}

pub(super) fn key(key: &CacheKey) -> Vec<u8> {
    json(&KeyRecord {
        user: key.username.as_str().to_owned(),
        group: key.group.as_ref().map(|name| name.as_str().to_owned()),
        client_ip: key.client_ip,
        vhost: key.vhost.as_ref().map(|name| name.as_str().to_owned()),
    })
}

pub(super) fn user(name: &Username) -> Vec<u8> {
    json(&name.as_str())
}

/// Parses an optional name; `None` when it is invalid.
fn parse_optional<T, E>(name: Option<String>, parse: impl Fn(&str) -> Result<T, E>) -> Option<Option<T>> {
    name.map(|name| parse(&name)).transpose().ok()
}

fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn at(milliseconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

#[expect(
    clippy::expect_used,
    reason = "these types hold only strings, numbers and addresses"
)]
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data serializes")
}
