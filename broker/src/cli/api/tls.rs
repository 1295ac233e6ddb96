//! TLS towards the API: who vouches for the broker, and the certificate that we show.
//!
//! The provider of cryptography is named here: nothing of the process's defaults is used.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::cli::exit::Usage;

/// What is used towards an `https` address.
///
/// # Errors
/// [`Usage`], naming the file at fault.
pub(super) fn config(certs: Option<&Path>, ca: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let of_certs = certs.map(|dir| dir.join("ca.pem"));
    let Some(ca) = ca.or(of_certs.as_deref()) else {
        return Err(Usage::error(
            "https needs --certs DIR with an operator's certificate, or --ca FILE and --token-file",
        ));
    };
    let mut roots = RootCertStore::empty();
    for root in chain(ca)? {
        roots.add(root).map_err(|e| wrong(ca, &e))?;
    }
    let config = builder().with_root_certificates(roots);
    let Some(dir) = certs else { return Ok(config.with_no_client_auth()) };
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let secret = PrivateKeyDer::from_pem_file(&key).map_err(|e| wrong(&key, &e))?;
    config.with_client_auth_cert(chain(&cert)?, secret).map_err(|e| wrong(&cert, &e))
}

/// What is not used: a client wants one even when it will speak in the clear.
pub(super) fn unused() -> ClientConfig {
    builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has what TLS 1.3 needs")
}

fn chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| wrong(path, &e))?;
    let chain: Vec<_> = read.collect::<Result<_, _>>().map_err(|e| wrong(path, &e))?;
    if chain.is_empty() { Err(wrong(path, &"there is no certificate in it")) } else { Ok(chain) }
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> anyhow::Error {
    Usage::error(format!("cannot use {}: {why}", path.display()))
}
