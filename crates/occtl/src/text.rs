//! ocserv's text fields: bytes without a promised encoding, empty where there is nothing to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Text that identifies something: only if it is exactly text. A name that were repaired could equal another's.
pub(crate) fn exact(bytes: Option<Vec<u8>>) -> Option<String> {
    String::from_utf8(bytes?).ok().filter(|text| !text.is_empty())
}

/// Text for people: what is not UTF-8 is shown as U+FFFD.
pub(crate) fn shown(bytes: Option<Vec<u8>>) -> Option<String> {
    let text = show(bytes?);
    (!text.is_empty()).then_some(text)
}

pub(crate) fn shown_all(values: Vec<Vec<u8>>) -> Vec<String> {
    values.into_iter().map(show).collect()
}

fn show(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// An address, or `None` where there is none or it cannot be read. The scope of a link-local address is dropped, and an
/// IPv4 address in IPv6 clothes is undressed, so that one client has one address.
pub(crate) fn address(bytes: Option<&[u8]>) -> Option<IpAddr> {
    let text = str::from_utf8(bytes?).ok()?;
    let address: IpAddr = text.split('%').next()?.parse().ok()?;
    Some(address.to_canonical())
}

pub(crate) fn ipv4(bytes: Option<&[u8]>) -> Option<Ipv4Addr> {
    match address(bytes)? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

pub(crate) fn ipv6(bytes: Option<&[u8]>) -> Option<Ipv6Addr> {
    match address(bytes)? {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

/// Seconds since 1970; ocserv says 0 where it has no time. What no clock can show is no time either.
pub(crate) fn epoch(seconds: Option<impl TryInto<i64>>) -> Option<u64> {
    let seconds: i64 = seconds?.try_into().ok()?;
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)
}
