//! Issuing: a certificate and a new key for a client or a server.
//!
//! A client's certificate authenticates clients only, a server's servers only. None outlives the
//! authority that issued it.

use std::{
    fmt, fs, io,
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::ServerName;

use super::{Authority, CLOCK_SKEW, named, random_serial, serial_of};
use crate::{
    files::{self, Access},
    identity::Identity,
};

/// For how long a certificate is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssueOptions {
    /// From `not_before` on; cut to what the authority itself has left.
    pub validity: Duration,
    /// The first moment at which it is valid.
    pub not_before: SystemTime,
}

/// A certificate, its key, and the authority's certificate.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, as PEM.
    pub certificate_pem: String,
    /// Its private key, as PEM (PKCS #8).
    pub key_pem: String,
    /// The certificate of the authority, as PEM.
    pub ca_pem: String,
    /// The serial number, in hex: what revoking takes.
    pub serial: String,
    /// The last moment at which it is valid.
    pub not_after: SystemTime,
}

/// Why a certificate is not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The certificate would never be valid, or only when the authority no longer is.
    #[error("nothing is left of the validity asked for: the authority's own ends at {ends}")]
    Validity {
        /// When the authority's own certificate expires.
        ends: jiff::Timestamp,
    },
    /// A server's certificate needs a name.
    #[error("a server needs at least one DNS name or IP address")]
    NoServerNames,
    /// The key or the certificate could not be made.
    #[error("cannot make the certificate: {0}")]
    Generate(#[from] rcgen::Error),
}

impl Authority {
    /// Issues a certificate to a holder in the authority's trust domain.
    ///
    /// # Errors
    /// [`IssueError`], mostly when no validity is left.
    pub fn issue(&self, identity: &Identity, options: &IssueOptions) -> Result<Issued, IssueError> {
        let tenant = identity.tenant().map(|tenant| tenant.as_str());
        let common_name = identity.name().or(tenant).unwrap_or(identity.role().as_str());
        let mut params = CertificateParams::default();
        params.distinguished_name = named(common_name);
        let uri = identity.spiffe_id(&self.domain);
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, options)
    }

    /// Issues a certificate to a server that is reached under these names.
    ///
    /// # Errors
    /// [`IssueError::NoServerNames`] without any, or as [`Authority::issue`].
    pub fn issue_server(
        &self,
        names: &[ServerName<'_>],
        options: &IssueOptions,
    ) -> Result<Issued, IssueError> {
        let sans = names.iter().map(|name| match name {
            ServerName::DnsName(name) => Ok(SanType::DnsName(name.as_ref().try_into()?)),
            ServerName::IpAddress(address) => Ok(SanType::IpAddress(IpAddr::from(*address))),
            _ => Err(IssueError::NoServerNames),
        });
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans.collect::<Result<_, _>>()?;
        if params.subject_alt_names.is_empty() {
            return Err(IssueError::NoServerNames);
        }
        params.distinguished_name = named("tollgate");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, options)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        options: &IssueOptions,
    ) -> Result<Issued, IssueError> {
        let (not_before, not_after) = self.validity_left(options)?;
        let serial = random_serial()?;
        params.not_before = not_before.into();
        params.not_after = not_after.into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial.clone());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.certificate_pem.clone(),
            serial: serial_of(&serial).to_string(),
            not_after,
        })
    }

    /// Both ends in whole seconds, which is all that a certificate can hold.
    fn validity_left(
        &self,
        options: &IssueOptions,
    ) -> Result<(SystemTime, SystemTime), IssueError> {
        let ends = self.validity.not_after;
        let none_left =
            || IssueError::Validity { ends: jiff::Timestamp::try_from(ends).unwrap_or_default() };
        let since_epoch =
            options.not_before.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| none_left())?;
        let not_before_s = Duration::from_secs(since_epoch.as_secs());
        let validity_s = Duration::from_secs(options.validity.as_secs());
        let not_before = SystemTime::UNIX_EPOCH.checked_add(not_before_s).ok_or_else(none_left)?;
        let not_after = not_before.checked_add(validity_s).map_or(ends, |end| end.min(ends));
        if not_after <= not_before {
            return Err(none_left());
        }
        Ok((not_before, not_after))
    }
}

impl IssueOptions {
    /// Valid from an hour ago, for clocks that lag, until this long from now.
    pub fn valid_for(duration: Duration) -> IssueOptions {
        IssueOptions {
            validity: duration.saturating_add(CLOCK_SKEW),
            not_before: SystemTime::now() - CLOCK_SKEW,
        }
    }
}

impl Default for IssueOptions {
    /// For ninety days.
    fn default() -> IssueOptions {
        IssueOptions::valid_for(Duration::from_secs(90 * 24 * 3600))
    }
}

impl Issued {
    /// Writes `cert.pem`, `key.pem` (readable by the owner alone) and `ca.pem` to a directory,
    /// which is made if it is not there. A certificate that is there is renewed, each file in one
    /// step: who reads between two of them sees a key that does not match, and reads again.
    ///
    /// # Errors
    /// [`io::Error`] of the first file that cannot be written.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        files::replace(&dir.join("ca.pem"), self.ca_pem.as_bytes(), Access::Public)?;
        files::replace(&dir.join("key.pem"), self.key_pem.as_bytes(), Access::Private)?;
        files::replace(&dir.join("cert.pem"), self.certificate_pem.as_bytes(), Access::Public)
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
