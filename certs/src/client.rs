//! A client's side of TLS: its certificate, and the roots it expects the broker to have.
//!
//! Sessions are never resumed and nothing is sent early, as the broker would refuse both.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::CertificateDer,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use crate::{
    crypto, files,
    server::{CredentialsError, certified, read},
};

/// A client's certificate chain, its key, and the roots it trusts. Cheap to clone.
#[derive(Clone)]
pub struct ClientCredentials {
    certified: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
}

impl ClientCredentials {
    /// Reads `cert.pem`, `key.pem` and `ca.pem` from a directory, as [`crate::Issued::write`]
    /// leaves them.
    ///
    /// # Errors
    /// [`CredentialsError`], also when the key is another certificate's.
    pub fn load_dir(dir: &Path) -> Result<ClientCredentials, CredentialsError> {
        ClientCredentials::from_pem(
            &read(&dir.join("cert.pem"))?,
            &read(&dir.join("key.pem"))?,
            &read(&dir.join("ca.pem"))?,
        )
    }

    /// Reads a chain, its key and the roots from PEM text.
    ///
    /// # Errors
    /// As [`ClientCredentials::load_dir`].
    pub fn from_pem(
        certificate: &[u8],
        key: &[u8],
        roots: &[u8],
    ) -> Result<ClientCredentials, CredentialsError> {
        let mut store = RootCertStore::empty();
        for root in files::certificates(roots)? {
            store.add(root).map_err(CredentialsError::BadRoot)?;
        }
        Ok(ClientCredentials { certified: certified(certificate, key)?, roots: Arc::new(store) })
    }

    /// The chain, the client's own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("certificates", &self.chain().len())
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

/// The TLS configuration of a client: TLS 1.3, our ALPN, its certificate.
///
/// # Errors
/// [`rustls::Error`] when the provider cannot serve TLS 1.3.
pub fn client_config(credentials: &ClientCredentials) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(credentials.roots.clone())
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified.clone())));
    config.alpn_protocols = vec![tollgate_protocol::ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}
