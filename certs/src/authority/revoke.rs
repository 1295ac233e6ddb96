//! Revoking: the authority's certificate revocation list, which only ever grows.
//!
//! A list that cannot be read is an error, never a reason to begin a new one: what it revoked
//! would be valid again.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::Authority;
use crate::{
    files::{self, Access, PemError},
    serial::Serial,
    verify::system_time,
};

/// Why certificates were not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The list cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The list that is there is not PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The list that is there cannot be continued.
    #[error("the revocation list that is there cannot be continued: {0}")]
    Unusable(&'static str),
    /// The new list could not be made.
    #[error("cannot make the revocation list: {0}")]
    Generate(#[from] rcgen::Error),
}

/// What a list says: its number, and when each certificate was revoked.
#[derive(Default)]
struct Revocations {
    number: u64,
    revoked: BTreeMap<Serial, SystemTime>,
}

impl Authority {
    /// Adds serial numbers to `crl.pem` in a directory, which makes the list if it is not there.
    ///
    /// What was revoked before stays so, with its date. The list's number rises by one each time,
    /// also without serial numbers, which renews it for a year. Others that revoke in the same
    /// directory are waited for.
    ///
    /// # Errors
    /// [`RevokeError`], in which case the list is as it was.
    pub fn revoke(&self, dir: &Path, serials: &[Serial]) -> Result<(), RevokeError> {
        let path = dir.join(CRL_FILE);
        let failed = |source| RevokeError::Io { path: path.clone(), source };
        let _lock = lock(dir).map_err(failed)?;
        let mut list = match files::read(&path) {
            Ok(pem) => self.continued(&pem)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Revocations::default(),
            Err(e) => return Err(failed(e)),
        };
        let now = SystemTime::now();
        for serial in serials {
            list.revoked.entry(serial.clone()).or_insert(now);
        }
        let number = list.number.checked_add(1).ok_or(RevokeError::Unusable(NUMBER))?;
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + LIST_VALIDITY).into(),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: list.revoked.into_iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = params.signed_by(&self.issuer)?.pem()?;
        files::replace(&path, pem.as_bytes(), Access::Public).map_err(failed)
    }

    /// Reads the list that is there, which must be this authority's own.
    fn continued(&self, pem: &[u8]) -> Result<Revocations, RevokeError> {
        let lists = files::revocation_lists(pem)?;
        let [der] = &lists[..] else {
            return Err(RevokeError::Unusable("there are several in the file"));
        };
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|_| RevokeError::Unusable("it cannot be read"))?;
        let (_, authority) = X509Certificate::from_der(&self.certificate)
            .map_err(|_| RevokeError::Unusable("the authority's certificate cannot be read"))?;
        list.verify_signature(authority.public_key())
            .map_err(|_| RevokeError::Unusable("another authority signed it"))?;
        let number = list.crl_number().map(|number| number.to_bytes_be()).unwrap_or_default();
        if number.len() > size_of::<u64>() {
            return Err(RevokeError::Unusable(NUMBER));
        }
        let revoked = list.iter_revoked_certificates().map(|entry| {
            let when = system_time(entry.revocation_date.timestamp());
            (Serial::from_der(entry.raw_serial()), when.unwrap_or(SystemTime::UNIX_EPOCH))
        });
        Ok(Revocations {
            number: number.iter().fold(0, |n, &octet| n << 8 | u64::from(octet)),
            revoked: revoked.collect(),
        })
    }
}

fn entry((serial, when): (Serial, SystemTime)) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: serial.as_bytes().to_vec().into(),
        revocation_time: when.into(),
        reason_code: None,
        invalidity_date: None,
    }
}

/// Two revocations at once would each forget the other's.
fn lock(dir: &Path) -> io::Result<File> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.lock()?;
    Ok(file)
}

const CRL_FILE: &str = "crl.pem";
const LOCK_FILE: &str = "crl.lock";
const NUMBER: &str = "its number has more than 64 bits";
const LIST_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
