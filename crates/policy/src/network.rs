//! Parses networks and routes, more strictly than ocserv: what ocserv would misread is an error.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use ocserv_agent_model::Route;

use crate::error::Problem;

/// ocserv's keyword for a route to everything.
const DEFAULT: &str = "default";

/// Parses a network of clients; an address is the network of that address alone.
pub(crate) fn client_network(text: &str) -> Result<IpNetwork, Problem> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNetwork::from(address.to_canonical()));
    }
    let invalid = || Problem::NotANetwork(text.to_owned());
    let network = cidr(text).ok_or_else(invalid)?;
    check_canonical(network, text)?;
    IpNetwork::new(network.address(), network.prefix_len()).map_err(|_| invalid())
}

/// Checks a route: `default`, or a network with a prefix length of at least one. ocserv denies the
/// session for an IPv4 route without a prefix length or with `/0`.
pub(crate) fn check_route(text: &str) -> Result<(), Problem> {
    if is_default(text) {
        return Ok(());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let network = IpNetwork::from(address.to_canonical()).to_string();
        return Err(Problem::RouteWithoutMask {
            text: text.to_owned(),
            network,
        });
    }
    let route = cidr(text).ok_or_else(|| Problem::NotARoute(text.to_owned()))?;
    if route.prefix_len() == 0 {
        return Err(Problem::RouteOfAll(text.to_owned()));
    }
    check_canonical(route, text)
}

/// Whether `text` is `default`.
pub(crate) fn is_default(text: &str) -> bool {
    text == DEFAULT
}

/// Parses `address/length` without a leading zero in the length and without white space around it.
fn cidr(text: &str) -> Option<Route> {
    let (_, length) = text.split_once('/')?;
    let network = Route::parse(text).ok()?;
    (text.trim() == text && length == network.prefix_len().to_string()).then_some(network)
}

/// Rejects host bits and IPv4-mapped IPv6.
fn check_canonical(network: Route, text: &str) -> Result<(), Problem> {
    let base = network.network();
    if base.address().to_canonical() != base.address() {
        Err(Problem::Mapped(text.to_owned()))
    } else if base == network {
        Ok(())
    } else {
        Err(Problem::HostBits {
            text: text.to_owned(),
            network: base.to_string(),
        })
    }
}
