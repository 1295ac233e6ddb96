//! Judging a client's certificates: at the handshake, and again while it is connected.
//!
//! A [`Trust`] is an immutable snapshot of roots, revocation lists, deny list and trust domain.
//! It never reads a file or a clock: both verdicts, of a handshake and of a live connection, come
//! from [`Trust::check`] with the time handed in.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    crypto,
    deny::DenyList,
    identity::{Identity, IdentityError, TrustDomain},
    serial::Serial,
};

mod root;
mod told;

use root::Root;

/// Whom to trust. Immutable and cheap to clone; a change is a new one.
///
/// Revocation is checked for every certificate of a chain but the root. A certificate whose issuer
/// has no list counts as not revoked, so lists can be introduced one authority at a time. A list
/// past its next update still counts: what it revokes stays revoked, and a forgotten renewal does
/// not lock everybody out ([`Trust::next_update`] is there to raise an alarm). Of several lists by
/// one issuer, the newest counts. A list that its namesake among the roots did not sign is ignored.
#[derive(Debug, Clone)]
pub struct Trust(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    roots: Arc<[Root]>,
    subjects: Arc<[DistinguishedName]>,
    next_update: Option<SystemTime>,
    deny: Arc<DenyList>,
    /// What is denied besides.
    besides: Arc<DenyList>,
    domain: TrustDomain,
    provider: Arc<CryptoProvider>,
}

/// Why a set of roots, lists and entries cannot be trusted as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// There is no root, so nobody could connect.
    #[error("there are no trust roots")]
    NoRoots,
    /// A root is not a certificate.
    #[error("trust root {index} is not a certificate: {reason}")]
    BadRoot {
        /// Its place, counted from zero.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// A root is a certificate that may not issue others.
    #[error("trust root {index} is not the certificate of an authority (CA:TRUE)")]
    NotAnAuthority {
        /// Its place, counted from zero.
        index: usize,
    },
    /// A revocation list cannot be read.
    #[error("certificate revocation list {index} cannot be read: {reason}")]
    BadCrl {
        /// Its place, counted from zero.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// The deny list names holders of another trust domain, which would refuse nobody.
    #[error("the deny list has an entry of the trust domain {found}, allowed is {allowed}")]
    ForeignDeny {
        /// The one found.
        found: TrustDomain,
        /// The one configured.
        allowed: TrustDomain,
    },
}

/// Why a client's certificates are refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// No trusted root vouches for it.
    #[error("no trusted authority issued the certificate")]
    UnknownIssuer,
    /// A revocation list has it, or one of its issuers.
    #[error("the certificate is revoked")]
    Revoked,
    /// The deny list has its serial number or its holder.
    #[error("the certificate is on the deny list")]
    Denied,
    /// Its time, or that of one of its issuers, is over.
    #[error("the certificate has expired")]
    Expired,
    /// Its time, or that of one of its issuers, has not come.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// It is not for clients: another extended key usage, or an authority's own certificate.
    #[error("the certificate is not for use by a client")]
    WrongUsage,
    /// It is good and names nobody that we know.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It is not a certificate.
    #[error("the certificate cannot be read")]
    Malformed,
    /// Anything else that path validation objects to.
    #[error("the certificate was refused: {0}")]
    Other(String),
}

/// The time between which a certificate is valid, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: SystemTime,
    /// The last moment.
    pub not_after: SystemTime,
}

impl Trust {
    /// Takes a snapshot of whom to trust.
    ///
    /// # Errors
    /// [`TrustError`] when there is no root, or when any part could not take effect as written:
    /// half a list is worse than the old one.
    #[expect(clippy::needless_pass_by_value, reason = "DER from a file, of use to nobody else")]
    pub fn new(
        roots: Vec<CertificateDer<'static>>,
        crls: Vec<CertificateRevocationListDer<'static>>,
        deny: DenyList,
        domain: TrustDomain,
    ) -> Result<Trust, TrustError> {
        if let Some(found) = deny.foreign_domain(&domain) {
            return Err(TrustError::ForeignDeny { found: found.clone(), allowed: domain });
        }
        if roots.is_empty() {
            return Err(TrustError::NoRoots);
        }
        let lists = root::revocation_lists(&crls)?;
        let next_update = lists.iter().map(|list| list.next_update).min();
        let roots: Arc<[Root]> = root::with_lists(&roots, lists)?.into();
        let subjects = roots.iter().map(Root::subject).collect();
        let (provider, deny, besides) = (crypto::provider(), Arc::new(deny), Arc::default());
        Ok(Trust(Arc::new(Inner { roots, subjects, next_update, deny, besides, domain, provider })))
    }

    /// The same, with a second deny list beside the first; it replaces the second that was there.
    ///
    /// # Errors
    /// [`TrustError::ForeignDeny`] when an entry would refuse nobody.
    pub fn denying_besides(&self, besides: Arc<DenyList>) -> Result<Trust, TrustError> {
        let Inner { roots, subjects, next_update, deny, domain, provider, .. } = &*self.0;
        if let Some(found) = besides.foreign_domain(domain) {
            return Err(TrustError::ForeignDeny { found: found.clone(), allowed: domain.clone() });
        }
        Ok(Trust(Arc::new(Inner {
            roots: roots.clone(),
            subjects: subjects.clone(),
            next_update: *next_update,
            deny: deny.clone(),
            besides,
            domain: domain.clone(),
            provider: provider.clone(),
        })))
    }

    /// The verifier for a server's configuration: a client must present a certificate, and one
    /// that [`Trust::check`] refuses fails the handshake.
    pub fn client_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Verifier { trust: self.clone(), mandatory: true })
    }

    /// As [`Trust::client_verifier`], for a server that other credentials may be shown to: a
    /// client may present no certificate, and one that it presents must be good.
    pub fn optional_client_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Verifier { trust: self.clone(), mandatory: false })
    }

    /// Judges a chain, the holder's certificate first, at a time. Run it on what live connections
    /// presented whenever the trust changes.
    ///
    /// # Errors
    /// [`Rejection`]: of several objections, one that a person can act on.
    pub fn check(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Identity, Rejection> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(Rejection::Malformed);
        };
        if intermediates.len() > INTERMEDIATES_MAX {
            return Err(Rejection::Other(format!(
                "{} intermediate certificates, at most {INTERMEDIATES_MAX} are allowed",
                intermediates.len()
            )));
        }
        let certificate = webpki::EndEntityCert::try_from(leaf).map_err(|e| rejection(&e))?;
        self.check_path(&certificate, intermediates, now)?;
        let identity = Identity::from_certificate(leaf, &self.0.domain)?;
        let serial = Serial::from_der(certificate.serial());
        let spiffe_id = identity.spiffe_id(&self.0.domain);
        if [&self.0.deny, &self.0.besides].iter().any(|list| list.contains(&serial, &spiffe_id)) {
            return Err(Rejection::Denied);
        }
        Ok(identity)
    }

    /// The trust domain whose identities are accepted.
    pub fn domain(&self) -> &TrustDomain {
        &self.0.domain
    }

    /// The earliest time at which one of the revocation lists should have been renewed.
    pub fn next_update(&self) -> Option<SystemTime> {
        self.0.next_update
    }

    /// One root has to vouch for the certificate. Each is tried with its own lists, because two
    /// authorities may bear one name: an authority and its successor usually do.
    fn check_path(
        &self,
        certificate: &webpki::EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let algorithms = self.0.provider.signature_verification_algorithms.all;
        let mut refused = Rejection::UnknownIssuer;
        for root in self.0.roots.iter() {
            match root.check(certificate, intermediates, algorithms, now) {
                Ok(()) => return Ok(()),
                Err(Rejection::UnknownIssuer) => {}
                Err(other) => refused = other,
            }
        }
        Err(refused)
    }
}

/// When a certificate is valid.
///
/// # Errors
/// [`Rejection::Malformed`] when it cannot be read, or is from before 1970.
pub fn validity(der: &CertificateDer<'_>) -> Result<Validity, Rejection> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Rejection::Malformed)?;
    let times = certificate.validity();
    Ok(Validity {
        not_before: system_time(times.not_before.timestamp()).ok_or(Rejection::Malformed)?,
        not_after: system_time(times.not_after.timestamp()).ok_or(Rejection::Malformed)?,
    })
}

pub(crate) fn system_time(unix_seconds: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(unix_seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn rejection(error: &webpki::Error) -> Rejection {
    use webpki::Error;
    match error {
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey | Error::EndEntityUsedAsCa => {
            Rejection::UnknownIssuer
        }
        Error::CertRevoked => Rejection::Revoked,
        Error::CertExpired { .. } | Error::InvalidCertValidity => Rejection::Expired,
        Error::CertNotValidYet { .. } => Rejection::NotYetValid,
        Error::RequiredEkuNotFoundContext(_)
        | Error::EmptyEkuExtension
        | Error::CaUsedAsEndEntity => Rejection::WrongUsage,
        Error::BadDer
        | Error::BadDerTime
        | Error::TrailingData(_)
        | Error::MalformedExtensions
        | Error::ExtensionValueInvalid
        | Error::UnsupportedCertVersion
        | Error::SignatureAlgorithmMismatch => Rejection::Malformed,
        other => Rejection::Other(other.to_string()),
    }
}

/// [`Trust::check`] as rustls asks for it.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    mandatory: bool,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.trust.0.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(end_entity).chain(intermediates).map(borrowed).collect();
        match self.trust.check(&chain, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refused) => {
                told::tell(&refused, end_entity, &self.trust.0.domain);
                Err(alert(refused).into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.trust.0.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.0.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn borrowed<'a>(certificate: &'a CertificateDer<'_>) -> CertificateDer<'a> {
    CertificateDer::from(certificate.as_ref())
}

/// The error whose TLS alert tells the client most.
fn alert(refused: Rejection) -> CertificateError {
    match refused {
        Rejection::UnknownIssuer => CertificateError::UnknownIssuer,
        Rejection::Revoked => CertificateError::Revoked,
        Rejection::Denied => CertificateError::ApplicationVerificationFailure,
        Rejection::Expired => CertificateError::Expired,
        Rejection::NotYetValid => CertificateError::NotValidYet,
        Rejection::WrongUsage => CertificateError::InvalidPurpose,
        Rejection::Malformed => CertificateError::BadEncoding,
        Rejection::Identity(_) | Rejection::Other(_) => {
            CertificateError::Other(OtherError(Arc::new(refused)))
        }
    }
}

/// More than path building would use, and few enough that trying their orders stays cheap.
const INTERMEDIATES_MAX: usize = 8;
