//! Authorities and certificates of every wrong kind, and a handshake without a network.
#![allow(dead_code, missing_docs)] // Each test file uses its own part.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
        pem::PemObject,
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use tollgate_certs::{
    Authority, DenyList, IssueOptions, ServerCredentials, Trust, TrustDomain, crypto,
};

pub const GOOD_URI: &str = "spiffe://tollgate.local/tenant/acme/client/laptop";
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a peer presents.
pub struct Presented {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

/// An authority outside of the crate's rules: it signs whatever it is given.
pub struct Forge {
    pub certificate: CertificateDer<'static>,
    pub issuer: Issuer<'static, KeyPair>,
}

impl Forge {
    pub fn root(common_name: &str) -> Forge {
        let key = KeyPair::generate().expect("a key");
        let params = authority(common_name);
        let certificate = params.self_signed(&key).expect("a root").der().clone();
        Forge { certificate, issuer: Issuer::new(params, key) }
    }

    pub fn intermediate(
        &self,
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Forge {
        let key = KeyPair::generate().expect("a key");
        let mut params = authority(common_name);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").der().clone();
        Forge { certificate, issuer: Issuer::new(params, key) }
    }

    pub fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> Presented {
        let key = KeyPair::generate().expect("a key");
        let mut params = client();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").der().clone();
        Presented { chain: vec![certificate], key }
    }

    pub fn crl(&self, number: u64, serials: &[u64]) -> CertificateRevocationListDer<'static> {
        self.crl_until(number, serials, SystemTime::now() + DAY)
    }

    pub fn crl_until(
        &self,
        number: u64,
        serials: &[u64],
        next_update: SystemTime,
    ) -> CertificateRevocationListDer<'static> {
        let revoked = |serial: &u64| rcgen::RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: SystemTime::now().into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: (next_update - 10 * DAY).into(),
            next_update: next_update.into(),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").der().clone()
    }
}

impl Presented {
    pub fn through(mut self, intermediate: &Forge) -> Presented {
        self.chain.push(intermediate.certificate.clone());
        self
    }
}

/// The parameters of a good client, valid for a day either side of now.
pub fn client() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("laptop");
    params.subject_alt_names = vec![uri(GOOD_URI)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + DAY).into();
    params
}

fn authority(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

/// Alternative names of type URI with any bytes at all.
pub fn raw_uris(uris: &[&[u8]]) -> CustomExtension {
    let names: Vec<u8> = uris.iter().flat_map(|bytes| tlv(0x86, bytes)).collect();
    CustomExtension::from_oid_content(&[2, 5, 29, 17], tlv(0x30, &names))
}

/// A DER element.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).expect("short").to_be_bytes();
    let mut out = match content.len() {
        0..0x80 => vec![tag, len[1]],
        0x80..0x100 => vec![tag, 0x81, len[1]],
        _ => vec![tag, 0x82, len[0], len[1]],
    };
    out.extend(content);
    out
}

pub fn trusting(roots: &[&Forge]) -> Trust {
    trust(roots, Vec::new(), "")
}

pub fn trust(
    roots: &[&Forge],
    crls: Vec<CertificateRevocationListDer<'static>>,
    deny: &str,
) -> Trust {
    let roots = roots.iter().map(|forge| forge.certificate.clone()).collect();
    let deny = DenyList::parse(deny).expect("a good deny list");
    Trust::new(roots, crls, deny, TrustDomain::default()).expect("good trust")
}

pub fn now() -> UnixTime {
    UnixTime::now()
}

/// A broker's credentials, and the root that vouches for them.
pub struct Broker {
    credentials: ServerCredentials,
    roots: Arc<RootCertStore>,
}

impl Broker {
    pub fn new() -> Broker {
        let authority = Authority::create("brokers", &TrustDomain::default()).expect("created");
        let name = ServerName::try_from("localhost").expect("a name");
        let issued = authority.issue_server(&[name], &IssueOptions::default()).expect("issued");
        let credentials = ServerCredentials::from_pem(
            issued.certificate_pem.as_bytes(),
            issued.key_pem.as_bytes(),
        );
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).expect("a root");
        Broker { credentials: credentials.expect("good"), roots: Arc::new(roots) }
    }

    pub fn config(&self, trust: &Trust) -> ServerConfig {
        tollgate_certs::server_config(&self.credentials, trust).expect("a configuration")
    }

    /// A client that presents anything, also a key that does not match.
    pub fn client(&self, presented: Option<&Presented>) -> ClientConfig {
        let provider = crypto::provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(self.roots.clone());
        let mut config = match presented {
            None => builder.with_no_client_auth(),
            Some(presented) => {
                let key = PrivateKeyDer::from_pem_slice(presented.key.serialize_pem().as_bytes());
                let key = provider.key_provider.load_private_key(key.expect("a key"));
                let certified = CertifiedKey::new(presented.chain.clone(), key.expect("a key"));
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
        };
        config.alpn_protocols = vec![b"tollgate/1".to_vec()];
        config
    }
}

/// Runs a client and a server against each other; the error is the server's.
pub fn handshake(
    client: impl Into<Arc<ClientConfig>>,
    server: impl Into<Arc<ServerConfig>>,
) -> Result<HandshakeKind, rustls::Error> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(client.into(), name).expect("a client");
    let mut server = ServerConnection::new(server.into()).expect("a server");
    loop {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("to memory");
        }
        let to_server = wire.len();
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("from memory");
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("to memory");
        }
        if to_server + wire.len() == 0 {
            break;
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("from memory");
            client.process_new_packets().expect("the broker is good");
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking(), "a handshake without an end");
    assert_eq!(server.alpn_protocol(), Some(&b"tollgate/1"[..]));
    Ok(client.handshake_kind().expect("finished"))
}
