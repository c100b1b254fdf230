//! Reads PEM files of bounded size, with errors that name the file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::identity_error::IdentityError;

/// Largest file that is read, in bytes: above any CA bundle in use, so that a wrong path (a disk
/// image, `/dev/zero`) cannot exhaust the memory.
const MAX_FILE: u64 = 4 << 20;

/// Mode bit: every user may read the file.
const WORLD_READABLE: u32 = 0o004;

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let (text, _) = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(path, "certificate", &error))?;
    if certificates.is_empty() {
        return Err(not_pem(path, "certificate", &PemError::NoItemsFound));
    }
    Ok(certificates)
}

/// Returns the first private key of the file, and whether every user of the machine may read it.
pub(crate) fn private_key(path: &Path) -> Result<(PrivateKeyDer<'static>, bool), IdentityError> {
    let (text, mode) = read(path)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| not_pem(path, "private key", &error))?;
    Ok((key, mode & WORLD_READABLE != 0))
}

fn read(path: &Path) -> Result<(Vec<u8>, u32), IdentityError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => IdentityError::Missing { path: path.into() },
        ErrorKind::PermissionDenied => IdentityError::NoPermission { path: path.into() },
        _ => IdentityError::Unreadable {
            path: path.into(),
            source,
        },
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let mut text = Vec::new();
    let read = file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(failed)?;
    if read as u64 > MAX_FILE {
        return Err(IdentityError::TooBig {
            path: path.into(),
            limit: MAX_FILE,
        });
    }
    Ok((text, mode))
}

/// Describes the problem without quoting the file, which may hold a key.
fn not_pem(path: &Path, wanted: &'static str, error: &PemError) -> IdentityError {
    let problem = match error {
        PemError::NoItemsFound => "there is none in it",
        PemError::MissingSectionEnd { .. } => "its END line is missing: the file may be cut short",
        PemError::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        PemError::Base64Decode(_) => "its base64 is damaged",
        _ => "it cannot be parsed",
    };
    IdentityError::NotPem {
        path: path.into(),
        wanted,
        problem,
    }
}
