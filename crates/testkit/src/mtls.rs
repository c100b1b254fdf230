//! Plain mutual TLS 1.3. The product's own TLS is not used, because it is under test.

use std::io;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::pki::Issued;

const HTTP2: &[u8] = b"h2";

pub(crate) fn server(identity: &Issued) -> io::Result<Arc<ServerConfig>> {
    let (provider, roots, chain, key) = load(identity)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(io::Error::other)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Arc::new(config))
}

pub(crate) fn client(identity: &Issued) -> io::Result<Arc<ClientConfig>> {
    let (provider, roots, chain, key) = load(identity)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Arc::new(config))
}

type Loaded = (
    Arc<CryptoProvider>,
    RootCertStore,
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
);

fn load(identity: &Issued) -> io::Result<Loaded> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&identity.ca).map_err(io::Error::other)? {
        roots
            .add(certificate.map_err(io::Error::other)?)
            .map_err(io::Error::other)?;
    }
    let chain = CertificateDer::pem_file_iter(&identity.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(io::Error::other)?;
    Ok((Arc::new(aws_lc_rs::default_provider()), roots, chain, key))
}
