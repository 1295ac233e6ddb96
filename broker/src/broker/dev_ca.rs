//! The development authority: made in the data directory when no certificates are configured.
//!
//! Good for trying and for tests. In production the platform's own authority issues certificates.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustls::pki_types::{DnsName, ServerName};
use tollgate_certs::{
    Authority, Identity, IssueOptions, Issued, Paths, ServerCredentials, TrustDomain, authority,
    validity,
};

use super::StartError;
use crate::config::Config;

/// An authority of one's own, with the server's certificate beside it.
#[derive(Debug)]
pub struct DevAuthority {
    dir: PathBuf,
    authority: Authority,
}

/// Why there is no development authority.
#[derive(Debug, thiserror::Error)]
pub enum DevAuthorityError {
    /// It can not be made.
    #[error("cannot make a development authority: {0}")]
    Create(#[from] authority::CreateError),
    /// It is there and can not be used.
    #[error("cannot use the development authority in {dir}: {source}")]
    Load {
        /// Where it is.
        dir: PathBuf,
        /// Why not.
        source: authority::LoadError,
    },
    /// It can not be kept.
    #[error("cannot keep the development authority: {0}")]
    Save(#[from] authority::SaveError),
    /// It can not issue.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] authority::IssueError),
    /// A certificate can not be written.
    #[error("cannot write certificates to {dir}: {source}")]
    Write {
        /// Where to.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The server's certificate is renewed at a start when less than this is left of it.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Makes or loads the authority, if the configuration names no certificates.
pub(super) fn when_needed(
    config: &Config,
    domain: &TrustDomain,
) -> Result<Option<DevAuthority>, StartError> {
    let tls = &config.tls;
    if tls.certificate.is_some() || tls.key.is_some() || !tls.roots.is_empty() {
        return Ok(None);
    }
    let data_dir = config.data_dir.as_ref().ok_or(StartError::TlsIncomplete)?;
    Ok(Some(DevAuthority::load_or_create(&data_dir.join("dev-ca"), domain)?))
}

impl DevAuthority {
    /// The authority kept in a directory; made there when it is missing.
    ///
    /// # Errors
    /// [`DevAuthorityError`].
    pub fn load_or_create(dir: &Path, domain: &TrustDomain) -> Result<Self, DevAuthorityError> {
        let authority = if dir.join("ca.pem").exists() {
            let load = |source| DevAuthorityError::Load { dir: dir.into(), source };
            Authority::load(dir).map_err(load)?
        } else {
            let authority = Authority::create("Tollgate development authority", domain)?;
            authority.save(dir)?;
            tracing::warn!(dir = %dir.display(), "made an authority for development");
            authority
        };
        let this = DevAuthority { dir: dir.into(), authority };
        if !this.server_is_fresh() {
            this.issue_server()?;
        }
        Ok(this)
    }

    /// Where it keeps its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Issues a certificate.
    ///
    /// # Errors
    /// [`DevAuthorityError::Issue`].
    pub fn issue(
        &self,
        identity: &Identity,
        options: &IssueOptions,
    ) -> Result<Issued, DevAuthorityError> {
        Ok(self.authority.issue(identity, options)?)
    }

    fn server_dir(&self) -> PathBuf {
        self.dir.join("server")
    }

    fn server_is_fresh(&self) -> bool {
        let dir = self.server_dir();
        let left = ServerCredentials::load(&dir.join("cert.pem"), &dir.join("key.pem"))
            .ok()
            .and_then(|c| validity(c.chain().first()?).ok())
            .and_then(|v| v.not_after.duration_since(SystemTime::now()).ok());
        left.is_some_and(|left| left > RENEW_BEFORE)
    }

    fn issue_server(&self) -> Result<(), DevAuthorityError> {
        let localhost = DnsName::try_from("localhost").expect("localhost is a DNS name");
        let names = [
            ServerName::DnsName(localhost),
            ServerName::IpAddress(IpAddr::from(Ipv4Addr::LOCALHOST).into()),
            ServerName::IpAddress(IpAddr::from(Ipv6Addr::LOCALHOST).into()),
        ];
        let year = IssueOptions::valid_for(Duration::from_secs(365 * 24 * 3600));
        let dir = self.server_dir();
        let issued = self.authority.issue_server(&names, &year)?;
        issued.write(&dir).map_err(|source| DevAuthorityError::Write { dir, source })
    }

    /// Where the broker finds what it needs. The authority's own CRL is always among the CRLs: it
    /// is heeded as soon as it is there.
    pub(super) fn paths(
        &self,
        mut crls: Vec<PathBuf>,
        deny: Option<PathBuf>,
        domain: TrustDomain,
    ) -> Paths {
        crls.push(self.dir.join("crl.pem"));
        let server = self.server_dir();
        Paths {
            certificate: server.join("cert.pem"),
            key: server.join("key.pem"),
            roots: vec![self.dir.join("ca.pem")],
            crls,
            deny: Some(deny.unwrap_or_else(|| self.dir.join("deny.txt"))),
            domain,
        }
    }
}
