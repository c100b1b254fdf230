//! A checked policy and what it says about a login.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use ocserv_agent_model::{DenyCode, GroupName, Username, Verdict};

/// What the policy says about one login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Yes or no.
    pub verdict: Verdict,
    /// How long the answer may be reused, in whole seconds; zero means not at all, `None` that the file does not say.
    pub ttl: Option<Duration>,
    /// The rule that decided, counted from 0; `None` when none matched and the file's default decided.
    pub rule: Option<usize>,
}

/// A checked policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(crate) rules: Vec<Rule>,
    pub(crate) otherwise: Outcome,
    pub(crate) fingerprint: String,
}

/// One rule: its conditions, all of which must hold, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// `None` matches every user; likewise below.
    pub(crate) users: Option<HashSet<Username>>,
    pub(crate) groups: Option<HashSet<GroupName>>,
    pub(crate) networks: Option<Vec<IpNetwork>>,
    pub(crate) outcome: Outcome,
}

/// What follows from a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) ttl: Option<Duration>,
}

impl Outcome {
    /// A refusal by policy, for the reason given.
    pub(crate) fn deny(reason: &str, ttl: Option<Duration>) -> Self {
        Self {
            verdict: Verdict::deny(DenyCode::Policy, reason),
            ttl,
        }
    }

    fn answer(&self, rule: Option<usize>) -> Evaluation {
        Evaluation {
            verdict: self.verdict.clone(),
            ttl: self.ttl,
            rule,
        }
    }
}

impl Rule {
    /// Whether every login matches.
    pub(crate) fn matches_all(&self) -> bool {
        self.users.is_none() && self.groups.is_none() && self.networks.is_none()
    }

    /// Whether the conditions on user and address hold.
    fn matches_but_for_group(&self, username: &Username, client_ip: IpAddr) -> bool {
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
}

impl Policy {
    /// What the policy says: the first rule whose conditions all hold decides, else the file's default. Names are
    /// compared exactly, case included. An IPv4 address that comes mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn evaluate(&self, username: &Username, group: Option<&GroupName>, client_ip: IpAddr) -> Evaluation {
        let client_ip = client_ip.to_canonical();
        let decides =
            |rule: &Rule| rule.matches_but_for_group(username, client_ip) && rule.matches_group(group);
        match self.rules.iter().enumerate().find(|(_, rule)| decides(rule)) {
            Some((index, rule)) => rule.outcome.answer(Some(index)),
            None => self.otherwise.answer(None),
        }
    }

    /// Whether the user may come in, for a caller that does not know the user's group: `None` when that depends on
    /// the group. The answer is the one for a user who is in none of the groups that the file names.
    #[must_use]
    pub fn evaluate_without_group(&self, username: &Username, client_ip: IpAddr) -> Option<Evaluation> {
        let answer = self.evaluate(username, None, client_ip);
        let address = client_ip.to_canonical();
        // The rules before the one that decides, or all of them, could decide instead for a member of some group.
        let before = self.rules.iter().take(answer.rule.unwrap_or(self.rules.len()));
        before
            .filter(|rule| rule.matches_but_for_group(username, address))
            .all(|rule| rule.outcome.verdict.is_allow() == answer.verdict.is_allow())
            .then_some(answer)
    }

    /// A short name of the text that this policy was read from: 16 hexadecimal digits, the same for the same text
    /// for ever. It tells versions apart; it proves nothing.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// How many rules the file has.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }
}

/// The 64-bit FNV-1a hash of a text, in hexadecimal. Unlike std's hasher it is the same in every release.
pub(crate) fn fingerprint(text: &str) -> String {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}
