//! What a certificate says, for people and for scripts.
//!
//! Trusts nothing and judges nothing but the clock: no signature is checked here. Text from the
//! certificate is escaped, so that it can be printed on a terminal.

use std::{net::IpAddr, time::SystemTime};

use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate, X509Name};

use crate::{
    crypto,
    files::{self, PemError},
    identity::{self, Identity},
    serial::Serial,
    text::{hex, printable},
    verify,
};

/// The contents of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateInfo {
    /// The holder's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The serial number, in hex.
    pub serial: String,
    /// The holder's SPIFFE ID, in whatever trust domain it is.
    pub spiffe_id: Option<String>,
    /// Why the certificate names no holder, where it names none.
    pub identity_error: Option<String>,
    /// The holder's role.
    pub role: Option<&'static str>,
    /// The holder's tenant.
    pub tenant: Option<String>,
    /// The holder's own name.
    pub name: Option<String>,
    /// The first moment at which it is valid, as RFC 3339.
    pub not_before: String,
    /// The last moment at which it is valid, as RFC 3339.
    pub not_after: String,
    /// Whether that is over.
    pub expired: bool,
    /// Whether it may issue others.
    pub authority: bool,
    /// What the key may be used for, as in RFC 5280.
    pub key_usage: Vec<String>,
    /// What the certificate may be used for, as in RFC 5280.
    pub extended_key_usage: Vec<String>,
    /// The subject alternative names, each with its type.
    pub alternative_names: Vec<String>,
    /// The SHA-256 of the certificate, in hex.
    pub sha256: String,
}

/// Why a certificate cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// The text is not PEM with a certificate.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The PEM holds no certificate that can be read.
    #[error("the certificate cannot be read")]
    Malformed,
}

/// Reads the first certificate in some PEM text; `now` decides whether it has expired.
///
/// # Errors
/// [`InspectError`] when there is none.
pub fn inspect(pem: &[u8], now: SystemTime) -> Result<CertificateInfo, InspectError> {
    let certificates = files::certificates(pem)?;
    let der = certificates.first().ok_or(InspectError::Malformed)?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| InspectError::Malformed)?;
    let validity = verify::validity(der).map_err(|_| InspectError::Malformed)?;
    let mut info = CertificateInfo {
        subject: distinguished(certificate.subject()),
        issuer: distinguished(certificate.issuer()),
        serial: Serial::from_der(certificate.raw_serial()).to_string(),
        spiffe_id: None,
        identity_error: None,
        role: None,
        tenant: None,
        name: None,
        not_before: rfc3339(validity.not_before)?,
        not_after: rfc3339(validity.not_after)?,
        expired: now > validity.not_after,
        authority: certificate.is_ca(),
        key_usage: Vec::new(),
        extended_key_usage: Vec::new(),
        alternative_names: Vec::new(),
        sha256: hex(&crypto::sha256(der)),
    };
    info.add_identity(der);
    for extension in certificate.extensions() {
        info.add_extension(extension.parsed_extension());
    }
    Ok(info)
}

impl CertificateInfo {
    fn add_identity(&mut self, der: &CertificateDer<'_>) {
        match identity::uri_name(der).and_then(Identity::parse_any) {
            Ok((domain, identity)) => {
                self.spiffe_id = Some(identity.spiffe_id(&domain));
                self.role = Some(identity.role().as_str());
                self.tenant = identity.tenant().map(ToString::to_string);
                self.name = identity.name().map(ToOwned::to_owned);
            }
            Err(e) => self.identity_error = Some(e.to_string()),
        }
    }

    fn add_extension(&mut self, extension: &ParsedExtension<'_>) {
        match extension {
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage = usage.to_string().split(", ").map(str::to_owned).collect();
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let known = [
                    (usage.any, "any"),
                    (usage.server_auth, "serverAuth"),
                    (usage.client_auth, "clientAuth"),
                    (usage.code_signing, "codeSigning"),
                    (usage.email_protection, "emailProtection"),
                    (usage.time_stamping, "timeStamping"),
                    (usage.ocsp_signing, "OCSPSigning"),
                ];
                let known = known.iter().filter(|(set, _)| *set).map(|(_, name)| *name);
                self.extended_key_usage.extend(known.map(str::to_owned));
                self.extended_key_usage.extend(usage.other.iter().map(ToString::to_string));
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                self.alternative_names.extend(names.general_names.iter().map(alternative));
            }
            _ => {}
        }
    }
}

fn alternative(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("URI:{}", printable(uri)),
        GeneralName::DNSName(name) => format!("DNS:{}", printable(name)),
        GeneralName::RFC822Name(address) => format!("email:{}", printable(address)),
        GeneralName::IPAddress(octets) => match address(octets) {
            Some(address) => format!("IP:{address}"),
            None => format!("IP:{}", hex(octets)),
        },
        other => printable(&other.to_string()),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn distinguished(name: &X509Name<'_>) -> String {
    printable(&name.to_string())
}

fn rfc3339(time: SystemTime) -> Result<String, InspectError> {
    let time = jiff::Timestamp::try_from(time).map_err(|_| InspectError::Malformed)?;
    Ok(time.to_string())
}
