//! The handshake, and the broker's certificate, looked at without presenting our own.
//!
//! The verdict on the certificate is taken down instead of ending the handshake, so that what is
//! wrong can be said; then the connection is closed, and nothing else was sent on it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quinn::{ConnectionError, Endpoint, crypto::rustls::HandshakeData};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::json;
use tokio::time::timeout;
use tollgate_certs::crypto::provider;

use super::{Findings, certificates};
use crate::cli::{
    exit::{Exit, Usage},
    format,
};

/// Makes a handshake as nobody. Says whether the broker is to be trusted.
///
/// # Errors
/// When no handshake can be made at all, for reasons on this side.
pub(super) async fn examine(
    addr: SocketAddr,
    name: &str,
    roots: Option<&RootCertStore>,
    wait: Duration,
    findings: &mut Findings,
) -> anyhow::Result<bool> {
    let witness = Arc::new(Witness::new(roots)?);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(witness.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![tollgate_protocol::ALPN.to_vec()];
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config)?;
    let any: SocketAddr = if addr.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
    let endpoint = Endpoint::client(any)?;
    let config = quinn::ClientConfig::new(Arc::new(config));
    let connecting = endpoint
        .connect_with(config, addr, name)
        .map_err(|e| Usage::error(format!("--server-name {name}: {e}")))?;
    let began = std::time::Instant::now();
    match timeout(wait, connecting).await {
        Ok(Ok(connection)) => {
            let data = connection.handshake_data();
            let protocol = data
                .and_then(|any| any.downcast::<HandshakeData>().ok())
                .and_then(|data| data.protocol)
                .map(|protocol| String::from_utf8_lossy(&protocol).into_owned())
                .unwrap_or_default();
            let took = format::duration(began.elapsed());
            let values = json!({ "protocol": protocol });
            findings.good("handshake", format!("TLS 1.3, {protocol}, in {took}"), values);
            connection.close(0u32.into(), b"");
        }
        Ok(Err(e)) => findings.bad("handshake", Exit::Unreachable, explain(&e)),
        Err(_) => {
            let waited = format::duration(wait);
            let message = format!("QUIC answers, but no handshake comes about within {waited}");
            findings.bad("handshake", Exit::Unreachable, message);
        }
    }
    endpoint.wait_idle().await;
    Ok(witness.report(name, roots.is_some(), findings))
}

/// TLS alerts (RFC 8446, section 6) travel as transport errors from 0x100 on.
fn explain(error: &ConnectionError) -> String {
    const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
    let code = match error {
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        ConnectionError::TransportError(e) => u64::from(e.code),
        _ => 0,
    };
    match code {
        NO_APPLICATION_PROTOCOL => format!(
            "the server does not speak {}: it is another kind of server, or another version",
            String::from_utf8_lossy(tollgate_protocol::ALPN)
        ),
        0x100..0x200 => format!("TLS failed: {error}"),
        _ => format!("it failed: {error}"),
    }
}

/// Sees the broker's certificate, and lets every one pass.
#[derive(Debug)]
struct Witness {
    /// The one who really judges, where there are roots to judge by.
    judge: Option<Arc<WebPkiServerVerifier>>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    leaf: CertificateDer<'static>,
    problem: Option<rustls::Error>,
}

impl Witness {
    fn new(roots: Option<&RootCertStore>) -> anyhow::Result<Witness> {
        let judge = |roots: &RootCertStore| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots.clone()), provider()).build()
        };
        Ok(Witness { judge: roots.map(judge).transpose()?, seen: Mutex::new(None) })
    }

    /// Tells what was seen; whether it is to be trusted.
    fn report(&self, name: &str, judged: bool, findings: &mut Findings) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Seen { leaf, problem }) = seen else { return false };
        certificates::expiry("broker cert", &leaf, findings);
        let names = names(&leaf);
        match problem {
            Some(problem) => {
                let message = format!(
                    "not trusted as `{name}`: {problem}; it is for {names}. Check --server-name \
                     and the roots in ca.pem"
                );
                findings.bad("broker cert", Exit::Unauthorised, message);
                false
            }
            None if judged => {
                let message = format!("trusted as `{name}`; it is for {names}");
                findings.good("broker cert", message, json!({ "names": names }));
                true
            }
            None => {
                findings.warn("broker cert", format!("for {names}; not judged without --certs"));
                false
            }
        }
    }
}

fn names(leaf: &CertificateDer<'_>) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        STANDARD.encode(leaf)
    );
    match tollgate_certs::inspect(pem.as_bytes(), std::time::SystemTime::now()) {
        Ok(info) => format!("{} ({})", info.alternative_names.join(", "), info.subject),
        Err(e) => format!("nobody: {e}"),
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let problem = self.judge.as_ref().and_then(|judge| {
            judge
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .err()
        });
        let seen = Seen { leaf: end_entity.clone().into_owned(), problem };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
