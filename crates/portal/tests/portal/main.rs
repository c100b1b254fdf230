//! The client against a portal on loopback, over mutual TLS, with a proxy between them that can misbehave.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod connection;
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
mod setup;
