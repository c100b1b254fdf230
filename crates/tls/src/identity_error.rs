//! Errors of loading an identity.

use std::path::PathBuf;

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file does not exist.
    #[error("{path}: no such file", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The process may not read the file.
    #[error("{path}: no permission to read it", path = path.display())]
    NoPermission {
        /// The file.
        path: PathBuf,
    },
    /// Reading failed in another way.
    #[error("{path}: could not be read", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any PEM file in use.
    #[error("{path}: larger than {limit} bytes, which is too large for a PEM file", path = path.display())]
    TooBig {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file has no certificate or key, or a damaged one.
    #[error("{path}: no usable {wanted} in PEM form: {problem}", path = path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// The expected content.
        wanted: &'static str,
        /// The problem.
        problem: &'static str,
    },
    /// The PEM is valid; its content is not a usable X.509 certificate.
    #[error("{path}: certificate {number} in it cannot be used: {problem}", path = path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Its position in the file, from 1.
        number: usize,
        /// The problem.
        problem: String,
    },
    /// The type of the key is not supported.
    #[error("{path}: the private key cannot be used: {problem}", path = path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The key belongs to another certificate.
    #[error("{key}: is not the key of the certificate in {cert}", key = key.display(), cert = cert.display())]
    WrongKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// Our certificate is no longer valid.
    #[error("{path}: the certificate expired on {on}", path = path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// The day, as in `2026-01-31`, UTC.
        on: String,
    },
    /// rustls rejects the identity.
    #[error("the TLS library rejects this identity")]
    Config(#[source] rustls::Error),
}
