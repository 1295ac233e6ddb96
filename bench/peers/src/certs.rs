//! One throw-away CA, a server certificate for localhost and a tenant certificate,
//! written as PEM into a directory of the run (nats-server and redis-server read files).
use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
    ClientConfig, RootCertStore, ServerConfig,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::tune::Tune;

pub fn write_all(dir: &Path) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(vec![])?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    ca.distinguished_name.push(rcgen::DnType::CommonName, "peers bench CA");
    let ca_cert = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);
    fs::write(dir.join("ca.pem"), ca_cert.pem())?;
    for (name, usage) in [
        ("server", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let key = KeyPair::generate()?;
        let sans = vec!["localhost".to_string(), "127.0.0.1".to_string()];
        let mut p = CertificateParams::new(sans)?;
        p.distinguished_name.push(
            rcgen::DnType::CommonName,
            if name == "server" { "localhost" } else { "tenant-a" },
        );
        p.extended_key_usages = vec![usage];
        let cert = p.signed_by(&key, &issuer)?;
        fs::write(dir.join(format!("{name}.pem")), cert.pem())?;
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

#[derive(Clone)]
pub struct Certs(pub PathBuf);

impl Certs {
    pub fn path(&self, f: &str) -> PathBuf {
        self.0.join(f)
    }
    pub fn pem(&self, f: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.path(f))?)
    }
    fn chain(&self, f: &str) -> Result<Vec<CertificateDer<'static>>> {
        Ok(CertificateDer::pem_file_iter(self.path(f))?.collect::<Result<_, _>>()?)
    }
    fn key(&self, f: &str) -> Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::from_pem_file(self.path(f))?)
    }
    fn roots(&self) -> Result<RootCertStore> {
        let mut r = RootCertStore::empty();
        for c in self.chain("ca.pem")? {
            r.add(c)?;
        }
        Ok(r)
    }

    pub fn server(&self, t: &Tune) -> Result<ServerConfig> {
        let p = provider(t);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), p.clone())
                .build()?;
        let mut c = ServerConfig::builder_with_provider(p)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain("server.pem")?, self.key("server.key")?)?;
        if t.get("resume", 0) == 0 {
            c.send_tls13_tickets = 0;
        }
        Ok(c)
    }

    /// A client that never resumes (every handshake is a full mutual one) unless `resume=1`.
    pub fn client(&self, t: &Tune) -> Result<ClientConfig> {
        let mut c = ClientConfig::builder_with_provider(provider(t))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.chain("client.pem")?, self.key("client.key")?)?;
        if t.get("resume", 0) == 0 {
            c.resumption = Resumption::disabled();
        }
        Ok(c)
    }
}

/// `crypto=aws|ring`, `suite=aes128|aes256|chacha` (the client's first choice wins).
pub fn provider(t: &Tune) -> Arc<CryptoProvider> {
    let mut p = match t.str("crypto", "aws") {
        "ring" => rustls::crypto::ring::default_provider(),
        _ => rustls::crypto::aws_lc_rs::default_provider(),
    };
    let want = match t.str("suite", "default") {
        "aes128" => Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256),
        "aes256" => Some(rustls::CipherSuite::TLS13_AES_256_GCM_SHA384),
        "chacha" => Some(rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
        _ => None,
    };
    if let Some(w) = want {
        p.cipher_suites.sort_by_key(|s| s.suite() != w);
    }
    if t.get("pq", 1) == 0 {
        p.kx_groups.retain(|g| g.name() == rustls::NamedGroup::X25519);
    }
    Arc::new(p)
}
