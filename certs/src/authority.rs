//! A certificate authority for brokers and their clients: made, kept in a directory, loaded.
//!
//! Never overwrites an authority, and never shows its key outside of its file.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    crypto,
    files::{self, Access, PemError},
    identity::{self, TrustDomain},
    serial::Serial,
    verify::{self, Validity},
};

mod issue;
mod revoke;

pub use issue::{IssueError, IssueOptions, Issued};
pub use revoke::RevokeError;

/// The key and the certificate that others are issued with: ECDSA on P-256.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    domain: TrustDomain,
    validity: Validity,
}

/// Why an authority cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The name cannot stand in a certificate.
    #[error("a common name has 1 to 64 characters, none of them a control character")]
    CommonName,
    /// The key or the certificate could not be made.
    #[error("cannot make the authority's certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// What was made cannot be read back.
    #[error(transparent)]
    Unusable(#[from] LoadError),
}

/// Why an authority cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// There is an authority, or part of one.
    #[error("{0} exists: an authority is never overwritten")]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// Why an authority cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The certificate's text is not PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The certificate is not an authority's.
    #[error("the authority's certificate cannot be used: {0}")]
    Certificate(&'static str),
    /// The key is no key that can sign, or another certificate's.
    #[error("the authority's private key cannot be used: {0}")]
    Key(&'static str),
}

impl Authority {
    /// Makes an authority for a trust domain, valid for ten years. Nothing is written.
    ///
    /// # Errors
    /// [`CreateError`], mostly for a common name that cannot stand in a certificate.
    pub fn create(common_name: &str, domain: &TrustDomain) -> Result<Authority, CreateError> {
        let length = common_name.chars().count();
        if !(1..=64).contains(&length) || common_name.chars().any(char::is_control) {
            return Err(CreateError::CommonName);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.distinguished_name = named(common_name);
        params.serial_number = Some(random_serial()?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + AUTHORITY_VALIDITY).into();
        // Where `load` finds the trust domain again, as the SPIFFE specification has it.
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
        let certificate = params.self_signed(&key)?;
        Ok(Authority::read(certificate.pem().as_bytes(), key)?)
    }

    /// Loads the authority that [`Authority::save`] wrote to a directory.
    ///
    /// # Errors
    /// [`LoadError`], also when key and certificate do not belong together.
    pub fn load(dir: &Path) -> Result<Authority, LoadError> {
        let read = |name: &str| {
            let path = dir.join(name);
            files::read(&path).map_err(|source| LoadError::Read { path, source })
        };
        let certificate = read(CERTIFICATE_FILE)?;
        let key = String::from_utf8(read(KEY_FILE)?)
            .ok()
            .and_then(|pem| KeyPair::from_pem(&pem).ok())
            .ok_or(LoadError::Key("it is not a private key in PEM"))?;
        Authority::read(&certificate, key)
    }

    /// Writes `ca.pem` and `ca.key` (readable by the owner alone) to a directory, which is made if
    /// it is not there.
    ///
    /// # Errors
    /// [`SaveError::Exists`] when either file is there: nothing is ever overwritten.
    pub fn save(&self, dir: &Path) -> Result<(), SaveError> {
        let certificate = dir.join(CERTIFICATE_FILE);
        let key = dir.join(KEY_FILE);
        for path in [&certificate, &key] {
            if path.symlink_metadata().is_ok() {
                return Err(SaveError::Exists(path.clone()));
            }
        }
        let write = |path: &Path, source| SaveError::Write { path: path.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(|e| write(dir, e))?;
        let create = |path: &Path, text: &str, access| {
            files::create(path, text.as_bytes(), access).map_err(|e| match e.kind() {
                io::ErrorKind::AlreadyExists => SaveError::Exists(path.to_owned()),
                _ => write(path, e),
            })
        };
        create(&key, &self.issuer.key().serialize_pem(), Access::Private)?;
        create(&certificate, &self.certificate_pem, Access::Public)?;
        files::sync_directory(&key).map_err(|e| write(dir, e))
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's own certificate, as PEM: a trust root for others.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The trust domain whose identities it issues.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    fn read(certificate_pem: &[u8], key: KeyPair) -> Result<Authority, LoadError> {
        let unusable = LoadError::Certificate;
        let mut certificates = files::certificates(certificate_pem)?;
        let (Some(certificate), true) = (certificates.pop(), certificates.is_empty()) else {
            return Err(unusable("there are several in the file"));
        };
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|_| unusable("it is not a certificate"))?;
        if !parsed.is_ca() {
            return Err(unusable("it is not that of an authority (CA:TRUE)"));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(LoadError::Key("it is not that of the certificate"));
        }
        let domain = identity::uri_name(&certificate)
            .ok()
            .and_then(|uri| TrustDomain::parse(uri.strip_prefix("spiffe://")?).ok())
            .ok_or(unusable("its alternative name is not spiffe://<trust domain>"))?;
        let validity =
            verify::validity(&certificate).map_err(|_| unusable("its validity cannot be read"))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|_| unusable("its name or its key usage cannot be read"))?;
        let certificate_pem = String::from_utf8_lossy(certificate_pem).into_owned();
        Ok(Authority { issuer, certificate, certificate_pem, domain, validity })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("domain", &self.domain)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Sixteen octets: positive, without a leading zero, and 126 of their bits random.
fn random_serial() -> Result<SerialNumber, rcgen::Error> {
    let mut octets = [0; 16];
    crypto::fill_random(&mut octets).map_err(|_| rcgen::Error::RingUnspecified)?;
    octets[0] = octets[0] & 0x7f | 0x40;
    Ok(octets.to_vec().into())
}

fn serial_of(number: &SerialNumber) -> Serial {
    Serial::from_der(number.as_ref())
}

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far the clocks of two machines may be apart before a fresh certificate is refused.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
