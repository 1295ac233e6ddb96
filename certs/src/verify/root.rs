//! One trust root with the revocation lists that count below it.
//!
//! Path validation takes the first list that bears the issuer's name and fails when that one's
//! signature is wrong. So each root gets the lists it signed, newest first, and never a namesake's.

use std::{cmp::Reverse, slice, sync::Arc, time::SystemTime};

use rustls::{
    DistinguishedName,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, TrustAnchor,
        UnixTime,
    },
};
use webpki::{
    CertRevocationList, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::{Rejection, TrustError, rejection, system_time};

/// An authority that is trusted without being vouched for.
#[derive(Debug)]
pub(super) struct Root {
    anchor: TrustAnchor<'static>,
    not_before_s: i64,
    not_after_s: i64,
    lists: Vec<Arc<CertRevocationList<'static>>>,
}

/// A revocation list that was read, its signature not yet checked.
#[derive(Debug)]
pub(super) struct List<'a> {
    read: CertificateRevocationList<'a>,
    parsed: Arc<CertRevocationList<'static>>,
    pub(super) next_update: SystemTime,
}

/// Reads revocation lists and puts the newest first.
pub(super) fn revocation_lists<'a>(
    crls: &'a [CertificateRevocationListDer<'_>],
) -> Result<Vec<List<'a>>, TrustError> {
    let mut lists = Vec::with_capacity(crls.len());
    for (index, der) in crls.iter().enumerate() {
        let bad = |reason: String| TrustError::BadCrl { index, reason };
        let parsed = OwnedCertRevocationList::from_der(der).map_err(|e| bad(e.to_string()))?;
        let (_, read) = CertificateRevocationList::from_der(der).map_err(|e| bad(e.to_string()))?;
        let next_update = read
            .next_update()
            .and_then(|time| system_time(time.timestamp()))
            .ok_or_else(|| bad("it has no next update".to_owned()))?;
        lists.push(List { read, parsed: Arc::new(parsed.into()), next_update });
    }
    lists.sort_by_key(|list| Reverse((list.read.crl_number().cloned(), list.read.last_update())));
    Ok(lists)
}

/// Reads the roots and gives each the lists that count below it.
pub(super) fn with_lists(
    roots: &[CertificateDer<'static>],
    lists: Vec<List<'_>>,
) -> Result<Vec<Root>, TrustError> {
    let mut read = Vec::with_capacity(roots.len());
    for (index, der) in roots.iter().enumerate() {
        read.push(read_root(index, der)?);
    }
    for list in lists {
        let issuer = list.read.issuer().as_raw();
        let mut namesakes = 0;
        let mut signed = 0;
        for (certificate, root) in &mut read {
            if certificate.subject().as_raw() != issuer {
                continue;
            }
            namesakes += 1;
            if list.read.verify_signature(certificate.public_key()).is_ok() {
                signed += 1;
                root.lists.push(list.parsed.clone());
            }
        }
        if namesakes == 0 {
            // An intermediate's list, its signature checked where a chain has that intermediate.
            for (_, root) in &mut read {
                root.lists.push(list.parsed.clone());
            }
        } else if signed == 0 {
            tracing::warn!(
                issuer = ?list.read.issuer().to_string(),
                "ignoring a revocation list: it bears the name of a trust root that did not sign it"
            );
        }
    }
    Ok(read.into_iter().map(|(_, root)| root).collect())
}

fn read_root<'a>(
    index: usize,
    der: &'a CertificateDer<'static>,
) -> Result<(X509Certificate<'a>, Root), TrustError> {
    let bad = |reason: String| TrustError::BadRoot { index, reason };
    let anchor = webpki::anchor_from_trusted_cert(der).map_err(|e| bad(e.to_string()))?.to_owned();
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| bad(e.to_string()))?;
    if !certificate.is_ca() {
        return Err(TrustError::NotAnAuthority { index });
    }
    let root = Root {
        anchor,
        not_before_s: certificate.validity().not_before.timestamp(),
        not_after_s: certificate.validity().not_after.timestamp(),
        lists: Vec::new(),
    };
    Ok((certificate, root))
}

impl Root {
    /// The name by which a client finds the certificate to present.
    pub(super) fn subject(&self) -> DistinguishedName {
        DistinguishedName::in_sequence(self.anchor.subject.as_ref())
    }

    /// Whether this root vouches for a certificate as a client's.
    ///
    /// An extended key usage must allow client authentication where there is one; a certificate
    /// without may be used for anything, as in RFC 5280.
    pub(super) fn check(
        &self,
        certificate: &webpki::EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().map(Arc::as_ref).collect();
        // The builder refuses an empty set, which is the case without revocation.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|builder| {
            builder
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        certificate
            .verify_for_usage(
                algorithms,
                slice::from_ref(&self.anchor),
                intermediates,
                now,
                KeyUsage::client_auth(),
                revocation,
                None,
            )
            .map_err(|e| rejection(&e))?;
        self.check_time(now)
    }

    /// Path validation takes a root's own validity for granted.
    fn check_time(&self, now: UnixTime) -> Result<(), Rejection> {
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now_s < self.not_before_s {
            return Err(Rejection::NotYetValid);
        }
        if now_s > self.not_after_s {
            return Err(Rejection::Expired);
        }
        Ok(())
    }
}
