//! Networks and routes, read more strictly than ocserv does: what ocserv would misread is refused here.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::error::Problem;

/// The route that sends everything through the tunnel, in ocserv's spelling.
const DEFAULT: &str = "default";

/// Reads a network of clients; a bare address is the network of that one address.
pub(crate) fn client_network(text: &str) -> Result<IpNetwork, Problem> {
    let not_one = || Problem::NotANetwork(text.to_owned());
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNetwork::from(address.to_canonical()));
    }
    cidr(text)
        .ok_or_else(not_one)
        .and_then(|network| whole(network, text))
}

/// Checks one route: `default`, or a network with a mask of at least one bit. ocserv denies the whole session for
/// an IPv4 route without a mask or with `/0`.
pub(crate) fn route(text: &str) -> Result<(), Problem> {
    if text == DEFAULT {
        return Ok(());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let network = IpNetwork::from(address.to_canonical()).to_string();
        return Err(Problem::RouteWithoutMask {
            text: text.to_owned(),
            network,
        });
    }
    let network = cidr(text).ok_or_else(|| Problem::NotARoute(text.to_owned()))?;
    if network.prefix() == 0 {
        return Err(Problem::RouteOfAll(text.to_owned()));
    }
    whole(network, text).map(|_| ())
}

/// Whether `text` is the route of everything.
pub(crate) fn is_default(text: &str) -> bool {
    text == DEFAULT
}

/// `address/bits` and nothing else: no dotted mask, no sign, no leading zero.
fn cidr(text: &str) -> Option<IpNetwork> {
    let (address, bits) = text.split_once('/')?;
    let plain = bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    plain
        .then(|| IpNetwork::new(address.parse().ok()?, bits.parse().ok()?).ok())
        .flatten()
}

/// Refuses host bits and IPv4 in IPv6 clothes.
fn whole(network: IpNetwork, text: &str) -> Result<IpNetwork, Problem> {
    let base = network.network();
    if let IpAddr::V6(v6) = base
        && v6.to_ipv4_mapped().is_some()
    {
        Err(Problem::Mapped(text.to_owned()))
    } else if base == network.ip() {
        Ok(network)
    } else {
        let network = format!("{base}/{}", network.prefix());
        Err(Problem::HostBits {
            text: text.to_owned(),
            network,
        })
    }
}
