//! Our own certificate: whose it is, and for how long.

use std::{fs, path::Path, time::SystemTime};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::json;
use tollgate_certs::{ClientCredentials, inspect, validity};

use super::Findings;
use crate::cli::{exit::Exit, format::from_now};

/// What is needed to connect.
pub(super) struct Own {
    pub credentials: ClientCredentials,
    pub roots: RootCertStore,
}

/// Less than this is soon.
const SOON_DAYS: u64 = 7;

/// Reads and judges the directory with our certificate.
pub(super) fn own(dir: &Path, findings: &mut Findings) -> Option<Own> {
    let now = SystemTime::now();
    let credentials = match ClientCredentials::load_dir(dir) {
        Ok(credentials) => credentials,
        Err(e) => {
            findings.bad("own cert", Exit::Unauthorised, format!("{}: {e}", dir.display()));
            return None;
        }
    };
    let mut roots = RootCertStore::empty();
    let pem = fs::read(dir.join("ca.pem")).unwrap_or_default();
    for root in CertificateDer::pem_slice_iter(&pem).flatten() {
        // `load_dir` has refused what cannot be added.
        let _ = roots.add(root);
    }
    let info = fs::read(dir.join("cert.pem")).ok().and_then(|pem| inspect(&pem, now).ok());
    match info.map(|i| (i.spiffe_id, i.identity_error, i.serial)) {
        Some((Some(id), _, serial)) => {
            findings.good("identity", id.clone(), json!({ "spiffe_id": id, "serial": serial }));
        }
        Some((None, why, _)) => {
            let why = why.unwrap_or_default();
            findings.bad("identity", Exit::Unauthorised, format!("names nobody: {why}"));
        }
        None => {}
    }
    if let Some(leaf) = credentials.chain().first() {
        expiry("own cert", leaf, findings);
    }
    Some(Own { credentials, roots })
}

/// Judges a certificate by the clock, and the clock by the certificate.
pub(super) fn expiry(check: &'static str, der: &CertificateDer<'_>, findings: &mut Findings) {
    let now = SystemTime::now();
    let Ok(validity) = validity(der) else {
        return findings.bad(check, Exit::Unauthorised, "its validity cannot be read");
    };
    let (from, until) = (from_now(validity.not_before, now), from_now(validity.not_after, now));
    if validity.not_before > now {
        findings.bad(
            check,
            Exit::Unauthorised,
            format!(
                "valid only {from}: this machine's clock, or that of whoever issued it, is wrong"
            ),
        );
    } else if validity.not_after < now {
        findings.bad(
            check,
            Exit::Unauthorised,
            format!("expired {until} (by this machine's clock)"),
        );
    } else if validity.not_after.duration_since(now).is_ok_and(|d| d.as_secs() < SOON_DAYS * 86_400)
    {
        findings.warn(check, format!("expires {until}: renew it"));
    } else {
        let at = jiff::Timestamp::try_from(validity.not_after).map(|t| t.to_string()).ok();
        findings.good(check, format!("expires {until}"), json!({ "not_after": at }));
    }
}
