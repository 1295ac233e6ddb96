//! Certificates that no authority of ours would issue, and clients that present them.
//!
//! A forge signs whatever it is given. The broker's development authority can be borrowed as one,
//! so that a certificate is wrong in one way only.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use quinn::{ConnectionError, Endpoint, crypto::rustls::QuicClientConfig};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tollgate_certs::crypto;

/// An authority without rules.
pub struct Forge {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, as PEM.
    pub certificate_pem: String,
}

/// What a peer presents.
#[derive(Debug)]
pub struct Forged {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// As PEM.
    pub certificate_pem: String,
    /// Its key, as PEM.
    pub key_pem: String,
}

impl Forge {
    /// An authority that nobody trusts yet.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(common_name: &str) -> Forge {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = named(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key).expect("a root").pem();
        Forge { issuer: Issuer::new(params, key), certificate_pem }
    }

    /// The authority kept in a directory, with its key.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(dir: &Path) -> Forge {
        let read = |name| std::fs::read_to_string(dir.join(name)).expect("the authority's file");
        let key = KeyPair::from_pem(&read("ca.key")).expect("a key");
        let certificate_pem = read("ca.pem");
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).expect("an authority");
        Forge { issuer, certificate_pem }
    }

    /// Signs a client's certificate for `acme`, changed at will.
    ///
    /// # Panics
    /// When it cannot be signed.
    pub fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> Forged {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = named("laptop");
        params.subject_alt_names = vec![uri("spiffe://tollgate.local/tenant/acme/client")];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + DAY).into();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Forged {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

/// An alternative name of type URI.
///
/// # Panics
/// When it is not ASCII.
pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Knocks with whatever is presented and says how the connection ended; `root` is the authority of
/// the broker's own certificate. The handshake may well succeed on this side: a refusal of a
/// client's certificate comes after it.
///
/// # Panics
/// When the settings make no client.
pub async fn knock(addr: SocketAddr, root: &str, presented: Option<&Forged>) -> ConnectionError {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(root.as_bytes()).expect("a root");
    roots.add(root).expect("a root");
    let builder = ClientConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut tls = match presented {
        None => builder.with_no_client_auth(),
        Some(forged) => {
            let key = PrivateKeyDer::from_pem_slice(forged.key_pem.as_bytes()).expect("a key");
            builder.with_client_auth_cert(vec![forged.certificate.clone()], key).expect("a pair")
        }
    };
    tls.alpn_protocols = vec![tollgate_protocol::ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).expect("a QUIC configuration");
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    match endpoint.connect_with(config, addr, "localhost").expect("a connection").await {
        Ok(conn) => conn.closed().await,
        Err(error) => error,
    }
}
