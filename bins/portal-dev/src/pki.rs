//! `pki`: a CA and identities for a laptop, in one go.

mod issue;
mod store;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context;
use rustls::pki_types::DnsName;

use crate::cli::{self, PkiArgs};

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum San {
    Dns(String),
    Ip(IpAddr),
}

impl FromStr for San {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        DnsName::try_from(text)
            .map(|name| Self::Dns(name.as_ref().to_owned()))
            .map_err(|_| format!("{text:?} is neither a DNS name nor an IP address"))
    }
}

/// What `--name` says: names for an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExtraName {
    identity: String,
    names: Vec<San>,
}

impl FromStr for ExtraName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (identity, names) = text.split_once('=').ok_or("write it as NAME=SAN,SAN...")?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if identity.is_empty() || identity.starts_with('-') || !identity.chars().all(plain) {
            return Err(format!(
                "{identity:?} is not a name of lowercase letters, digits and dashes"
            ));
        }
        if identity == "ca" {
            return Err("\"ca\" is the CA's own name".to_owned());
        }
        let names = names.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self {
            identity: identity.to_owned(),
            names,
        })
    }
}

/// Which sides of a connection an identity may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
    Both,
}

/// An identity to be made.
#[derive(Debug)]
struct Wanted {
    name: String,
    side: Side,
    names: Vec<San>,
    purpose: &'static str,
}

impl Wanted {
    fn new(name: &str, side: Side, purpose: &'static str) -> Self {
        let local = [
            San::Dns("localhost".to_owned()),
            San::Ip(Ipv4Addr::LOCALHOST.into()),
            San::Ip(Ipv6Addr::LOCALHOST.into()),
        ];
        let mut names = vec![San::Dns(name.to_owned())];
        match side {
            Side::Server | Side::Both => names.extend(local),
            // A client is known by its own name alone: nothing may be granted to whoever is "localhost".
            Side::Client => {}
        }
        Self {
            name: name.to_owned(),
            side,
            names,
            purpose,
        }
    }
}

/// The identities that everyone needs, and those that were asked for.
fn wanted(extra: &[ExtraName]) -> Vec<Wanted> {
    let mut all = vec![
        Wanted::new(
            "portal",
            Side::Both,
            "portal-dev serve, and its calls to the agent",
        ),
        Wanted::new(
            "agent",
            Side::Both,
            "ocserv-agent: its gRPC server and its calls to the portal",
        ),
        Wanted::new(
            "operator",
            Side::Client,
            "portal-dev sessions and portal-dev disconnect",
        ),
        Wanted::new(
            "ocserv",
            Side::Server,
            "ocserv itself: server-cert and server-key",
        ),
    ];
    for ExtraName { identity, names } in extra {
        let known = all.iter().position(|wanted| wanted.name == *identity);
        let wanted = match known.and_then(|index| all.get_mut(index)) {
            Some(wanted) => wanted,
            None => {
                let further = Wanted {
                    names: Vec::new(),
                    ..Wanted::new(identity, Side::Both, "as you like")
                };
                all.push_mut(further)
            }
        };
        for name in names {
            if !wanted.names.contains(name) {
                wanted.names.push(name.clone());
            }
        }
    }
    all
}

pub(crate) fn run(args: &PkiArgs) -> anyhow::Result<ExitCode> {
    let wanted = wanted(&args.names);
    let issued = issue::issue(&wanted, args.days).context("could not make the certificates")?;
    store::store(&args.dir, &issued, args.force)?;
    let dir = std::path::absolute(&args.dir).unwrap_or_else(|_| args.dir.clone());
    cli::print(&account(&dir, &wanted, args.days))?;
    Ok(ExitCode::SUCCESS)
}

/// What was made and how it is used.
fn account(dir: &Path, wanted: &[Wanted], days: u16) -> String {
    let mut text = format!(
        "made in {} (valid for {days} days; the CA's key was thrown away, so nobody can add to it):\n\n  {:<18} {}\n",
        dir.display(),
        "ca.pem",
        "the CA that all of them trust"
    );
    for Wanted {
        name, purpose, names, ..
    } in wanted
    {
        let names: Vec<String> = names
            .iter()
            .map(|name| match name {
                San::Dns(name) => name.clone(),
                San::Ip(address) => address.to_string(),
            })
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  {:<18} {purpose}\n  {:<18} ({})",
            format!("{name}.pem .key"),
            "",
            names.join(", ")
        );
    }
    let _ = write!(
        text,
        r#"
For the agent's /etc/ocserv-agent/config.toml:

  agent_id = "laptop"

  [portal]
  address = "https://127.0.0.1:8443"
  tls = {{ ca = "{dir}/ca.pem", cert = "{dir}/agent.pem", key = "{dir}/agent.key" }}

  [grpc]
  tls = {{ ca = "{dir}/ca.pem", cert = "{dir}/agent.pem", key = "{dir}/agent.key" }}
  roles = {{ operator = "operator", portal = "operator" }}

Then:

  portal-dev serve --pki {dir} --policy policy.toml
  portal-dev sessions --pki {dir}
"#,
        dir = dir.display()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_adds_to_an_identity_or_makes_a_further_one() {
        let extra =
            ["agent=vpn1.example.org,192.0.2.7,localhost", "second=second"].map(|text| text.parse().unwrap());
        let wanted = wanted(&extra);
        let names = |of: &str| {
            wanted
                .iter()
                .find(|wanted| wanted.name == of)
                .unwrap()
                .names
                .len()
        };
        assert_eq!(
            (
                names("agent"),
                names("portal"),
                names("operator"),
                names("second")
            ),
            (6, 4, 1, 1)
        );
    }

    #[test]
    fn a_name_that_could_leave_the_directory_or_is_no_name_is_refused() {
        for bad in [
            "agent",
            "=x",
            "../a=x",
            "Agent=x",
            "-a=x",
            "ca=x",
            "agent=",
            "agent=a b",
            "agent=a,,b",
            "agent=*.x",
        ] {
            assert!(bad.parse::<ExtraName>().is_err(), "{bad}");
        }
    }
}
