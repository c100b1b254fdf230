//! Identities, reloads and the accept loop, with certificates generated per test.

#[cfg(test)]
mod accept;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod pki;
