//! Names in certificates.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls::pki_types::DnsName;

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum San {
    Dns(String),
    Ip(IpAddr),
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
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

/// Additional names for an identity, the value of `--name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExtraNames {
    pub(crate) identity: String,
    pub(crate) names: Vec<San>,
}

impl FromStr for ExtraNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (identity, names) = text.split_once('=').ok_or("write it as NAME=SAN,SAN...")?;
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if identity.is_empty() || identity.starts_with('-') || !identity.chars().all(is_allowed) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_name_or_one_that_leaves_the_directory_is_rejected() {
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
            assert!(bad.parse::<ExtraNames>().is_err(), "{bad}");
        }
    }
}
