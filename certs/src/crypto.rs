//! The one crypto provider of the process: aws-lc-rs, TLS 1.3 suites only.
//!
//! Passed explicitly wherever rustls takes one: asking for the process default panics as soon as
//! some dependency enables a second provider.

use std::sync::{Arc, LazyLock};

use ::aws_lc_rs::digest;
use rustls::crypto::{CryptoProvider, GetRandomFailed, aws_lc_rs};

/// The provider behind every configuration made here.
///
/// AES-128-GCM comes first: QUIC's payload protection is most of the work per packet, and ten
/// rounds are cheaper than fourteen. The hybrid post-quantum key exchange stays on.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
                aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
                aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            ..aws_lc_rs::default_provider()
        })
    });
    PROVIDER.clone()
}

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Fills a buffer from the provider's random generator.
pub(crate) fn fill_random(out: &mut [u8]) -> Result<(), GetRandomFailed> {
    provider().secure_random.fill(out)
}
