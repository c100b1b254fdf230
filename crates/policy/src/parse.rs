//! Parses the text of a policy file into a checked [`Policy`].

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use ipnetwork::IpNetwork;
use ocserv_agent_model::{Grant, GroupName, NameError, Username, Verdict, VhostName, escaped_line};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{PolicyError, Problem};
use crate::rules::{Outcome, Policy, Rule, fingerprint};
use crate::{locate, network};

/// The supported version of the format.
const VERSION: i64 = 1;
/// The longest TTL that a rule may set.
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest reason, in characters.
const MAX_REASON: usize = 200;
/// The reason when no rule matches and the default is to deny.
const NO_MATCH_REASON: &str = "no rule of the policy allows this user";
/// The reason when the rule that denies gives none.
const DEFAULT_REASON: &str = "denied by policy";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(rename = "version")]
    _version: i64,
    #[serde(default)]
    default: VerdictKeyword,
    ttl: Option<Spanned<String>>,
    #[serde(default)]
    rules: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum VerdictKeyword {
    Allow,
    #[default]
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    verdict: VerdictKeyword,
    users: Option<Spanned<Vec<Spanned<String>>>>,
    groups: Option<Spanned<Vec<Spanned<String>>>>,
    vhosts: Option<Spanned<Vec<Spanned<String>>>>,
    networks: Option<Spanned<Vec<Spanned<String>>>>,
    reason: Option<Spanned<String>>,
    routes: Option<Spanned<Vec<Spanned<String>>>>,
    dns: Option<Spanned<Vec<Spanned<String>>>>,
    ttl: Option<Spanned<String>>,
}

/// A problem and its place, as bytes of the text.
type LocatedProblem = (Range<usize>, Problem);

impl Policy {
    /// Parses and checks the text of a policy file. `origin` is what errors call it, usually its
    /// path.
    ///
    /// # Errors
    /// [`PolicyError`] names the first error with its line and key. An invalid file is rejected as
    /// a whole.
    pub fn parse(text: &str, origin: &str) -> Result<Self, PolicyError> {
        let error_at = |line, key, problem| PolicyError {
            origin: origin.to_owned(),
            line,
            key,
            problem,
        };
        let of_toml = |error: &toml::de::Error| Problem::Syntax(join_lines(error.message()));

        let document = DeTable::parse(text).map_err(|error| {
            error_at(
                error.span().map(|span| locate::line(text, span.start)),
                String::new(),
                of_toml(&error),
            )
        })?;
        let root = document.get_ref();
        let located = |span: Range<usize>, problem| {
            error_at(
                Some(locate::line(text, span.start)),
                locate::key(root, span.start),
                problem,
            )
        };

        // The version first: the keys of a newer version are unknown here.
        let Some(version) = root.get("version") else {
            return Err(error_at(
                None,
                "version".to_owned(),
                Problem::NoVersion { supported: VERSION },
            ));
        };
        check_version(version.get_ref()).map_err(|problem| located(version.span(), problem))?;

        let raw: RawFile = toml::from_str(text).map_err(|error| match error.span() {
            Some(span) => located(span, of_toml(&error)),
            None => error_at(None, String::new(), of_toml(&error)),
        })?;
        build(raw, text).map_err(|(span, problem)| located(span, problem))
    }
}

fn check_version(value: &DeValue<'_>) -> Result<(), Problem> {
    let number = value.as_integer();
    match number.and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok()) {
        Some(VERSION) => Ok(()),
        Some(found) => Err(Problem::OtherVersion {
            found,
            supported: VERSION,
        }),
        None => Err(Problem::Syntax("is not a whole number".to_owned())),
    }
}

fn build(raw: RawFile, text: &str) -> Result<Policy, LocatedProblem> {
    let ttl = raw.ttl.as_ref().map(duration).transpose()?;
    let mut rules: Vec<Rule> = Vec::with_capacity(raw.rules.len());
    for raw_rule in raw.rules {
        if let Some(all) = rules.iter().position(Rule::matches_all) {
            return Err((raw_rule.span(), Problem::Unreachable(all)));
        }
        rules.push(rule(raw_rule.into_inner(), ttl)?);
    }
    let default = match raw.default {
        VerdictKeyword::Allow => Outcome {
            verdict: Verdict::Allow(Grant::default()),
            ttl,
        },
        VerdictKeyword::Deny => Outcome::deny(NO_MATCH_REASON, ttl),
    };
    Ok(Policy {
        rules,
        default,
        fingerprint: fingerprint(text),
    })
}

fn rule(raw: RawRule, file_ttl: Option<Duration>) -> Result<Rule, LocatedProblem> {
    let ttl = raw.ttl.as_ref().map(duration).transpose()?.or(file_ttl);
    let outcome = match raw.verdict {
        VerdictKeyword::Allow => {
            absent(raw.reason.as_ref(), "allows")?;
            let grant = Grant {
                routes: routes(raw.routes)?.into(),
                dns_servers: name_servers(raw.dns)?.into(),
            };
            Outcome {
                verdict: Verdict::Allow(grant),
                ttl,
            }
        }
        VerdictKeyword::Deny => {
            absent(raw.routes.as_ref(), "denies")?;
            absent(raw.dns.as_ref(), "denies")?;
            let reason = raw
                .reason
                .as_ref()
                .map(reason)
                .transpose()?
                .unwrap_or(DEFAULT_REASON);
            Outcome::deny(reason, ttl)
        }
    };
    Ok(Rule {
        users: names(raw.users, Username::parse)?,
        groups: names(raw.groups, GroupName::parse)?,
        vhosts: names(raw.vhosts, VhostName::parse)?,
        networks: raw.networks.map(networks).transpose()?,
        outcome,
    })
}

fn absent<T>(value: Option<&Spanned<T>>, rule_does: &'static str) -> Result<(), LocatedProblem> {
    value.map_or(Ok(()), |value| {
        Err((value.span(), Problem::OtherVerdict(rule_does)))
    })
}

fn names<T: Eq + Hash>(
    list: Option<Spanned<Vec<Spanned<String>>>>,
    parse: fn(&str) -> Result<T, NameError>,
) -> Result<Option<HashSet<T>>, LocatedProblem> {
    let one = |text: Spanned<String>| {
        parse(text.get_ref()).map_err(|error| {
            let span = text.span();
            (
                span,
                Problem::Name {
                    text: text.into_inner(),
                    error,
                },
            )
        })
    };
    list.map(|list| not_empty(list)?.into_iter().map(one).collect())
        .transpose()
}

fn networks(list: Spanned<Vec<Spanned<String>>>) -> Result<Vec<IpNetwork>, LocatedProblem> {
    let one = |text: Spanned<String>| {
        network::client_network(text.get_ref()).map_err(|problem| (text.span(), problem))
    };
    not_empty(list)?.into_iter().map(one).collect()
}

fn not_empty(list: Spanned<Vec<Spanned<String>>>) -> Result<Vec<Spanned<String>>, LocatedProblem> {
    if list.get_ref().is_empty() {
        Err((list.span(), Problem::EmptyMatch))
    } else {
        Ok(list.into_inner())
    }
}

fn routes(list: Option<Spanned<Vec<Spanned<String>>>>) -> Result<Vec<String>, LocatedProblem> {
    let list = list.map(Spanned::into_inner).unwrap_or_default();
    for text in &list {
        network::check_route(text.get_ref()).map_err(|problem| (text.span(), problem))?;
    }
    match list.iter().find(|text| network::is_default(text.get_ref())) {
        Some(default) if list.len() > 1 => Err((default.span(), Problem::DefaultAmongRoutes)),
        Some(_) | None => Ok(list.into_iter().map(Spanned::into_inner).collect()),
    }
}

fn name_servers(list: Option<Spanned<Vec<Spanned<String>>>>) -> Result<Vec<IpAddr>, LocatedProblem> {
    let one = |text: Spanned<String>| match text.get_ref().parse() {
        Ok(address) => Ok(address),
        Err(_) => Err((text.span(), Problem::NotAnAddress(text.into_inner()))),
    };
    list.map(Spanned::into_inner)
        .unwrap_or_default()
        .into_iter()
        .map(one)
        .collect()
}

fn duration(text: &Spanned<String>) -> Result<Duration, LocatedProblem> {
    match humantime::parse_duration(text.get_ref()) {
        Ok(time) if time.subsec_nanos() == 0 && time <= MAX_TTL => Ok(time),
        Ok(_) | Err(_) => Err((text.span(), Problem::Ttl(text.get_ref().clone()))),
    }
}

fn reason(text: &Spanned<String>) -> Result<&str, LocatedProblem> {
    let reason = text.get_ref();
    let breaks_lines = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if reason.trim().is_empty() || reason.chars().count() > MAX_REASON || reason.chars().any(breaks_lines) {
        Err((text.span(), Problem::Reason))
    } else {
        Ok(reason)
    }
}

/// Joins the lines of the parser's message, which may quote control characters of the file.
fn join_lines(message: &str) -> String {
    let lines: Vec<_> = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    escaped_line(&lines.join(", "))
}
