//! A checked policy and its evaluation.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use ocserv_agent_model::{DenyCode, GroupName, Username, Verdict, VhostName};

/// The result of evaluating a policy for one login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Allow or deny.
    pub verdict: Verdict,
    /// How long the verdict may be cached, in whole seconds; zero means not at all, `None` that the
    /// file sets none.
    pub ttl: Option<Duration>,
    /// The matching rule, counted from 0; `None` for the default.
    pub rule: Option<usize>,
}

/// A checked policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(crate) rules: Vec<Rule>,
    pub(crate) default: Outcome,
    pub(crate) fingerprint: String,
}

/// One rule: conditions, all of which must hold, and an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// `None` matches every user; likewise for groups, virtual hosts and networks.
    pub(crate) users: Option<HashSet<Username>>,
    pub(crate) groups: Option<HashSet<GroupName>>,
    pub(crate) vhosts: Option<HashSet<VhostName>>,
    pub(crate) networks: Option<Vec<IpNetwork>>,
    pub(crate) outcome: Outcome,
}

/// The outcome of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) ttl: Option<Duration>,
}

impl Outcome {
    /// A deny by policy with this reason.
    pub(crate) fn deny(reason: &str, ttl: Option<Duration>) -> Self {
        Self {
            verdict: Verdict::deny(DenyCode::Policy, reason),
            ttl,
        }
    }

    fn evaluation(&self, rule: Option<usize>) -> Evaluation {
        Evaluation {
            verdict: self.verdict.clone(),
            ttl: self.ttl,
            rule,
        }
    }
}

impl Rule {
    /// Whether the rule matches every login.
    pub(crate) fn matches_all(&self) -> bool {
        self.users.is_none() && self.groups.is_none() && self.vhosts.is_none() && self.networks.is_none()
    }

    /// Whether the conditions on user and address hold.
    fn matches_user_and_address(&self, username: &Username, client_ip: IpAddr) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(username))
            && self
                .networks
                .as_ref()
                .is_none_or(|networks| networks.iter().any(|net| net.contains(client_ip)))
    }

    /// Whether the condition on the group holds; a user without a group is in none of them.
    fn matches_group(&self, group: Option<&GroupName>) -> bool {
        self.groups
            .as_ref()
            .is_none_or(|groups| group.is_some_and(|group| groups.contains(group)))
    }

    /// Whether the condition on the virtual host holds.
    fn matches_vhost(&self, vhost: &VhostName) -> bool {
        self.vhosts.as_ref().is_none_or(|vhosts| vhosts.contains(vhost))
    }
}

impl Policy {
    /// Evaluates the policy for a login: the first matching rule decides, else the default. Names
    /// are compared exactly, case included. IPv4-mapped IPv6 addresses are canonicalised.
    #[must_use]
    pub fn evaluate(
        &self,
        username: &Username,
        group: Option<&GroupName>,
        vhost: &VhostName,
        client_ip: IpAddr,
    ) -> Evaluation {
        let client_ip = client_ip.to_canonical();
        self.first_match(|rule| {
            rule.matches_user_and_address(username, client_ip)
                && rule.matches_group(group)
                && rule.matches_vhost(vhost)
        })
    }

    /// Evaluates the policy for a login whose virtual host is unknown; `None` when the verdict
    /// depends on it.
    #[must_use]
    pub fn evaluate_without_vhost(
        &self,
        username: &Username,
        group: Option<&GroupName>,
        client_ip: IpAddr,
    ) -> Option<Evaluation> {
        let client_ip = client_ip.to_canonical();
        let may_match =
            |rule: &Rule| rule.matches_user_and_address(username, client_ip) && rule.matches_group(group);
        self.unambiguous(may_match, |rule| may_match(rule) && rule.vhosts.is_none())
    }

    /// Evaluates the policy for a login whose group and virtual host are unknown; `None` when the
    /// verdict depends on one of them. The result is that of a user in none of the groups, and on
    /// none of the virtual hosts, that the file names.
    #[must_use]
    pub fn evaluate_without_group(&self, username: &Username, client_ip: IpAddr) -> Option<Evaluation> {
        let client_ip = client_ip.to_canonical();
        let may_match = |rule: &Rule| rule.matches_user_and_address(username, client_ip);
        self.unambiguous(may_match, |rule| {
            may_match(rule) && rule.groups.is_none() && rule.vhosts.is_none()
        })
    }

    /// Returns the outcome of the first rule that matches for certain, if every rule before it that
    /// may match has the same verdict.
    fn unambiguous(
        &self,
        may_match: impl Fn(&Rule) -> bool,
        matches: impl Fn(&Rule) -> bool,
    ) -> Option<Evaluation> {
        let evaluation = self.first_match(matches);
        let before = evaluation.rule.unwrap_or(self.rules.len());
        self.rules
            .iter()
            .take(before)
            .filter(|rule| may_match(rule))
            .all(|rule| rule.outcome.verdict.is_allow() == evaluation.verdict.is_allow())
            .then_some(evaluation)
    }

    fn first_match(&self, matches: impl Fn(&Rule) -> bool) -> Evaluation {
        match self.rules.iter().enumerate().find(|(_, rule)| matches(rule)) {
            Some((index, rule)) => rule.outcome.evaluation(Some(index)),
            None => self.default.evaluation(None),
        }
    }

    /// Returns the fingerprint of the policy's text: 16 hexadecimal digits, the same for the same
    /// text in every release. It identifies versions; it is not cryptographic.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns the number of rules.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }
}

/// The 64-bit FNV-1a hash of a text, in hexadecimal; std's hasher may change between releases.
pub(crate) fn fingerprint(text: &str) -> String {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}
