//! TLS towards an upstream: who vouches for it, and the certificate that the broker shows it.
//!
//! The provider of cryptography is named here: nothing of the process's defaults is used.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::WantsClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;

use super::{
    config::Upstream,
    error::Problem,
    files::{content, read},
};

/// What is used towards an `https` upstream.
///
/// # Errors
/// The key of its section at fault, and what is wrong with it.
pub(super) fn config(upstream: &Upstream) -> Result<ClientConfig, (&'static str, Problem)> {
    let config = match &upstream.tls_roots {
        Some(path) => {
            let roots = roots(path).map_err(|problem| ("tls_roots", problem))?;
            builder().with_root_certificates(roots)
        }
        None => of_the_system().map_err(|e| ("tls_roots", Problem::Tls(e.to_string())))?,
    };
    let mut config = match (&upstream.tls_certificate, &upstream.tls_key) {
        (Some(certificate), Some(key)) => identity(config, certificate, key)?,
        _ => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// For an upstream that is spoken to in the clear: never used, but a client wants one.
pub(super) fn unused() -> ClientConfig {
    builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    // Unlike the broker's own listeners, an upstream may speak TLS 1.2.
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has what TLS 1.2 and 1.3 need")
}

fn of_the_system() -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    builder().with_platform_verifier()
}

fn roots(path: &Path) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for root in chain(path)? {
        roots.add(root).map_err(|e| content(path, &e.to_string()))?;
    }
    Ok(roots)
}

fn identity(
    config: ConfigBuilder<ClientConfig, WantsClientCert>,
    certificate: &Path,
    key: &Path,
) -> Result<ClientConfig, (&'static str, Problem)> {
    let chain = chain(certificate).map_err(|problem| ("tls_certificate", problem))?;
    let text = read(key).map_err(|problem| ("tls_key", problem))?;
    // The parser's own words quote the text, which is a key.
    let secret = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| ("tls_key", content(key, "there is no private key in it")))?;
    config
        .with_client_auth_cert(chain, secret)
        .map_err(|e| ("tls_certificate", content(certificate, &e.to_string())))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(content(path, "there is no certificate in it")),
    }
}
