//! The client with a portal on loopback, over mutual TLS, through a proxy that injects faults.
#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

#[cfg(test)]
mod calls;
#[cfg(test)]
mod connection;
#[cfg(test)]
mod control_stream;
#[cfg(test)]
mod double;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod log;
#[cfg(test)]
mod pki;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod statuses;
#[cfg(test)]
mod stream_double;
