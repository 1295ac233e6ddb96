//! `sha256`: the digest of its payload.

use sha2::Digest;

use crate::batch::{Error, Inline, InlineContext, Reply, Spec};

pub(super) struct Sha256;

pub(super) fn spec() -> Spec {
    Spec {
        idempotent: true,
        inline_bytes_max: Some(16 << 10),
        description: "Answers the SHA-256 of its payload: 64 hexadecimal digits, in lower case."
            .into(),
        ..Spec::bytes()
    }
}

impl Inline for Sha256 {
    fn run(&self, _: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(sha2::Sha256::digest(payload)) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        out.extend_from_slice(&hex);
        Ok(())
    }
}
