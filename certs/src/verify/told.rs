//! What the log says of certificates that are turned away: why, and whose they say they are.
//!
//! At most so many lines a second, for anyone may knock; each says how many were left out.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::pki_types::CertificateDer;

use super::Rejection;
use crate::{
    identity::{Identity, TrustDomain},
    serial::Serial,
};

/// Tells of one. Only an issuer that is trusted vouches for the names in it.
pub(super) fn tell(refused: &Rejection, leaf: &CertificateDer<'_>, domain: &TrustDomain) {
    let mut limit = LIMIT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(left_out) = limit.take(Instant::now()) else { return };
    drop(limit);
    let identity = Identity::from_certificate(leaf, domain).ok();
    let identity = identity.map(|identity| identity.spiffe_id(domain));
    let serial = webpki::EndEntityCert::try_from(leaf).ok();
    let serial = serial.map(|certificate| Serial::from_der(certificate.serial()).to_string());
    tracing::info!(
        reason = %refused,
        identity,
        serial,
        left_out,
        "a client's certificate was turned away"
    );
}

/// How many lines there were in this second.
#[derive(Debug)]
struct Limit {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

static LIMIT: Mutex<Limit> = Mutex::new(Limit::NEW);

impl Limit {
    const NEW: Limit = Limit { since: None, lines: 0, left_out: 0 };

    /// Whether there may be a line; then how many there were not since the last one.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let over = |since: Instant| now.saturating_duration_since(since) >= SECOND;
        if self.since.is_none_or(over) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines == LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// Lines in a second.
const LINES_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_a_few_lines_a_second_and_its_count() {
        let (mut limit, now) = (Limit::NEW, Instant::now());
        assert_eq!((0..100).filter_map(|_| limit.take(now)).collect::<Vec<_>>(), [0; 10]);
        assert_eq!(limit.take(now + SECOND), Some(90));
        assert_eq!(limit.take(now + SECOND), Some(0));
    }
}
