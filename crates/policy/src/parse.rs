//! From the text of a policy file to a checked [`Policy`].

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use ipnetwork::IpNetwork;
use ocserv_agent_model::{Grant, GroupName, NameError, Username, Verdict};
use serde::Deserialize;
use toml::Spanned;
use toml::de::DeTable;

use crate::error::{PolicyError, Problem};
use crate::rules::{Outcome, Policy, Rule, fingerprint};
use crate::{locate, network};

/// The version of the format that this program reads.
const VERSION: i64 = 1;
/// The longest TTL that a rule may set: a decision that no portal or policy was asked about for longer is a mistake.
const LONGEST_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest reason, in characters.
const LONGEST_REASON: usize = 200;
/// What a user hears when no rule matches and the default is to deny.
const NO_RULE: &str = "no rule of the policy lets this user in";
/// What a user hears when the rule that denies gives no reason.
const NO_REASON: &str = "denied by policy";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(rename = "version")]
    _version: i64,
    #[serde(default)]
    default: Word,
    ttl: Option<Spanned<String>>,
    #[serde(default)]
    rules: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    #[default]
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    verdict: Word,
    users: Option<Spanned<Vec<Spanned<String>>>>,
    groups: Option<Spanned<Vec<Spanned<String>>>>,
    networks: Option<Spanned<Vec<Spanned<String>>>>,
    reason: Option<Spanned<String>>,
    routes: Option<Spanned<Vec<Spanned<String>>>>,
    dns: Option<Spanned<Vec<Spanned<String>>>>,
    ttl: Option<Spanned<String>>,
}

/// A problem and the bytes of the text where it is.
type At = (Range<usize>, Problem);

impl Policy {
    /// Parses and checks the text of a policy file. `origin` is what errors call it, usually its path.
    ///
    /// # Errors
    /// [`PolicyError`] names the first fault with its line and key. A file with any fault gives no policy at all.
    pub fn parse(text: &str, origin: &str) -> Result<Self, PolicyError> {
        parse(text, origin)
    }
}

fn parse(text: &str, origin: &str) -> Result<Policy, PolicyError> {
    let refuse = |line, key, problem| PolicyError {
        origin: origin.to_owned(),
        line,
        key,
        problem,
    };
    let of_toml = |error: &toml::de::Error| Problem::Syntax(one_line(error.message()));

    let document = DeTable::parse(text).map_err(|error| {
        refuse(
            error.span().map(|span| locate::line(text, span.start)),
            String::new(),
            of_toml(&error),
        )
    })?;
    let root = document.get_ref();
    let located = |span: Range<usize>, problem| {
        refuse(
            Some(locate::line(text, span.start)),
            locate::key(root, span.start),
            problem,
        )
    };

    // The version comes before all else: what a newer file says otherwise is not ours to judge.
    let Some(version) = root.get("version") else {
        return Err(refuse(
            None,
            "version".to_owned(),
            Problem::NoVersion { known: VERSION },
        ));
    };
    let number = version.get_ref().as_integer();
    match number.and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok()) {
        Some(VERSION) => {}
        Some(found) => {
            return Err(located(
                version.span(),
                Problem::OtherVersion {
                    found,
                    known: VERSION,
                },
            ));
        }
        None => {
            return Err(located(
                version.span(),
                Problem::Syntax("is not a whole number".to_owned()),
            ));
        }
    }

    let raw: RawFile = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => located(span, of_toml(&error)),
        None => refuse(None, String::new(), of_toml(&error)),
    })?;
    build(raw, text).map_err(|(span, problem)| located(span, problem))
}

fn build(raw: RawFile, text: &str) -> Result<Policy, At> {
    let ttl = raw.ttl.as_ref().map(duration).transpose()?;
    let mut rules: Vec<Rule> = Vec::with_capacity(raw.rules.len());
    for raw_rule in raw.rules {
        if let Some(all) = rules.iter().position(Rule::matches_all) {
            return Err((raw_rule.span(), Problem::Unreachable(all)));
        }
        rules.push(rule(raw_rule.into_inner(), ttl)?);
    }
    let otherwise = match raw.default {
        Word::Allow => Outcome {
            verdict: Verdict::Allow(Grant::default()),
            ttl,
        },
        Word::Deny => Outcome::deny(NO_RULE, ttl),
    };
    Ok(Policy {
        rules,
        otherwise,
        fingerprint: fingerprint(text),
    })
}

fn rule(raw: RawRule, file_ttl: Option<Duration>) -> Result<Rule, At> {
    let ttl = raw.ttl.as_ref().map(duration).transpose()?.or(file_ttl);
    let outcome = match raw.verdict {
        Word::Allow => {
            absent(raw.reason.as_ref(), "allows")?;
            let grant = Grant {
                routes: routes(raw.routes)?,
                dns_servers: name_servers(raw.dns)?,
            };
            Outcome {
                verdict: Verdict::Allow(grant),
                ttl,
            }
        }
        Word::Deny => {
            absent(raw.routes.as_ref(), "denies")?;
            absent(raw.dns.as_ref(), "denies")?;
            let reason = raw.reason.as_ref().map(reason).transpose()?.unwrap_or(NO_REASON);
            Outcome::deny(reason, ttl)
        }
    };
    Ok(Rule {
        users: names(raw.users, Username::parse)?,
        groups: names(raw.groups, GroupName::parse)?,
        networks: raw.networks.map(networks).transpose()?,
        outcome,
    })
}

fn absent<T>(value: Option<&Spanned<T>>, rule_does: &'static str) -> Result<(), At> {
    value.map_or(Ok(()), |value| {
        Err((value.span(), Problem::OtherVerdict(rule_does)))
    })
}

fn names<T: Eq + Hash>(
    list: Option<Spanned<Vec<Spanned<String>>>>,
    parse: fn(&str) -> Result<T, NameError>,
) -> Result<Option<HashSet<T>>, At> {
    let one = |text: Spanned<String>| {
        parse(text.get_ref()).map_err(|why| {
            let span = text.span();
            (
                span,
                Problem::Name {
                    text: text.into_inner(),
                    why,
                },
            )
        })
    };
    list.map(|list| not_empty(list)?.into_iter().map(one).collect())
        .transpose()
}

fn networks(list: Spanned<Vec<Spanned<String>>>) -> Result<Vec<IpNetwork>, At> {
    let one = |text: Spanned<String>| {
        network::client_network(text.get_ref()).map_err(|problem| (text.span(), problem))
    };
    not_empty(list)?.into_iter().map(one).collect()
}

fn not_empty(list: Spanned<Vec<Spanned<String>>>) -> Result<Vec<Spanned<String>>, At> {
    if list.get_ref().is_empty() {
        Err((list.span(), Problem::EmptyMatch))
    } else {
        Ok(list.into_inner())
    }
}

fn routes(list: Option<Spanned<Vec<Spanned<String>>>>) -> Result<Vec<String>, At> {
    let list = list.map(Spanned::into_inner).unwrap_or_default();
    for text in &list {
        network::route(text.get_ref()).map_err(|problem| (text.span(), problem))?;
    }
    match list.iter().find(|text| network::is_default(text.get_ref())) {
        Some(default) if list.len() > 1 => Err((default.span(), Problem::DefaultAmongRoutes)),
        Some(_) | None => Ok(list.into_iter().map(Spanned::into_inner).collect()),
    }
}

fn name_servers(list: Option<Spanned<Vec<Spanned<String>>>>) -> Result<Vec<IpAddr>, At> {
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

fn duration(text: &Spanned<String>) -> Result<Duration, At> {
    match humantime::parse_duration(text.get_ref()) {
        Ok(time) if time.subsec_nanos() == 0 && time <= LONGEST_TTL => Ok(time),
        Ok(_) | Err(_) => Err((text.span(), Problem::Ttl(text.get_ref().clone()))),
    }
}

fn reason(text: &Spanned<String>) -> Result<&str, At> {
    let reason = text.get_ref();
    let breaks_lines = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if reason.trim().is_empty() || reason.chars().count() > LONGEST_REASON || reason.chars().any(breaks_lines)
    {
        Err((text.span(), Problem::Reason))
    } else {
        Ok(reason)
    }
}

/// The parser's messages may run over several lines; a located error is one.
fn one_line(message: &str) -> String {
    message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}
