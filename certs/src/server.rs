//! The broker's side of TLS: its own certificate, and the configuration that demands the client's.
//!
//! There is no resumption, no ticket and no early data: a resumed session brings the stored chain
//! back without asking the verifier again, and with it a revoked certificate.

use std::{fmt, io, path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use crate::{
    crypto,
    files::{self, PemError},
    verify::Trust,
};

/// A certificate chain with the key that matches it. Cheap to clone.
#[derive(Clone)]
pub struct ServerCredentials {
    certified: Arc<CertifiedKey>,
}

/// Why a certificate and a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What happened.
        source: io::Error,
    },
    /// The text of the certificates, the key or the roots is not PEM of that kind.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The key cannot be used, or is not that of the certificate.
    #[error("the certificate and the private key do not go together: {0}")]
    Mismatch(rustls::Error),
    /// A trust root is not a certificate.
    #[error("a trust root is not a certificate: {0}")]
    BadRoot(rustls::Error),
}

impl ServerCredentials {
    /// Reads a chain, the broker's own certificate first, and its key from PEM files.
    ///
    /// # Errors
    /// [`CredentialsError`], also when the key is another certificate's.
    pub fn load(certificate: &Path, key: &Path) -> Result<ServerCredentials, CredentialsError> {
        ServerCredentials::from_pem(&read(certificate)?, &read(key)?)
    }

    /// Reads a chain and its key from PEM text.
    ///
    /// # Errors
    /// As [`ServerCredentials::load`].
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<ServerCredentials, CredentialsError> {
        Ok(ServerCredentials { certified: certified(certificate, key)? })
    }

    /// The chain, the broker's own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }
}

impl fmt::Debug for ServerCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCredentials")
            .field("certificates", &self.chain().len())
            .finish_non_exhaustive()
    }
}

/// The TLS configuration of a broker: TLS 1.3, our ALPN, a client certificate that `trust` accepts.
///
/// It is fixed once made: after a change, make another and hand it to the endpoint.
///
/// # Errors
/// [`rustls::Error`] when the provider cannot serve TLS 1.3.
pub fn server_config(
    credentials: &ServerCredentials,
    trust: &Trust,
) -> Result<ServerConfig, rustls::Error> {
    hardened(credentials, trust.client_verifier(), tollgate_protocol::ALPN)
}

/// The TLS configuration of a broker's HTTP listener: TLS 1.3, HTTP/1.1, and a client certificate
/// that `trust` accepts, or none: a bearer token may say who asks.
///
/// # Errors
/// As [`server_config`].
pub fn https_config(
    credentials: &ServerCredentials,
    trust: &Trust,
) -> Result<ServerConfig, rustls::Error> {
    hardened(credentials, trust.optional_client_verifier(), b"http/1.1")
}

fn hardened(
    credentials: &ServerCredentials,
    clients: Arc<dyn ClientCertVerifier>,
    alpn: &[u8],
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified.clone())));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    // Clients built on rustls prefer AES-256; the broker pays for every connection, so it decides.
    // The cost is borne by clients without AES instructions, which would rather have ChaCha20.
    config.ignore_client_order = true;
    Ok(config)
}

/// Reads a file for its PEM text.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    files::read(path)
        .map_err(|source| CredentialsError::Read { path: path.display().to_string(), source })
}

/// A chain and its key, which must belong together.
pub(crate) fn certified(
    certificate: &[u8],
    key: &[u8],
) -> Result<Arc<CertifiedKey>, CredentialsError> {
    let chain = files::certificates(certificate)?;
    let key = files::private_key(key)?;
    CertifiedKey::from_der(chain, key, &crypto::provider())
        .map(Arc::new)
        .map_err(CredentialsError::Mismatch)
}
