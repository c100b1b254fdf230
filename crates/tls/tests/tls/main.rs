//! Identities, reloads and the accept loop, with certificates made for each test.

#[cfg(test)]
mod accept;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod pki;
