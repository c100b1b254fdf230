//! How a decision and a revocation look on disk: the key and the value are JSON, and the value is preceded by a checksum
//! of both, so that a damaged name cannot become somebody else's.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{Denial, DenyCode, Grant, GroupName, Username, Verdict, VhostName};
use resilience::{AccessScope, CacheKey, Record, Revocation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    user: String,
    group: Option<String>,
    client_ip: IpAddr,
    vhost: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    /// Milliseconds since 1970.
    asked: u64,
    verdict: Said,
}

// The routes are kept although only an allow has them: an allow without its routes would be a wider one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Said {
    Allow {
        routes: Vec<String>,
        dns_servers: Vec<IpAddr>,
    },
    Deny {
        code: String,
        reason: String,
    },
}

/// The value of a revocation; its key is the user's name.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ended {
    /// Milliseconds since 1970.
    at: u64,
    reason: String,
    #[serde(rename = "let_in")]
    allowed_since: Vec<In>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct In {
    group: Option<String>,
    vhost: Option<String>,
}

/// What marks an entry as written by this agent, and as whole. It finds damage; it is no signature.
#[derive(Debug)]
pub(super) struct Seal(u64);

/// Bytes of a checksum.
const SUM: usize = size_of::<u64>();

impl Seal {
    pub(super) fn new(agent_id: &str) -> Self {
        Self(fnv(0xcbf2_9ce4_8422_2325, agent_id.as_bytes()))
    }

    pub(super) fn encode(&self, record: &Record) -> (Vec<u8>, Vec<u8>) {
        let key = key(&record.key);
        let verdict = match &record.verdict {
            Verdict::Allow(Grant { routes, dns_servers }) => Said::Allow {
                routes: routes.clone(),
                dns_servers: dns_servers.clone(),
            },
            Verdict::Deny(Denial { code, reason }) => Said::Deny {
                code: code.as_str().to_owned(),
                reason: reason.clone(),
            },
        };
        let value = self.sealed(
            &key,
            &Value {
                asked: milliseconds(record.asked),
                verdict,
            },
        );
        (key, value)
    }

    /// `None` for anything that [`Self::encode`] does not make.
    pub(super) fn decode(&self, key: &[u8], value: &[u8]) -> Option<Record> {
        let Value { asked, verdict } = self.unsealed(key, value)?;
        let Key {
            user,
            group,
            client_ip,
            vhost,
        } = serde_json::from_slice(key).ok()?;
        let key = CacheKey {
            username: Username::parse(&user).ok()?,
            group: read(group, GroupName::parse)?,
            client_ip,
            vhost: read(vhost, VhostName::parse)?,
        };
        let verdict = match verdict {
            Said::Allow { routes, dns_servers } => Verdict::Allow(Grant { routes, dns_servers }),
            Said::Deny { code, reason } => {
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
        let scopes = revocation
            .allowed_since
            .iter()
            .map(|AccessScope { group, vhost }| In {
                group: group.as_ref().map(|name| name.as_str().to_owned()),
                vhost: vhost.as_ref().map(|name| name.as_str().to_owned()),
            });
        let ended = Ended {
            at: milliseconds(revocation.at),
            reason: revocation.reason.clone(),
            allowed_since: scopes.collect(),
        };
        let value = self.sealed(&key, &ended);
        (key, value)
    }

    /// `None` for anything that [`Self::encode_revocation`] does not make.
    pub(super) fn decode_revocation(&self, key: &[u8], value: &[u8]) -> Option<Revocation> {
        let Ended {
            at: when,
            reason,
            allowed_since,
        } = self.unsealed(key, value)?;
        let user: String = serde_json::from_slice(key).ok()?;
        let place = |In { group, vhost }| {
            Some(AccessScope {
                group: read(group, GroupName::parse)?,
                vhost: read(vhost, VhostName::parse)?,
            })
        };
        Some(Revocation {
            username: Username::parse(&user).ok()?,
            reason,
            at: at(when)?,
            allowed_since: allowed_since.into_iter().map(place).collect::<Option<_>>()?,
        })
    }

    fn sealed(&self, key: &[u8], value: &impl Serialize) -> Vec<u8> {
        let body = json(value);
        let mut sealed = self.sum(key, &body).to_be_bytes().to_vec();
        sealed.extend_from_slice(&body);
        sealed
    }

    fn unsealed<T: DeserializeOwned>(&self, key: &[u8], value: &[u8]) -> Option<T> {
        let (sum, body) = value.split_at_checked(SUM)?;
        if sum != self.sum(key, body).to_be_bytes() {
            return None;
        }
        serde_json::from_slice(body).ok()
    }

    fn sum(&self, key: &[u8], body: &[u8]) -> u64 {
        // The length between the two keeps a byte from moving from one to the other unnoticed.
        fnv(fnv(fnv(self.0, key), &key.len().to_be_bytes()), body)
    }
}

pub(super) fn key(key: &CacheKey) -> Vec<u8> {
    json(&Key {
        user: key.username.as_str().to_owned(),
        group: key.group.as_ref().map(|name| name.as_str().to_owned()),
        client_ip: key.client_ip,
        vhost: key.vhost.as_ref().map(|name| name.as_str().to_owned()),
    })
}

pub(super) fn user(name: &Username) -> Vec<u8> {
    json(&name.as_str())
}

/// An optional name, checked; `None` where it is none.
fn read<T, E>(name: Option<String>, parse: impl Fn(&str) -> Result<T, E>) -> Option<Option<T>> {
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
    reason = "these types hold strings, numbers and addresses: all of them are JSON"
)]
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data becomes JSON")
}

/// FNV-1a, 64 bits.
fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
