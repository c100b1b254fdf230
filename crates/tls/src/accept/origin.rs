//! Origins, by which unauthenticated peers are counted.

use std::net::IpAddr;

/// The origin of a peer: an IPv4 address, or an IPv6 /64, which one host can use in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Origin(u64);

impl Origin {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str) -> Origin {
        Origin::of(address.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_origin() {
        assert_eq!(origin("fd00::1"), origin("fd00::2"));
        assert_ne!(origin("fd00::1"), origin("fd00::9:0:0:0:1"));
        assert_ne!(origin("10.0.0.1"), origin("10.0.0.2"));
        assert_eq!(origin("::ffff:10.0.0.2"), origin("10.0.0.2"));
    }
}
