//! Lists the last decisions as a table for the operator.

use std::fmt::Write as _;
use std::sync::Arc;

use authz::{Authorizer, DecisionRecord};
use ocserv_agent_model::{GroupName, Username, VhostName, one_line};

/// Longest table, in bytes: well below the size limit of a response.
const MAX_TABLE: usize = 512 << 10;
/// Longest reason in the table, in characters.
const MAX_REASON: usize = 120;

/// The last decisions of an authorizer; clones share them.
#[derive(Clone)]
pub(crate) struct RecentDecisions(Authorizer);

impl RecentDecisions {
    /// Creates the list of the decisions of `authorizer`.
    #[must_use]
    pub(crate) fn new(authorizer: Authorizer) -> Self {
        Self(authorizer)
    }

    /// Renders a heading and one line per decision, newest first: all, or those of `user`. Renders
    /// a sentence when there is none.
    #[must_use]
    pub(crate) fn table(&self, user: Option<&Username>) -> String {
        table(&self.0.recent(), user)
    }
}

fn table(records: &[Arc<DecisionRecord>], user: Option<&Username>) -> String {
    let mut records = records
        .iter()
        .filter(|record| user.is_none_or(|user| record.username == *user))
        .peekable();
    if records.peek().is_none() {
        return match user {
            Some(user) => format!("no decision about {}\n", user.as_str()),
            None => "no decision yet\n".to_owned(),
        };
    }
    let mut text = format!(
        "{:<24} {:<20} {:<12} {:<16} {:<24} {:<7} {:<10} {:>8} {:>9}  {}\n",
        "TIME", "USER", "GROUP", "VHOST", "FROM", "RESULT", "SOURCE", "AGE", "DURATION", "REASON"
    );
    for record in records {
        if text.len() > MAX_TABLE {
            text.push_str("older decisions are left out: filter with --user\n");
            break;
        }
        write_line(&mut text, record);
    }
    text
}

fn write_line(text: &mut String, record: &DecisionRecord) {
    let reasons: Vec<&str> = [record.outage.as_deref().unwrap_or_default(), &record.reason]
        .into_iter()
        .filter(|reason| !reason.is_empty())
        .collect();
    let reason = one_line(&reasons.join("; "), MAX_REASON);
    let _infallible = writeln!(
        text,
        "{:<24} {:<20} {:<12} {:<16} {:<24} {:<7} {:<10} {:>7}s {:>7}ms  {reason}",
        humantime::format_rfc3339_millis(record.at),
        record.username.as_str(),
        record.group.as_ref().map_or("-", GroupName::as_str),
        record.vhost.as_ref().map_or("-", VhostName::as_str),
        record.client_ip,
        if record.allowed() { "allowed" } else { "denied" },
        record.source.as_str(),
        record.age.as_secs(),
        record.duration.as_millis(),
    );
}
