//! The holder of a certificate: one SPIFFE ID, one role, at most one tenant.
//!
//! The ID is compared byte for byte in its canonical form; nothing is decoded, folded or trimmed.
//! Whether a tenant exists or what a role may do is not known here.

use std::{fmt, str::FromStr, sync::Arc};

use rustls::pki_types::CertificateDer;
use spiffe::{SpiffeId, SpiffeIdError};
use tollgate_protocol::id::{NameError, TenantId};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::text::Excerpt;

/// The name of an authority's realm, as in `spiffe://tollgate.local/...`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(Arc<str>);

/// What a holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Submits work for one tenant.
    Client,
    /// Serves recipes for one tenant.
    TenantWorker,
    /// Serves recipes for every tenant.
    PlatformWorker,
    /// Acts for the tenants that list it.
    Gateway,
    /// Uses the admin API.
    Operator,
}

/// Who holds a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    role: Role,
    /// Present for clients and tenant workers, and only for these.
    tenant: Option<TenantId>,
    /// Always present for platform workers, gateways and operators.
    name: Option<Arc<str>>,
}

/// Why a certificate or a URI names nobody.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate, or its list of alternative names, cannot be read.
    #[error("the certificate's subject alternative names cannot be read")]
    Unreadable,
    /// The certificate has no URI among its alternative names.
    #[error("the certificate has no subject alternative name of type URI; exactly one is required")]
    NoUri,
    /// The certificate has several URIs among its alternative names.
    #[error(
        "the certificate has {0} subject alternative names of type URI; exactly one is allowed"
    )]
    SeveralUris(usize),
    /// The URI is not a SPIFFE ID.
    #[error("{uri} is not a SPIFFE ID: {problem}")]
    NotSpiffe {
        /// The URI.
        uri: Excerpt,
        /// What is wrong with it.
        problem: SpiffeIdError,
    },
    /// The URI is longer than the SPIFFE specification asks to support.
    #[error("the SPIFFE ID has {len} bytes, at most {URI_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length, in bytes.
        len: usize,
    },
    /// The scheme or the trust domain has capital letters.
    #[error("{0} is not canonical: scheme and trust domain are written in lower case")]
    NotCanonical(Excerpt),
    /// The ID belongs to another trust domain.
    #[error("the trust domain is {found}, allowed is {allowed}")]
    ForeignTrustDomain {
        /// The one found.
        found: Excerpt,
        /// The one configured.
        allowed: TrustDomain,
    },
    /// The path is none of the known ones.
    #[error(
        "no role has the path {0}; allowed are /tenant/<tenant>/client[/<name>], \
         /tenant/<tenant>/worker[/<name>], /worker/<name>, /gateway/<name>, /operator/<name>"
    )]
    UnknownPath(Excerpt),
    /// The tenant's name is not one.
    #[error(transparent)]
    Tenant(#[from] NameError),
    /// A holder's name is not one.
    #[error("the name {0} is not allowed: [A-Za-z0-9._-]{{1,64}}, and neither . nor ..")]
    Name(Excerpt),
}

/// Why text is not a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not a trust domain: lower-case letters, digits, dots, dashes and underscores, 1 to 255"
)]
pub struct TrustDomainError(Excerpt);

impl TrustDomain {
    /// Parses the bare name, such as `tollgate.local`.
    ///
    /// # Errors
    /// [`TrustDomainError`] when it has a scheme, a path, capital letters or any other character.
    pub fn parse(name: &str) -> Result<TrustDomain, TrustDomainError> {
        match spiffe::TrustDomain::new(name) {
            Ok(domain) if domain.as_str() == name => Ok(TrustDomain(name.into())),
            _ => Err(TrustDomainError(Excerpt::new(name))),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Identity {
    /// A client of a tenant.
    ///
    /// # Errors
    /// [`IdentityError::Name`] when the name is not allowed; so for the other roles.
    pub fn client(tenant: TenantId, name: Option<&str>) -> Result<Identity, IdentityError> {
        Identity::of_tenant(Role::Client, tenant, name)
    }

    /// A worker that serves one tenant.
    ///
    /// # Errors
    /// As [`Identity::client`].
    pub fn tenant_worker(tenant: TenantId, name: Option<&str>) -> Result<Identity, IdentityError> {
        Identity::of_tenant(Role::TenantWorker, tenant, name)
    }

    /// A worker that serves every tenant.
    ///
    /// # Errors
    /// As [`Identity::client`].
    pub fn platform_worker(name: &str) -> Result<Identity, IdentityError> {
        Identity::of_platform(Role::PlatformWorker, name)
    }

    /// A gateway.
    ///
    /// # Errors
    /// As [`Identity::client`].
    pub fn gateway(name: &str) -> Result<Identity, IdentityError> {
        Identity::of_platform(Role::Gateway, name)
    }

    /// An operator.
    ///
    /// # Errors
    /// As [`Identity::client`].
    pub fn operator(name: &str) -> Result<Identity, IdentityError> {
        Identity::of_platform(Role::Operator, name)
    }

    /// Reads an identity from its SPIFFE ID.
    ///
    /// # Errors
    /// [`IdentityError`] says what is wrong and what is allowed.
    pub fn parse(uri: &str, domain: &TrustDomain) -> Result<Identity, IdentityError> {
        let id = canonical(uri)?;
        if id.trust_domain_name() != domain.as_str() {
            return Err(IdentityError::ForeignTrustDomain {
                found: Excerpt::new(id.trust_domain_name()),
                allowed: domain.clone(),
            });
        }
        Identity::from_path(id.path())
    }

    /// Reads an identity from its SPIFFE ID, in whatever trust domain it is.
    pub(crate) fn parse_any(uri: &str) -> Result<(TrustDomain, Identity), IdentityError> {
        let id = canonical(uri)?;
        let domain = TrustDomain(id.trust_domain_name().into());
        Identity::from_path(id.path()).map(|identity| (domain, identity))
    }

    /// Reads an identity from a certificate's one alternative name of type URI.
    ///
    /// Says nothing about who issued it: see [`crate::Trust::check`].
    ///
    /// # Errors
    /// [`IdentityError`], also when the certificate itself cannot be read.
    pub fn from_certificate(
        der: &CertificateDer<'_>,
        domain: &TrustDomain,
    ) -> Result<Identity, IdentityError> {
        Identity::parse(uri_name(der)?, domain)
    }

    /// The holder's role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The holder's tenant: for clients and tenant workers only.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    /// The holder's own name: always present except for clients and tenant workers.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The SPIFFE ID in a trust domain: what [`Identity::parse`] reads.
    pub fn spiffe_id(&self, domain: &TrustDomain) -> String {
        let mut id = format!("spiffe://{domain}");
        if let Some(tenant) = &self.tenant {
            id.push_str("/tenant/");
            id.push_str(tenant.as_str());
        }
        id.push_str(match self.role {
            Role::Client => "/client",
            Role::TenantWorker | Role::PlatformWorker => "/worker",
            Role::Gateway => "/gateway",
            Role::Operator => "/operator",
        });
        if let Some(name) = &self.name {
            id.push('/');
            id.push_str(name);
        }
        id
    }

    fn of_tenant(
        role: Role,
        tenant: TenantId,
        name: Option<&str>,
    ) -> Result<Identity, IdentityError> {
        let name = name.map(checked_name).transpose()?;
        Ok(Identity { role, tenant: Some(tenant), name })
    }

    fn of_platform(role: Role, name: &str) -> Result<Identity, IdentityError> {
        Ok(Identity { role, tenant: None, name: Some(checked_name(name)?) })
    }

    fn from_path(path: &str) -> Result<Identity, IdentityError> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments[..] {
            ["tenant", tenant, "client"] => Identity::client(TenantId::parse(tenant)?, None),
            ["tenant", tenant, "client", name] => {
                Identity::client(TenantId::parse(tenant)?, Some(name))
            }
            ["tenant", tenant, "worker"] => Identity::tenant_worker(TenantId::parse(tenant)?, None),
            ["tenant", tenant, "worker", name] => {
                Identity::tenant_worker(TenantId::parse(tenant)?, Some(name))
            }
            ["worker", name] => Identity::platform_worker(name),
            ["gateway", name] => Identity::gateway(name),
            ["operator", name] => Identity::operator(name),
            _ => Err(IdentityError::UnknownPath(Excerpt::new(path))),
        }
    }
}

/// A SPIFFE ID that is spelled the one canonical way.
fn canonical(uri: &str) -> Result<SpiffeId, IdentityError> {
    if uri.len() > URI_BYTES_MAX {
        return Err(IdentityError::TooLong { len: uri.len() });
    }
    let id = SpiffeId::new(uri)
        .map_err(|problem| IdentityError::NotSpiffe { uri: Excerpt::new(uri), problem })?;
    // The parser folds scheme and trust domain to lower case.
    if id.to_string() != uri {
        return Err(IdentityError::NotCanonical(Excerpt::new(uri)));
    }
    Ok(id)
}

fn checked_name(name: &str) -> Result<Arc<str>, IdentityError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let length = 1..=NAME_BYTES_MAX;
    if !length.contains(&name.len()) || name == "." || name == ".." || !name.bytes().all(allowed) {
        return Err(IdentityError::Name(Excerpt::new(name)));
    }
    Ok(name.into())
}

/// The one alternative name of type URI.
///
/// Two readers must agree. The verifier's own skips names that it cannot decode, which would let a
/// second URI hide behind bytes that are no text; the other one is asked whether there is any.
pub(crate) fn uri_name<'a>(der: &'a CertificateDer<'a>) -> Result<&'a str, IdentityError> {
    let names = alternative_names(der)?;
    let uris = names.iter().filter(|name| matches!(name, GeneralName::URI(_))).count();
    match uris {
        0 => return Err(IdentityError::NoUri),
        1 => {}
        several => return Err(IdentityError::SeveralUris(several)),
    }
    let certificate =
        webpki::EndEntityCert::try_from(der).map_err(|_| IdentityError::Unreadable)?;
    let mut uris = certificate.valid_uri_names();
    match (uris.next(), uris.next()) {
        (Some(uri), None) if names.contains(&GeneralName::URI(uri)) => Ok(uri),
        _ => Err(IdentityError::Unreadable),
    }
}

/// Every alternative name; a name that is not understood makes the whole list unreadable.
fn alternative_names<'a>(
    der: &'a CertificateDer<'a>,
) -> Result<Vec<GeneralName<'a>>, IdentityError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
    if !rest.is_empty() {
        return Err(IdentityError::Unreadable);
    }
    let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
    let names = names.map(|e| e.value.general_names.clone()).unwrap_or_default();
    if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return Err(IdentityError::Unreadable);
    }
    Ok(names)
}

impl Default for TrustDomain {
    fn default() -> TrustDomain {
        TrustDomain("tollgate.local".into())
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;
    fn from_str(name: &str) -> Result<TrustDomain, TrustDomainError> {
        TrustDomain::parse(name)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Role {
    /// The role as text: `client`, `tenant-worker`, `platform-worker`, `gateway`, `operator`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::TenantWorker => "tenant-worker",
            Role::PlatformWorker => "platform-worker",
            Role::Gateway => "gateway",
            Role::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// SPIFFE-ID, section 2.3.
const URI_BYTES_MAX: usize = 2048;
/// Also the longest common name that RFC 5280 allows, so a name fits there.
const NAME_BYTES_MAX: usize = 64;
