//! Routes that a policy source pushes to a client.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route: an address and a prefix length. Host bits are kept; [`Route::network`] clears them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    address: IpAddr,
    prefix_len: u8,
}

/// Why a text is not a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteError {
    /// The part before the slash is not an IPv4 or IPv6 address.
    Address,
    /// The part after the slash is neither a decimal number within the address family's bounds nor,
    /// for IPv4, a netmask.
    PrefixLength {
        /// The largest allowed: 32 for IPv4, 128 for IPv6.
        max: u8,
    },
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("is not an IP address or a network in CIDR notation"),
            Self::PrefixLength { max } => write!(f, "has no prefix length from 0 to {max}"),
        }
    }
}

impl std::error::Error for RouteError {}

impl Route {
    /// Parses `address/length`, or ocserv's own notation `address/netmask` for IPv4; a bare address
    /// is a route to that one host. Surrounding white space is ignored, as ocserv does.
    ///
    /// The length is decimal digits without a sign; a netmask is contiguous.
    ///
    /// # Errors
    /// [`RouteError`] names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, RouteError> {
        let text = text.trim();
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| RouteError::Address)?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match length {
            None => max,
            Some(length) => decimal(length)
                .filter(|length| *length <= max)
                .or_else(|| address.is_ipv4().then(|| netmask(length)).flatten())
                .ok_or(RouteError::PrefixLength { max })?,
        };
        Ok(Self { address, prefix_len })
    }

    /// Returns the address as it was written, host bits included.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Returns the number of leading bits that the network fixes.
    #[must_use]
    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// Returns the route with its host bits cleared.
    #[must_use]
    pub fn network(self) -> Self {
        let length = u32::from(self.prefix_len);
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { address, ..self }
    }
}

/// Parses decimal digits without a sign.
fn decimal(digits: &str) -> Option<u8> {
    let is_unsigned = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_unsigned.then(|| digits.parse().ok()).flatten()
}

/// Parses a contiguous IPv4 netmask and returns its length.
fn netmask(text: &str) -> Option<u8> {
    let bits = text.parse::<Ipv4Addr>().ok()?.to_bits();
    let length = bits.leading_ones();
    (length == bits.count_ones())
        .then(|| u8::try_from(length).ok())
        .flatten()
}

/// CIDR notation.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_or_without_a_prefix_length_or_a_netmask_is_a_route() {
        for (text, cidr, network) in [
            ("10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.1.2.3/8", "10.0.0.0/8"),
            ("10.0.0.1", "10.0.0.1/32", "10.0.0.1/32"),
            ("10.0.0.0/08", "10.0.0.0/8", "10.0.0.0/8"),
            ("1.2.3.4/0", "1.2.3.4/0", "0.0.0.0/0"),
            ("2001:DB8:0:0::1/32", "2001:db8::1/32", "2001:db8::/32"),
            ("fd00::1", "fd00::1/128", "fd00::1/128"),
            ("ff::/0", "ff::/0", "::/0"),
            ("10.0.0.0/255.0.0.0", "10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/255.255.255.255", "10.1.2.3/32", "10.1.2.3/32"),
            ("0.0.0.0/0.0.0.0", "0.0.0.0/0", "0.0.0.0/0"),
            (" 10.0.0.0/8\t", "10.0.0.0/8", "10.0.0.0/8"),
        ] {
            let route = Route::parse(text).unwrap();
            assert_eq!(route.to_string(), cidr, "{text}");
            assert_eq!(route.network().to_string(), network, "{text}");
        }
    }

    #[test]
    fn the_part_that_is_wrong_is_named() {
        let (v4, v6) = (
            RouteError::PrefixLength { max: 32 },
            RouteError::PrefixLength { max: 128 },
        );
        for (text, error) in [
            ("", RouteError::Address),
            ("default", RouteError::Address),
            ("10.0.0/8", RouteError::Address),
            ("10.0.0.0 /8", RouteError::Address),
            ("10.0.0.0/", v4),
            ("10.0.0.0/33", v4),
            ("10.0.0.0/+8", v4),
            ("10.0.0.0/-1", v4),
            ("10.0.0.0/255.0.255.0", v4),
            ("10.0.0.0/255.0.0", v4),
            ("10.0.0.0/8/8", v4),
            ("10.0.0.0/ 8", v4),
            ("fd00::/255.0.0.0", v6),
            ("fd00::/129", v6),
            ("fd00::/999", v6),
        ] {
            assert_eq!(Route::parse(text), Err(error), "{text:?}");
        }
    }
}
